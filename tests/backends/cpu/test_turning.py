"""Copies that turn, by tiles of whole vectors and by gathers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import PadAttrs, TransposeAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target

pytestmark = pytest.mark.compiler
V4 = TARGETS["x86-64-v4"]


def turned(*shape: int, dtype: DType = DType.F32, pad: int = 0) -> Graph:
    """The last two axes exchanged, and a border around them."""

    def body(rw: Rewriter, x: Value) -> Value:
        rank = len(shape)
        perm = (*range(rank - 2), rank - 1, rank - 2)
        y = rw.emit("transpose", x, attrs=TransposeAttrs(perm))
        border = (*(0,) * (rank - 2), pad, pad)
        return rw.emit("pad", y, attrs=PadAttrs(border, border, 0.5, "constant")) if pad else y

    return graph_of([TensorType(dtype, shape)], [], body)


def text(graph: Graph, target: Target) -> str:
    fused = Fuse().run(graph, PassContext(target=target))
    (node,) = (n for n in fused.nodes if n.body is not None)
    return str(lower_region(node, target).kernel)


@pytest.fixture(params=["host", "x86-64-v3", "scalar"])
def target(request: pytest.FixtureRequest) -> Target:
    return host() if request.param == "host" else TARGETS[request.param]


@pytest.mark.parametrize("rows", [4, 15, 16, 17, 40])
@pytest.mark.parametrize("columns", [4, 15, 16, 33, 136])
def test_every_element_arrives(rows: int, columns: int, target: Target, tmp_path: Path) -> None:
    x = np.arange(2 * rows * columns, dtype=np.float32).reshape(2, rows, columns)
    check_regions(turned(2, rows, columns), [x], target, tmp_path, tolerance=0)


@pytest.mark.parametrize(
    "dtype", [DType.F64, DType.F16, DType.BF16, DType.I64, DType.I8, DType.BOOL]
)
def test_dtypes(dtype: DType, tmp_path: Path) -> None:
    x = (np.arange(35 * 20) % 120).reshape(35, 20).astype(dtype.numpy)
    check_regions(turned(35, 20, dtype=dtype), [x], host(), tmp_path, tolerance=0)


@pytest.mark.parametrize("parts", [1, 3])
def test_with_a_border_and_threads(parts: int, tmp_path: Path) -> None:
    x = np.arange(3 * 20 * 50, dtype=np.float32).reshape(3, 20, 50)
    check_regions(turned(3, 20, 50, pad=2), [x], host(), tmp_path, tolerance=0, parts=parts)


def test_with_arithmetic_on_the_way(target: Target, tmp_path: Path) -> None:
    """What is read in the result's own order stays as it is."""

    def body(rw: Rewriter, x: Value, y: Value) -> Value:
        return rw.emit("add", rw.emit("transpose", x, attrs=TransposeAttrs((1, 0))), y)

    types = [TensorType(DType.F32, (40, 24)), TensorType(DType.F32, (24, 40))]
    x, y = (
        np.random.default_rng(i).standard_normal(t.dims, np.float32) for i, t in enumerate(types)
    )
    check_regions(graph_of(types, [], body), [x, y], target, tmp_path)


def test_which_way_it_is_done() -> None:
    assert "zip_low" in text(turned(128, 128), V4)
    assert "zip_low" in text(turned(64, 9216), V4)  # reads that share a set of the cache
    assert "zip_low" not in text(turned(9216, 64), V4)  # writes that do
    assert "zip_low" not in text(turned(128, 3), V4)  # no whole vector
    assert "zip_low" not in text(turned(16, 16, dtype=DType.BOOL), V4)
