"""Resizes whose result lies across their input: channels last in, channels first out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.legalize.decompose_resize import DecomposeResize
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.text import print_kernel
from graphopt.ops import ResizeAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter

pytestmark = pytest.mark.compiler
LAST = Layout.ordered((0, 2, 3, 1))


def _graph(shape: tuple[int, ...], size: tuple[int, int], mode: str = "bilinear") -> Graph:
    def body(rw: Rewriter, x: Value) -> Value:
        made = rw.emit("resize", x, attrs=ResizeAttrs(size, mode))
        return rw.emit("add", rw.emit("relu", made), rw.emit("relu", made))

    graph = graph_of([TensorType(DType.F32, shape, LAST)], [], body)
    return DecomposeResize().run(graph, PassContext(target=host()))


@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 16, 3, 5), (6, 16)),
        ((2, 37, 3, 8), (5, 19)),
        ((1, 48, 4, 20), (4, 50)),
        ((1, 5, 3, 8), (6, 40)),
        ((1, 22, 3, 8), (6, 41)),
        ((1, 40, 3, 4), (6, 7)),
    ],
    ids=[
        "whole tiles",
        "rests both ways",
        "several tiles",
        "few channels",
        "narrower tiles",
        "narrow",
    ],
)
def test_values(
    shape: tuple[int, ...], size: tuple[int, int], parts: int, target: str, tmp_path: Path
) -> None:
    row = host() if target == "host" else TARGETS[target]
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    check_regions(_graph(shape, size), [x], row, tmp_path, parts=parts)


@pytest.mark.parametrize("mode", ["nearest", "bicubic"])
def test_other_modes(mode: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 24, 6, 9), dtype=np.float32)
    check_regions(_graph((1, 24, 6, 9), (11, 33), mode), [x], host(), tmp_path)


def _kernel(channels: int) -> str:
    target = TARGETS["x86-64-v3"]
    fused = Fuse().run(_graph((1, channels, 4, 8), (4, 32)), PassContext(target=target))
    (node,) = (n for n in fused.nodes if n.op.name == "fused")
    return print_kernel(lower_region(node, target).kernel)


def test_tiles_are_computed_along_the_channels() -> None:
    """Places are looked up once for a vector, not for each of its elements."""
    assert "zip_low" in _kernel(16)
    assert "zip_low" not in _kernel(4)
