"""Results whose neighbours come from far apart: transposes, changes of layout. A block computes a
tile in the order in which its inputs lie, and writes it in the order in which the result does; in
between it is in shared memory. Both ways, neighbouring threads touch neighbouring elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    Let,
    Load,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    index_const,
    index_var,
    load,
)
from graphopt.kernel.visit import walk
from graphopt.lower.access import delinearized
from graphopt.lower.pieces import Piece
from graphopt_backends.cuda.lower.grid import (
    THREAD,
    Part,
    below,
    both,
    ceil_div,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.region import GpuRegion, narrow, widen

_SIDE = 32
_LEAST = 16
"""Elements of both axes from which on turning a tile pays."""


def turned_axes(region: GpuRegion, which: int, piece: Piece) -> tuple[int, int] | None:
    """(the axis along which the result lies, the one along which its inputs do), where they are two
    and long."""
    type = region.body.outputs[which].type
    axes = [a for a in type.order if piece.extent[a] > 1]
    if piece.value is None or not axes or type.strides[axes[-1]] != 1:
        return None
    index = tuple(region.loop(f"i{a}", e) for a, e in enumerate(piece.extent))
    element = region.access.at(piece.value, index)
    ranges = region.access.ranges
    forms = [
        linear(e.index[0], ranges) for e in walk(element)
        if isinstance(e, Load) and 2 * e.buffer.numel >= type.numel
    ]  # fmt: skip
    *others, last = axes
    for axis in others:
        steps = [(f.coefficient(f"i{axis}"), f.coefficient(f"i{last}")) for f in forms]
        long = min(piece.extent[axis], piece.extent[last]) >= _LEAST
        if steps and long and all(own == 1 and far > 1 for own, far in steps):
            return last, axis
    return None


class Turned:
    """The blocks over one box of a result."""

    def __init__(self, region: GpuRegion, which: int, piece: Piece, axes: tuple[int, int]) -> None:
        self.region, self.which, self.piece = region, which, piece
        self.along, self.across = axes
        dtype = region.outputs[which].dtype
        self.tile = Buffer.dense(f"tile{which}", dtype, (_SIDE, _SIDE + 1), Scope.SHARED)

    def part(self, count: int) -> Part:
        """`count` threads turn each tile."""
        extent = self.piece.extent
        self.outer = [a for a in range(len(extent)) if a not in (self.along, self.across)]
        sides = [ceil_div(extent[a], _SIDE) for a in (self.across, self.along)]
        shape = [*(extent[a] for a in self.outer), *sides]

        def body(b: Expr) -> Stmt:
            *outer, across, along = delinearized(b, shape)
            self.rest = dict(zip(self.outer, outer, strict=True))
            first = (along, across)
            return block(
                Alloc(self.tile),
                self._over_tile(count, first, self._compute, turned=True),
                self._over_tile(count, first, self._write, turned=False),
            )

        return Part(math.prod(shape), body)

    def _over_tile(
        self, count: int, first: tuple[Expr, Expr], body: Callable[[Expr, Expr], Stmt], *,
        turned: bool,
    ) -> Stmt:  # fmt: skip
        """`body(x, y)` for every element of the tile, x along the result and y across it.
        Neighbours are along it, or across it where `turned`."""
        per_pass = count // _SIDE
        u = self.region.loop("u", _SIDE // per_pass)
        self.region.access.ranges[THREAD] = count
        t, simplify = index_var(THREAD), self.region.access.simplify
        slow = binary("+", binary("*", u, index_const(per_pass)),
                      binary("//", t, index_const(_SIDE)))  # fmt: skip
        fast = binary("%", t, index_const(_SIDE))
        own = (slow, fast) if turned else (fast, slow)
        lets: list[Stmt] = []
        inside: Expr | None = None
        for name, i, start, axis in zip("xy", own, first, (self.along, self.across), strict=True):
            extent = self.piece.extent[axis]
            self.region.access.ranges[name] = extent  # where it is used
            at = binary("+", binary("*", start, index_const(_SIDE)), i)
            lets.append(Let(name, simplify(at)))
            most = ceil_div(extent, _SIDE) * _SIDE
            inside = both(inside, below(index_var(name), extent, most))
        step = block(*lets, guarded(inside, body(simplify(own[0]), simplify(own[1]))))
        return threads(self.region, count, lambda t: unrolled("u", _SIDE // per_pass, step))

    def _index(self) -> tuple[Expr, ...]:
        own = {self.along: index_var("x"), self.across: index_var("y")}
        return tuple({**self.rest, **own}[a] for a in range(len(self.piece.extent)))

    def _compute(self, x: Expr, y: Expr) -> Stmt:
        assert self.piece.value is not None
        element = self.region.access.at(self.piece.value, self._index())
        return Store(self.tile, (x, y), narrow(element, self.tile.dtype))

    def _write(self, x: Expr, y: Expr) -> Stmt:
        at = tuple(
            binary("+", i, index_const(s))
            for i, s in zip(self._index(), self.piece.start, strict=True)
        )
        return self.region.store(self.which, at, widen(load(self.tile, x, y)))
