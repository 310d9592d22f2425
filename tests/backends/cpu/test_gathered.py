"""Blocks of rows that choose their weights by data: gathered_matmul."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import Load
from graphopt.kernel.visit import walk
from graphopt.lower.link import bytes_moved
from graphopt.ops import GatherAttrs, GeluAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target

pytestmark = pytest.mark.compiler
K = 19


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


def indices(count: int, dtype: DType = DType.I64) -> TensorType:
    return TensorType(dtype, (count,))


@pytest.fixture(params=["host", "x86-64-v3", "scalar"])
def target(request: pytest.FixtureRequest) -> Target:
    return host() if request.param == "host" else TARGETS[request.param]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 50])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_blocks_by_the_weights_that_their_indices_name(rows: int, n: int, tmp_path: Path) -> None:
    graph = graph_of(
        [f32(6, rows, K), indices(6)], [random(3, K, n)], lambda rw, x, i, w: rw.emit(
            "gathered_matmul", x, w, i)
    )  # fmt: skip
    chosen = np.array([2, 0, 0, 1, 2, 2])
    check_regions(graph, [random(6, rows, K), chosen], host(), tmp_path)


@pytest.mark.parametrize("dtype", [DType.I32, DType.I64])
def test_blocks_of_no_weights_are_0(dtype: DType, target: Target, tmp_path: Path) -> None:
    """And what stands in their rows, nothing finite, does not matter."""
    graph = graph_of(
        [f32(5, 4, K), indices(5, dtype)], [random(3, K, 21)], lambda rw, x, i, w: rw.emit(
            "gathered_matmul", x, w, i)
    )  # fmt: skip
    x = random(5, 4, K)
    chosen = np.array([-1, 1, 3, 2, 2**31 - 1], dtype.numpy)
    x[[0, 2, 4]] = np.nan
    check_regions(graph, [x, chosen], target, tmp_path)


@pytest.mark.parametrize(("blocks", "weights"), [(1, 3), (4, 1), (1, 1)])
def test_one_block_or_one_weight(blocks: int, weights: int, target: Target, tmp_path: Path) -> None:
    graph = graph_of(
        [f32(blocks, 2, K), indices(blocks)], [random(weights, K, 18)],
        lambda rw, x, i, w: rw.emit("gathered_matmul", x, w, i),
    )  # fmt: skip
    for chosen in (weights - 1, weights):
        index = np.full((blocks,), chosen)
        check_regions(graph, [random(blocks, 2, K), index], target, tmp_path, parts=2)


def test_with_an_epilogue(target: Target, tmp_path: Path) -> None:
    def body(rw: Rewriter, x: Value, i: Value, r: Value, w: Value) -> Value:
        y = rw.emit("gelu", rw.emit("gathered_matmul", x, w, i), attrs=GeluAttrs())
        return rw.emit("add", y, r)

    graph = graph_of([f32(4, 3, K), indices(4), f32(4, 3, 37)], [random(5, K, 37)], body)
    data = [random(4, 3, K), np.array([4, 4, -1, 0]), random(4, 3, 37)]
    fused = check_regions(graph, data, target, tmp_path)
    assert sum(n.op.name == "fused" for n in fused.nodes) == 1


def test_weights_computed_at_run_time(target: Target, tmp_path: Path) -> None:
    graph = graph_of(
        [f32(4, 3, K), f32(2, K, 21), indices(4)], [], lambda rw, x, w, i: rw.emit(
            "gathered_matmul", x, w, i)
    )  # fmt: skip
    data = [random(4, 3, K), random(2, K, 21), np.array([1, 0, 2, 1])]
    check_regions(graph, data, target, tmp_path)


def test_weights_are_read_where_they_are_packed(tmp_path: Path) -> None:
    """No copy of them, and each panel of a block is one stream."""
    graph = graph_of(
        [f32(4, 1, K), indices(4)], [random(3, K, 64)], lambda rw, x, i, w: rw.emit(
            "gathered_matmul", x, w, i)
    )  # fmt: skip
    fused = check_regions(graph, [random(4, 1, K), np.array([2, 0, 1, 1])], host(), tmp_path)
    (node,) = (k for k in fused.nodes if k.body is not None)
    lowered = lower_region(node, host())
    (packing,) = lowered.packings.values()
    assert packing.size == 3 * K * 64
    reads = [e for e in walk(lowered.kernel.body) if isinstance(e, Load) and e.lanes > 1]
    assert {e.buffer.numel for e in reads if e.buffer.scope.value == "param"} == {3 * K * 64}


@pytest.mark.parametrize(("blocks", "weights"), [(2, 8), (9, 8)])
def test_bytes_are_those_of_the_weights_that_can_be_chosen(blocks: int, weights: int) -> None:
    graph = graph_of(
        [f32(blocks, 3, K), indices(blocks)], [random(weights, K, 16)],
        lambda rw, x, i, w: rw.emit("gathered_matmul", x, w, i),
    )  # fmt: skip
    (node,) = (n for n in Fuse().run(graph, PassContext()).nodes if n.body is not None)
    chosen = min(blocks, weights) * K * 16 * 4
    assert bytes_moved(node) == chosen + blocks * (3 * K * 4 + 8 + 3 * 16 * 4)


def test_bytes_of_an_embedding_are_those_of_its_rows() -> None:
    graph = graph_of(
        [indices(5)], [random(1000, 16)],
        lambda rw, i, w: rw.emit("gather", w, i, attrs=GatherAttrs(0)),
    )  # fmt: skip
    (node,) = (n for n in Fuse().run(graph, PassContext()).nodes if n.body is not None)
    assert bytes_moved(node) == 5 * (8 + 2 * 16 * 4)
