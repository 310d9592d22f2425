"""Attention against the reference: causal rows that look at fewer keys, more queries than keys and
fewer, heads that share keys."""

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
from graphopt.kernel.ir import Alloc, For
from graphopt.kernel.visit import walk
from graphopt.ops import AttentionAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter

SIZES = [(1, 1), (5, 5), (77, 77), (33, 70), (70, 33), (130, 130), (131, 261)]
"""Queries and keys; V of the last is packed."""


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def attention(queries: int, keys: int, heads: int, kv_heads: int) -> tuple[Graph, list[np.ndarray]]:
    shapes = [(2, heads, queries, 20), (2, kv_heads, keys, 20), (2, kv_heads, keys, 36)]

    def body(rw: Rewriter, q: Value, k: Value, v: Value) -> Value:
        return rw.insert("attention", [q, k, v], AttentionAttrs(0.3, causal=True)).result

    graph = graph_of([TensorType(DType.F32, s) for s in shapes], [], body)
    return graph, [random(*s) for s in shapes]


@pytest.mark.compiler
@pytest.mark.parametrize(("queries", "keys"), SIZES)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_causal_rows_see_what_came_before(
    queries: int, keys: int, target: str, tmp_path: Path
) -> None:
    graph, inputs = attention(queries, keys, 4, 2)
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, inputs, row, tmp_path, tolerance=2e-6)


@pytest.mark.parametrize(("queries", "keys", "packed"), [(131, 261, True), (20, 261, False),
                                                         (131, 131, False)])  # fmt: skip
def test_values_are_packed_where_they_are_read_often_from_beyond_level_1(
    queries: int, keys: int, packed: bool
) -> None:
    graph, _ = attention(queries, keys, 2, 2)
    target = TARGETS["x86-64-v3"]
    fused = Fuse().run(graph, PassContext(target=target)).nodes[-1]
    kernel = lower_region(fused, target).kernel
    buffers = {p.buffer.name for p in walk(kernel.body) if isinstance(p, Alloc)}
    assert ("values" in buffers) is packed


def test_early_queries_read_few_keys() -> None:
    graph, _ = attention(256, 256, 1, 1)
    target = TARGETS["x86-64-v4"]
    fused = Fuse().run(graph, PassContext(target=target)).nodes[-1]
    kernel = lower_region(fused, target).kernel
    depths = {p.extent for p in walk(kernel.body) if isinstance(p, For) and p.var == "k"}
    assert depths == {20, 64, 128, 192, 256}
