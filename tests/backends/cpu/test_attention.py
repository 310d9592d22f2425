"""Attention against the reference: causal rows and windows that see fewer keys, more queries than
keys and fewer, heads that share keys, one head that threads share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphopt_backends.cpu.emit import parallel_extent
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, from_memory, graph_of, run_region

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import Alloc
from graphopt.kernel.visit import walk
from graphopt.ops import AttentionAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter

SIZES = [(1, 1), (5, 5), (77, 77), (33, 70), (70, 33), (130, 130), (131, 261)]
"""Queries and keys; V of the last is packed."""


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


CAUSAL = AttentionAttrs(0.3, causal=True)


def attention(
    queries: int, keys: int, heads: int, kv_heads: int, attrs: AttentionAttrs = CAUSAL
) -> tuple[Graph, list[np.ndarray]]:
    shapes = [(2, heads, queries, 20), (2, kv_heads, keys, 20), (2, kv_heads, keys, 36)]

    def body(rw: Rewriter, q: Value, k: Value, v: Value) -> Value:
        return rw.insert("attention", [q, k, v], attrs).result

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


@pytest.mark.compiler
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 9, 50])
@pytest.mark.parametrize(("queries", "keys"), SIZES)
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
def test_windows(
    target: str, queries: int, keys: int, window: int, causal: bool, tmp_path: Path
) -> None:
    """Of queries beyond the last key's window some see nothing."""
    graph, inputs = attention(queries, keys, 2, 1, AttentionAttrs(0.3, causal, window))
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, inputs, row, tmp_path, tolerance=2e-6)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("causal", "window", "hidden"),
    [(True, 0, [200]), (False, 20, [20, 200]), (True, 20, [20, 200])],
)
def test_keys_that_no_query_of_a_block_sees_are_not_read(
    causal: bool, window: int, hidden: list[int], tmp_path: Path
) -> None:
    """They are NaN, which a weight of 0 does not hide."""
    graph, (q, k, v) = attention(256, 256, 1, 1, AttentionAttrs(0.3, causal, window))
    for key in hidden:
        v[:, :, key] = np.nan
    target = TARGETS["x86-64-v3"]
    fused = Fuse().run(graph, PassContext(target=target))
    memory = dict(zip(fused.inputs, (q, k, v), strict=True))
    run_region(fused.nodes[-1], fused, memory, target, tmp_path)
    got = from_memory(memory[fused.outputs[0]], fused.outputs[0].type)
    assert np.isfinite(got[:, :, 85:115]).all()
    assert np.isnan(got[:, :, 200]).all()


FEW = [
    # heads, heads of keys, queries, keys, depth, mask, what a query sees
    (3, 3, 1, 1, 64, (), {}),
    (2, 2, 1, 50, 64, (), {}),
    (2, 2, 3, 33, 32, (), {}),
    (2, 2, 6, 40, 64, (), {"causal": True}),
    (8, 2, 1, 70, 64, (), {}),
    (8, 2, 3, 70, 128, (), {"causal": True}),
    (8, 2, 4, 20, 16, (), {"window": 3}),  # rows are packed
    (8, 1, 2, 20, 64, (), {}),  # one batch of keys: heads by themselves
    (8, 2, 2, 45, 48, (2, 8, 2, 45), {}),
    (4, 2, 1, 45, 20, (1, 1, 1, 45), {}),
    (4, 2, 3, 17, 24, (2, 1, 3, 17), {"causal": True}),
]


@pytest.mark.compiler
@pytest.mark.parametrize("case", FEW, ids=lambda c: "-".join(map(str, c[:5])))
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_few_queries(case: tuple[Any, ...], target: str, tmp_path: Path) -> None:
    """K is read as it lies; heads that share it are rows of one block."""
    heads, kv_heads, queries, keys, depth, mask, seen = case
    batch = 1 if kv_heads == 1 else 2
    shapes = [(batch, heads, queries, depth), (batch, kv_heads, keys, depth),
              (batch, kv_heads, keys, 36)]  # fmt: skip
    inputs = [random(*shape) for shape in shapes]
    if mask:
        inputs.append(random(*mask) > 0.3 if seen else random(*mask))
    graph = graph_of(
        [TensorType.of(x) for x in inputs], [],
        lambda rw, *xs: rw.insert("attention", xs, AttentionAttrs(0.3, **seen)).result,
    )  # fmt: skip
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, inputs, row, tmp_path, tolerance=2e-6, parts=2)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "queries", "packed"),
    [(8, 8, 1, False), (8, 2, 1, False), (8, 8, 50, True)],
)
def test_keys_of_few_queries_are_not_packed(
    heads: int, kv_heads: int, queries: int, packed: bool
) -> None:
    types = [TensorType(DType.F32, (1, h, n, 64))
             for h, n in ((heads, queries), (kv_heads, 300), (kv_heads, 300))]  # fmt: skip
    graph = graph_of(
        types, [], lambda rw, *xs: rw.insert("attention", xs, AttentionAttrs(0.1)).result
    )
    target = TARGETS["x86-64-v3"]
    kernel = lower_region(Fuse().run(graph, PassContext(target=target)).nodes[-1], target).kernel
    buffers = {p.buffer.name for p in walk(kernel.body) if isinstance(p, Alloc)}
    assert ("keys" in buffers) is packed
    assert parallel_extent(kernel) % kv_heads == 0


@pytest.mark.compiler
@pytest.mark.parametrize("queries", [1, 64, 77])
def test_threads_share_the_queries_of_a_head(queries: int, tmp_path: Path) -> None:
    graph, inputs = attention(queries, 50, 1, 1, AttentionAttrs(0.3))
    check_regions(graph, inputs, host(), tmp_path, tolerance=2e-6, parts=3)
