"""Loop structure: split, fuse, jam, reorder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges
from graphopt.kernel.ir import (
    Alloc,
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
from graphopt.kernel.schedule.common import carried, on_loops, top_down, widest_ranges
from graphopt.kernel.visit import map_stmts, substitute, uses_var, walk


def split(
    k: Kernel, var: str, factor: int, *, names: tuple[str, str], tail: str = "peel"
) -> Kernel:
    """One loop becomes two.

      for i in 0..50 { S(i) }   →   for io in 0..4 { for ii in 0..12 { S(io*12 + ii) } }
                                    for ii in 0..2 { S(48 + ii) }

    `tail`: "peel" makes a second nest of what is left over, its outer loop gone; "exact" refuses
    a factor that does not divide. Raises: IRError.
    """
    if factor < 1:
        raise IRError(f"split: factor {factor} of loop {var!r} is not positive")
    outer, inner = names

    def visit(loop: For) -> Stmt:
        full, left = divmod(loop.extent, factor)
        if left and tail == "exact":
            raise IRError(
                f"split: {factor} does not divide the {loop.extent} iterations of {var!r}",
                hint='use tail="peel"',
            )
        parts: list[Stmt] = []
        if full:
            at = binary("*", index_var(outer), index_const(factor)) if full > 1 else index_const(0)
            body = substitute(loop.body, {var: binary("+", at, index_var(inner))})
            within = LoopKind.SERIAL if loop.kind is LoopKind.PARALLEL else loop.kind
            nest: Stmt = For(inner, factor, body, within if full > 1 else loop.kind)
            parts.append(For(outer, full, nest, loop.kind) if full > 1 else nest)
        if left:
            at = binary("+", index_var(inner), index_const(full * factor))
            parts.append(For(inner, left, substitute(loop.body, {var: at}), loop.kind))
        return block(*parts)

    return on_loops(k, var, visit)


def fuse(k: Kernel, outer: str, inner: str, name: str) -> Kernel:
    """Two perfectly nested loops become one.

      for i in 0..4 { for j in 0..8 { S(i, j) } }   →   for f in 0..32 { S(f // 8, f % 8) }

    Raises: IRError when they are not perfectly nested.
    """

    def visit(loop: For) -> Stmt:
        if not isinstance(loop.body, For) or loop.body.var != inner:
            raise IRError(f"fuse: loop {inner!r} is not directly inside {outer!r}")
        child = loop.body
        f, n = index_var(name), index_const(child.extent)
        values = {outer: binary("//", f, n), inner: binary("%", f, n)}
        return For(name, loop.extent * child.extent, substitute(child.body, values), loop.kind)

    return on_loops(k, outer, visit)


def jam(k: Kernel, var: str) -> Kernel:
    """Neighbouring loops over the same iterations become one.

      for i in 0..50 { S(i) }
      for i in 0..50 { T(i) }   →   for i in 0..50 { S(i)  T(i) }

    Legal where no iteration of the one touches what another iteration of the other writes. Raises:
    IRError where that is not certain.
    """
    ranges = widest_ranges(k)

    def visit(s: Stmt) -> Stmt:
        return block(*_jammed(s.body, var, ranges)) if isinstance(s, Block) else s

    return dataclasses.replace(k, body=map_stmts(k.body, visit))


def _jammed(parts: Sequence[Stmt], var: str, ranges: Ranges) -> list[Stmt]:
    out: list[Stmt] = []
    for s in parts:
        last = out[-1] if out else None
        if not (isinstance(s, For) and isinstance(last, For) and _alike(last, s, var)):
            out.append(s)
            continue
        both = dataclasses.replace(last, body=block(last.body, s.body))
        found = carried(both, ranges)
        if found:
            raise IRError(
                f"jam: iterations of {var!r} may depend on each other through {found[0]!r}",
                hint="leave these loops apart",
            )
        out[-1] = both
    return out


def _alike(a: For, b: For, var: str) -> bool:
    return a.var == b.var == var and (a.extent, a.kind) == (b.extent, b.kind)


def reorder(k: Kernel, names: Sequence[str]) -> Kernel:
    """Bring perfectly nested loops into the given order; loops not named stay outermost.

      for i { for j { S } }   →   for j { for i { S } }

    Legal for any nest whose iterations are independent or only accumulate: stores inside must not
    overwrite each other along a moved loop, nor be read by another iteration. Raises: IRError for
    one that does.
    """
    rank, ranges = {n: r for r, n in enumerate(names)}, widest_ranges(k)

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.var not in rank:
            return s
        return _reordered(s, rank, ranges)

    return dataclasses.replace(k, body=top_down(k.body, visit))


def _reordered(loop: For, rank: dict[str, int], ranges: Ranges) -> Stmt:
    """Move loops over each other and over the blocks of a peeled tail: a loop around a block of
    nests is distributed over them when the nests are independent."""
    loops: list[For] = []
    at: Stmt = loop
    while isinstance(at, For) and at.var in rank:
        loops.append(at)
        at = at.body
    if isinstance(at, Block) and all(isinstance(s, For) and s.var in rank for s in at.body):
        parts = []
        for nest in at.body:
            body: Stmt = nest
            for outer in reversed(loops):
                body = dataclasses.replace(outer, body=body)
            assert isinstance(body, For)
            parts.append(_reordered(body, rank, ranges))
        return block(*parts)
    moved = [x for x in loops if x.extent > 1]
    _check_overwrites(at, [x.var for x in moved])
    if _reads_own_results(at):
        _check_carried(at, moved, ranges)
    for x in sorted(loops, key=lambda x: -rank[x.var]):
        at = dataclasses.replace(x, body=at)
    return at


def _check_overwrites(body: Stmt, names: Sequence[str]) -> None:
    local = {s.buffer for s in walk(body) if isinstance(s, Alloc)}
    for s in walk(body):
        if not isinstance(s, Store) or s.reduce or s.buffer in local:
            continue
        missing = [n for n in names if not any(uses_var(i, n) for i in s.index)]
        if missing:
            raise IRError(
                f"reorder: iterations of {missing[0]!r} overwrite {s.buffer.name}",
                hint="make it a reduction, or leave this loop where it is",
            )


def _reads_own_results(body: Stmt) -> bool:
    local = {s.buffer for s in walk(body) if isinstance(s, Alloc)}
    stored = {s.buffer for s in walk(body) if isinstance(s, Store)} - local
    return any(isinstance(e, Load) and e.buffer in stored for e in walk(body))


def _check_carried(body: Stmt, loops: Sequence[For], ranges: Ranges) -> None:
    for x in loops:
        inside = body
        for other in loops:
            inside = inside if other is x else dataclasses.replace(other, body=inside)
        found = carried(dataclasses.replace(x, body=inside), ranges)
        if found:
            raise IRError(
                f"reorder: iterations of {x.var!r} depend on each other through {found[0]!r}",
                hint="leave this loop where it is",
            )
