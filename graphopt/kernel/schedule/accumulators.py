"""Register tiles: an accumulator for every point of the loops around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import count

from graphopt.errors import IRError
from graphopt.kernel.ir import (
    Alloc,
    Block,
    Buffer,
    For,
    If,
    Kernel,
    Scope,
    Stmt,
    block,
    index_var,
)
from graphopt.kernel.schedule.common import top_down
from graphopt.kernel.visit import replace_buffer, uses_var


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
