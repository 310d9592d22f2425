"""Register tiles: an accumulator for every point of the loops around it, and sums by blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import count

from graphopt.errors import IRError
from graphopt.kernel.ir import (
    Alloc,
    Block,
    Buffer,
    Expr,
    For,
    If,
    Kernel,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    index_const,
    index_var,
    load,
)
from graphopt.kernel.schedule.common import on_loops, top_down
from graphopt.kernel.visit import map_stmts, replace_buffer, substitute, uses_var

_BLOCKS = "kb"
"""The loop over blocks of a reduction."""


def expand_accumulator(k: Kernel, buffer: str, names: Sequence[str]) -> Kernel:
    """Give an accumulator a dimension per loop, the reduction moved outside them: a register tile.

      for i { for j {                      alloc acc[I, J]
        alloc acc; acc = 0                 for i { for j { acc[i, j] = 0 } }
        for k { acc += f(i, j, k) }   →    for k { for i { for j { acc[i, j] += f(i, j, k) } } }
        out[i, j] = g(acc) } }             for i { for j { out[i, j] = g(acc[i, j]) } }

    `names` are innermost perfectly nested loops, outermost first; those absent in a tail are left
    out there. A reduction may be done on a condition, which stays around it where the loops do not
    change it. Raises: IRError.
    """
    wanted, copies = set(names), count()

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.var not in wanted:
            return s
        loops: list[For] = []
        at: Stmt = s
        while isinstance(at, For) and at.var in wanted:
            loops.append(at)
            at = at.body
        if not isinstance(at, Block):
            return s
        return _expanded(at, buffer, loops, next(copies))

    body = top_down(k.body, visit)
    if not next(copies):
        raise IRError(
            f"expand_accumulator: no accumulator {buffer!r} directly inside {list(names)}"
        )
    return dataclasses.replace(k, body=body)


def _expanded(body: Block, name: str, loops: list[For], copy: int) -> Stmt:
    old = next(
        (s.buffer for s in body.body if isinstance(s, Alloc) and s.buffer.name == name), None
    )
    if old is None:
        raise IRError(f"expand_accumulator: {name!r} is not allocated inside {loops[-1].var!r}")
    own = f"{name}{copy}" if copy else name  # tails may share a scope with the main nest
    wide = Buffer.dense(own, old.dtype, [x.extent for x in loops] + list(old.shape), Scope.REGISTER)
    here = tuple(index_var(x.var) for x in loops)
    rest = block(*(s for s in body.body if not (isinstance(s, Alloc) and s.buffer == old)))
    rest = replace_buffer(rest, old, wide, lambda index: (*here, *index))
    parts = rest.body if isinstance(rest, Block) else (rest,)
    return block(Alloc(wide), *(_inside(p, loops) for p in parts))


def _inside(stmt: Stmt, loops: list[For]) -> Stmt:
    """The loops around one statement, sunk below its reduction loops and what they depend on."""
    if isinstance(stmt, For) and all(x.var != stmt.var for x in loops):
        return dataclasses.replace(stmt, body=_inside(stmt.body, loops))
    if isinstance(stmt, If) and not any(uses_var(stmt.condition, x.var) for x in loops):
        other = None if stmt.otherwise is None else _inside(stmt.otherwise, loops)
        return If(stmt.condition, _inside(stmt.then, loops), other)
    for x in reversed(loops):
        stmt = dataclasses.replace(x, body=stmt)
    return stmt


def block_reduction(k: Kernel, buffer: str, var: str, size: int, *, within: str) -> Kernel:
    """Sum `size` iterations of a reduction at a time, for all of an iteration of `within`; the sums
    wait in scratch for the next block.

      for j {                        for j { alloc sums[I]
        for i {                        for i { sums[i] = 0 }
          alloc acc; acc = 0           for kb in 0..2 { for i {
          for k in 0..20 {     →         alloc acc; acc = sums[i]
            acc += f(i, k) }             for k in 0..8 { acc += f(i, kb * 8 + k) }
          y[i, j] = acc } }              sums[i] = acc } }
                                       for kb in 0..1 { for i { alloc acc; acc = sums[i]
                                         for k in 0..4 { acc += f(i, 16 + k) }; y[i, j] = acc } } }

    What the block reads stays near while the loops between pass over it. Exact in real numbers, and
    here: terms are added in the same order. Loops between are perfectly nested, and a loop `within`
    that has none, or whose reduction is one block, stays. Raises: IRError.
    """
    if size < 1:
        raise IRError(f"block_reduction: blocks of {size} iterations")

    def visit(loop: For) -> Stmt:
        between: list[For] = []
        at = loop.body
        while isinstance(at, For):
            between.append(at)
            at = at.body
        parts = _Parts.of(at, buffer, var)
        if parts is None or parts.reduction.extent <= size:
            return loop
        return dataclasses.replace(loop, body=_by_blocks(parts, between, size))

    return on_loops(k, within, visit)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What is done about one sum: `before` and `after` its `reduction`."""

    own: Alloc
    before: Store
    reduction: For
    after: tuple[Stmt, ...]

    @classmethod
    def of(cls, body: Stmt, buffer: str, var: str) -> _Parts | None:
        match body:
            case Block(body=(Alloc() as own, Store() as before, For() as reduction, *after)):
                if own.buffer.name == buffer and reduction.var == var:
                    return cls(own, before, reduction, tuple(after))
        return None


def _by_blocks(parts: _Parts, between: Sequence[For], size: int) -> Stmt:
    loop, acc = parts.reduction, parts.own.buffer
    sums = Buffer.dense("sums", acc.dtype, [x.extent for x in between], Scope.SCRATCH)
    here = tuple(index_var(x.var) for x in between)
    full = (loop.extent - 1) // size

    def nest(body: Stmt) -> Stmt:
        for x in reversed(between):
            body = dataclasses.replace(x, body=body)
        return body

    def part(extent: int, first: Expr, *after: Stmt) -> Stmt:
        at = {loop.var: binary("+", first, index_var(loop.var))}
        body = For(loop.var, extent, substitute(loop.body, at), loop.kind)
        return nest(block(parts.own, Store(acc, (), load(sums, *here)), body, *after))

    kb = index_var(_BLOCKS)
    keep = Store(sums, here, load(acc))
    start = binary("*", kb, index_const(size))
    rest = binary("*", binary("+", kb, index_const(full)), index_const(size))
    return block(
        Alloc(sums),
        nest(Store(sums, here, parts.before.value)),
        For(_BLOCKS, full, part(size, start, keep)),
        For(_BLOCKS, 1, part(loop.extent - full * size, rest, *parts.after)),
    )
