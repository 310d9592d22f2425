"""Threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges
from graphopt.kernel.ir import (
    Alloc,
    Binary,
    Block,
    For,
    Kernel,
    Load,
    LoopKind,
    Stmt,
    Store,
    binary,
    block,
    index_const,
    index_var,
)
from graphopt.kernel.schedule.common import carried, on_loops, widest_ranges
from graphopt.kernel.visit import substitute, uses_var, walk

_TOUCHING = (Alloc, Load, Store)


def parallelize(k: Kernel, at_least: int = 1, *, where_proven: bool = False) -> Kernel:
    """Let threads share the outermost loop of every top-level nest with more than one iteration.

      for i { S(i) }   →   parallel i { S(i) }

    A loop of fewer than `at_least` iterations is first fused with the one directly inside it.
    `where_proven`: a loop whose iterations may meet stays serial; one thread runs it.
    Raises: IRError when iterations write the same element, unless `where_proven`.
    """

    ranges = widest_ranges(k)

    def top(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.extent == 1:
            return s
        try:
            _check_disjoint(s, "parallelize")
            _check_carried(s, ranges, "parallelize")
        except IRError:
            if where_proven:
                return s
            raise
        return dataclasses.replace(_fused(s, at_least), kind=LoopKind.PARALLEL)

    nests = _nests(k.body.body if isinstance(k.body, Block) else (k.body,))
    if len(nests) == 1 and not isinstance(nests[0], For):
        return k  # a kernel of one tile: its top-level loops are steps of one computation
    return dataclasses.replace(k, body=block(*map(top, nests)))


def bind(k: Kernel, var: str, kind: LoopKind) -> Kernel:
    """Let the blocks of a grid, or the threads of a block, run the iterations of a loop.

      for i { S(i) }   →   block i { S(i) }

    Raises: IRError for another kind, or when iterations may depend on each other.
    """
    if kind not in (LoopKind.BLOCK, LoopKind.THREAD):
        raise IRError(f"bind: {kind.value} loops are not a GPU's", hint="bind to block or thread")
    ranges = widest_ranges(k)

    def visit(loop: For) -> Stmt:
        _check_disjoint(loop, "bind")
        _check_carried(loop, ranges, "bind")
        return dataclasses.replace(loop, kind=kind)

    return on_loops(k, var, visit)


def _nests(parts: Sequence[Stmt]) -> list[Stmt]:
    """Top-level statements, those from a local buffer's declaration to its last use together (a
    tile left over by `split`) as a loop of one iteration: a scope of its own beside the others."""
    last = {e.buffer: i for i, s in enumerate(parts) for e in walk(s) if isinstance(e, _TOUCHING)}
    out: list[Stmt] = []
    run: list[Stmt] = []
    end = -1
    for i, s in enumerate(parts):
        if isinstance(s, Alloc):
            end = max(end, last[s.buffer])
        if i <= end:
            run.append(s)
        else:
            out.append(s)
        if run and i == end:
            out.append(For("tile", 1, block(*run)))
            run = []
    alone = len(out) == 1 and isinstance(out[0], For) and out[0].var == "tile"
    return [block(*parts)] if alone else out


def _fused(loop: For, at_least: int) -> For:
    """The loop made longer by those directly inside it, where they write disjoint elements."""
    inner = loop.body
    if loop.extent >= at_least or not isinstance(inner, For) or inner.kind is not LoopKind.SERIAL:
        return loop
    try:
        _check_disjoint(inner, "parallelize")
    except IRError:
        return loop
    name = f"{loop.var}_{inner.var}"
    f, n = index_var(name), index_const(inner.extent)
    values = {loop.var: binary("//", f, n), inner.var: binary("%", f, n)}
    if inner.extent == 1:
        values = {loop.var: f, inner.var: index_const(0)}
    fused = For(name, loop.extent * inner.extent, substitute(inner.body, values))
    return _fused(fused, at_least)


def _check_disjoint(loop: For, what: str) -> None:
    local = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
    for s in walk(loop.body):
        if (
            isinstance(s, Store)
            and s.buffer not in local
            and not any(uses_var(i, loop.var) for i in s.index)
        ):
            raise IRError(f"{what}: iterations of {loop.var!r} write the same {s.buffer.name}")


def _check_carried(loop: For, ranges: Ranges, what: str) -> None:
    """The proof, which takes time, where an index is not plain or results are read again."""
    local = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
    stores = [s for s in walk(loop.body) if isinstance(s, Store) and s.buffer not in local]
    stored = {s.buffer for s in stores}
    plain = not any(
        isinstance(e, Binary) and e.op not in ("+", "-", "*")
        for s in stores for i in s.index for e in walk(i)
    )  # fmt: skip
    if plain and not any(isinstance(e, Load) and e.buffer in stored for e in walk(loop.body)):
        return
    found = carried(loop, ranges)
    if found:
        raise IRError(
            f"{what}: iterations of {loop.var!r} may depend on each other through {found[0]!r}"
        )
