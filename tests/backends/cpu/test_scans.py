"""Running sums and arg-reductions along every axis, as their input lies in memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.text import print_kernel
from graphopt.ops import ArgmaxAttrs, ArgminAttrs, CumsumAttrs
from graphopt.ops.base import Attrs
from graphopt.passbase import PassContext

pytestmark = pytest.mark.compiler


def _graph(op: str, attrs: Attrs, x: TensorType) -> Graph:
    return graph_of([x], [], lambda rw, x: rw.emit(op, x, attrs=attrs))


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 9, 50), (3, 1, 33), (16, 3, 24)])
def test_running_sums(
    shape: tuple[int, ...], axis: int, order: tuple[int, ...], parts: int, tmp_path: Path
) -> None:
    type = TensorType(DType.F32, shape, Layout.ordered(order))
    graph = _graph("cumsum", CumsumAttrs(axis), type)
    check_regions(graph, [_random(*shape)], host(), tmp_path, parts=parts)


@pytest.mark.parametrize("target", ["x86-64-v3", "scalar"])
@pytest.mark.parametrize("axis", [0, 2])
def test_running_sums_on_other_targets(axis: int, target: str, tmp_path: Path) -> None:
    graph = _graph("cumsum", CumsumAttrs(axis), TensorType(DType.F32, (5, 3, 21)))
    check_regions(graph, [_random(5, 3, 21)], TARGETS[target], tmp_path)


@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums_of_integers(axis: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-(2**40), 2**40, (7, 19))
    graph = _graph("cumsum", CumsumAttrs(axis), TensorType.of(x))
    check_regions(graph, [x], host(), tmp_path)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_arg_reductions(axis: int, tmp_path: Path) -> None:
    for op, attrs in (("argmax", ArgmaxAttrs(axis)), ("argmin", ArgminAttrs(axis, True))):
        graph = _graph(op, attrs, TensorType(DType.F32, (4, 5, 6)))
        check_regions(graph, [_random(4, 5, 6)], host(), tmp_path)


def test_slices_are_added_in_the_order_of_memory() -> None:
    """A step adds a slice to the one before it, and threads share the slices in parts."""
    graph = _graph("cumsum", CumsumAttrs(0), TensorType(DType.F32, (256, 64, 32)))
    (node,) = Fuse().run(graph, PassContext(target=TARGETS["x86-64-v3"])).nodes
    text = print_kernel(lower_region(node, TARGETS["x86-64-v3"]).kernel)
    loops = re.findall(r"(\w+) (\w+) in", text)
    nest = [("for", "i1"), ("for", "x")]
    assert loops == [("parallel", "part"), *nest, ("for", "k"), *nest]
