"""Register tiles: an accumulator for every point of the loops around it, and sums by blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
from graphopt.kernel.visit import replace_buffer, substitute, uses_var

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

    What a block reads stays near while the loops between pass over it. The sums are the same: terms
    are added in the same order. A loop `within` whose reductions are one block stays.
    Raises: IRError where there is another statement inside than loops around such reductions.
    """
    if size < 1:
        raise IRError(f"block_reduction: blocks of {size} iterations")

    def visit(loop: For) -> Stmt:
        sums = _Sums(buffer, var)
        zero = sums.phase(loop.body, lambda part: part.zero())
        if sums.extent <= size:
            return loop
        full = (sums.extent - 1) // size
        every = sums.phase(loop.body, lambda part: part.some(size, full, last=False))
        last = sums.phase(loop.body, lambda part: part.some(size, full, last=True))
        own = (Alloc(p.sums) for p in sums.parts)
        body = block(*own, zero, For(_BLOCKS, full, every), For(_BLOCKS, 1, last))
        return dataclasses.replace(loop, body=body)

    return on_loops(k, within, visit)


@dataclasses.dataclass(frozen=True)
class _Part:
    """What is done about one sum: `before` and `after` its `reduction`; `sums[here]` is where it
    waits."""

    own: Alloc
    before: Store
    reduction: For
    after: tuple[Stmt, ...]
    sums: Buffer
    here: tuple[Expr, ...]

    def zero(self) -> Stmt:
        return Store(self.sums, self.here, self.before.value)

    def some(self, size: int, full: int, *, last: bool) -> Stmt:
        """One of the `full` blocks, or the last one, which may be shorter."""
        loop, acc = self.reduction, self.own.buffer
        kb = index_var(_BLOCKS)
        first = binary("*", binary("+", kb, index_const(full)) if last else kb, index_const(size))
        at = {loop.var: binary("+", first, index_var(loop.var))}
        extent = loop.extent - full * size if last else size
        summed = For(loop.var, extent, substitute(loop.body, at), loop.kind)
        after = self.after if last else (Store(self.sums, self.here, load(acc)),)
        return block(self.own, Store(acc, (), load(self.sums, *self.here)), summed, *after)


class _Sums:
    """The sums of all reductions inside a loop, in the order they stand there."""

    def __init__(self, buffer: str, var: str) -> None:
        self.buffer, self.var = buffer, var
        self.parts: list[_Part] = []

    @property
    def extent(self) -> int:
        """Iterations of each. Raises: IRError where they differ."""
        extents = {p.reduction.extent for p in self.parts}
        if len(extents) != 1:
            raise IRError(f"block_reduction: sums in {self.buffer!r} of {len(extents)} lengths")
        return extents.pop()

    def phase(self, body: Stmt, of: Callable[[_Part], Stmt]) -> Stmt:
        """The loops of `body` around what `of` makes of every sum."""
        self.parts = []
        return self._inside(body, [], of)

    def _inside(self, s: Stmt, loops: list[For], of: Callable[[_Part], Stmt]) -> Stmt:
        match s:
            case For():
                return dataclasses.replace(s, body=self._inside(s.body, [*loops, s], of))
            case Block(body=(Alloc(), Store(), For(), *_)):
                return of(self._part(s, loops))
            case Block():
                return block(*(self._inside(child, loops, of) for child in s.body))
        raise IRError(f"block_reduction: {type(s).__name__} beside the sums of {self.buffer!r}")

    def _part(self, s: Block, loops: Sequence[For]) -> _Part:
        own, before, reduction, *after = s.body
        assert isinstance(own, Alloc)
        assert isinstance(before, Store)
        assert isinstance(reduction, For)
        if own.buffer.name != self.buffer or reduction.var != self.var:
            raise IRError(f"block_reduction: no sum over {self.var!r} in {self.buffer!r}")
        name = f"sums{len(self.parts) or ''}"
        sums = Buffer.dense(name, own.buffer.dtype, [x.extent for x in loops], Scope.SCRATCH)
        here = tuple(index_var(x.var) for x in loops)
        self.parts.append(_Part(own, before, reduction, tuple(after), sums, here))
        return self.parts[-1]
