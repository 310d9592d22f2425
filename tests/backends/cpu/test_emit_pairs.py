"""Threads that share a parallel loop which another one ends in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.emit import emit_kernel, parallel_extent
from graphopt_backends.cpu.targets import host
from programs import Running, program_of

from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    For,
    Kernel,
    LoopKind,
    Scope,
    Store,
    binary,
    block,
    const,
    index_const,
    index_var,
    load,
)

pytestmark = pytest.mark.compiler
F32 = DType.F32


def shared_pairs(blocks: int, parts: int) -> Kernel:
    """out = 2 a + 1: a row is doubled in scratch, then shared two elements a part; a nest of three
    iterations stands beside."""
    n = 2 * parts
    a, out = Buffer.dense("a", F32, (blocks, n)), Buffer.dense("out", F32, (blocks, n))
    edge, row = Buffer.dense("edge", F32, (3,)), Buffer.dense("row", F32, (n,), Scope.SCRATCH)
    b, p, x = index_var("b"), index_var("p"), index_var("x")
    double = Store(row, (x,), binary("*", load(a, b, x), const(2.0, F32)))
    at = binary("+", binary("*", p, index_const(2)), x)
    part = For("x", 2, Store(out, (b, at), binary("+", load(row, at), const(1.0, F32))))
    body = block(Alloc(row), For("x", n, double), For("p", parts, part, LoopKind.PARALLEL))
    fill = For("x", 3, Store(edge, (x,), const(7.0, F32)), LoopKind.PARALLEL)
    nests = block(fill, For("b", blocks, body, LoopKind.PARALLEL))
    return Kernel("go_pairs", (a, edge, out), ("edge", "out"), nests)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_threads_share_pairs_of_iterations(
    tmp_path: Path, blocks: int, parts: int, threads: int
) -> None:
    k = shared_pairs(blocks, parts)
    assert parallel_extent(k) == max(3, blocks * parts)
    x = np.random.default_rng(0).standard_normal((blocks, 2 * parts)).astype(np.float32)
    run = Running(program_of(k), host(), tmp_path, threads=threads)
    for _ in range(20):
        edge, got = run(x)
        np.testing.assert_array_equal(edge, [7, 7, 7])
        np.testing.assert_array_equal(got, x * 2 + 1)


def test_a_thread_prepares_for_the_part_it_gets() -> None:
    text = emit_kernel(shared_pairs(5, 7), host())
    assert "for (int64_t b = begin / 7; b < (end + 6) / 7; b++) {" in text
    assert "const int64_t first = begin > 7 * b ? begin - 7 * b : 0;" in text
    assert "const int64_t last = end - 7 * b < 7 ? end - 7 * b : 7;" in text
    assert "for (int64_t p = first; p < last; p++) {" in text
