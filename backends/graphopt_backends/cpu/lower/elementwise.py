"""Pointwise and movement regions: one loop nest per box of each result, innermost in vectors.

Enters: a fused node of kind pointwise or movement. Leaves: a kernel whose adjacent loops are fused
wherever that keeps every access affine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.ir.graph import Node
from graphopt.kernel.ir import (
    Expr,
    For,
    Load,
    Ramp,
    Stmt,
    binary,
    block,
    broadcast,
    const,
    contiguous,
    index_const,
    index_var,
)
from graphopt.kernel.visit import substitute, walk
from graphopt.lower.access import delinearized
from graphopt.lower.loops import Groups, chunks, fuse_axes, in_parallel
from graphopt.lower.pieces import Piece, pieces_of
from graphopt.lower.region import Lowered, Region
from graphopt.target import Target
from graphopt_backends.cpu.lower.turning import turned_by_tiles

_BLOCK = 2
"""Vectors of a block of a transposing copy. Lines that lie a power of two apart share a set of the
cache: with 16 vectors [1024, 768] took 769 us, with 2 it takes 150; where the stride is another
number all blocks are alike."""


def lower(node: Node, target: Target) -> Lowered:
    region = Region(node, target)
    nests: list[Stmt] = []
    for which, result in enumerate(region.body.outputs):
        for piece in pieces_of(result):
            nests.append(_Nest(region, which, piece).build())
    return Lowered(region.kernel("elementwise", block(*map(in_parallel, nests))))


def fill_borders(region: Region, which: int, border: Sequence[Piece]) -> list[Stmt]:
    """Nests that write the fill of a padded result's border."""
    return [_Nest(region, which, piece).build() for piece in border]


class _Nest:
    """The loops over one box."""

    def __init__(self, region: Region, which: int, piece: Piece) -> None:
        self.region, self.which, self.piece = region, which, piece
        self.type = region.body.outputs[which].type

    def build(self) -> Stmt:
        groups = self._groups()
        if not groups:
            return self._store((), ())
        lanes = self.region.target.lanes_f32 if self._contiguous(groups[-1]) else 1
        inner: list[Stmt] = []
        turned: list[Stmt] = []
        extent = self._extent(groups[-1])
        loops = [(f"i{n}", self._extent(g)) for n, g in enumerate(groups[:-1])]
        outer = [self._loop(n, g) for n, g in enumerate(groups[:-1])]
        for start, width, count in chunks(extent, lanes):
            x = self.region.loop("x", count)
            first = binary("+", binary("*", x, index_const(width)), index_const(start))
            position = contiguous(first, width)
            store = self._store(groups, (*outer, position))
            ranges, target = self.region.access.ranges, self.region.target
            tiles = turned_by_tiles(store, loops, ("x", count), ranges, target)
            if tiles:
                turned += map(in_parallel, tiles)
                continue
            inner.append(store if count == 1 else For("x", count, store))
        if turned:
            rest = [in_parallel(self._around(block(*inner), groups))] if inner else []
            return block(*turned, *rest)
        if outer and len(inner) == 1 and isinstance(inner[0], For) and _turns(inner[0]):
            return self._by_blocks(inner[0], groups)
        return self._around(block(*inner), groups)

    def _by_blocks(self, loop: For, groups: Groups) -> Stmt:
        """The outer loops around a block of vectors at a time, so that lines that are read across
        are still near when the next element of each is."""
        size = math.gcd(loop.extent, _BLOCK)
        blocks = loop.extent // size
        xb, xi = self.region.loop("xb", blocks), self.region.loop("xi", size)
        at = binary("+", binary("*", xb, index_const(size)), xi)
        body: Stmt = substitute(loop.body, {"x": at})
        body = For("xi", size, body) if size > 1 else body
        return For("xb", blocks, self._around(body, groups))

    def _around(self, body: Stmt, groups: Groups) -> Stmt:
        for n, group in reversed(list(enumerate(groups[:-1]))):
            body = For(f"i{n}", self._extent(group), body)
        return body

    def _groups(self) -> Groups:
        axes = [a for a in self.type.order if self.piece.extent[a] > 1]
        return fuse_axes(axes, lambda groups: self._store(groups, self._variables(groups)))

    def _variables(self, groups: Groups) -> list[Expr]:
        return [self._loop(n, g) for n, g in enumerate(groups)]

    def _loop(self, n: int, group: tuple[int, ...]) -> Expr:
        self.region.loop(f"i{n}", self._extent(group))
        return index_var(f"i{n}")

    def _extent(self, group: tuple[int, ...]) -> int:
        out = 1
        for axis in group:
            out *= self.piece.extent[axis]
        return out

    def _contiguous(self, group: tuple[int, ...]) -> bool:
        return self.type.strides[group[-1]] == 1

    def _store(self, groups: Groups, positions: Sequence[Expr]) -> Stmt:
        index: list[Expr] = [index_const(0)] * self.type.rank
        for group, at in zip(groups, positions, strict=True):
            extents = [self.piece.extent[a] for a in group]
            for axis, i in zip(group, delinearized(at, extents), strict=True):
                index[axis] = i
        value = self.piece.value
        element = (
            const(self.piece.fill, self.type.dtype)
            if value is None
            else self.region.access.at(value, tuple(index))
        )
        lanes = max((p.lanes for p in positions), default=1)
        target = tuple(
            binary("+", i, index_const(s)) for i, s in zip(index, self.piece.start, strict=True)
        )
        return self.region.store(self.which, target, broadcast(element, lanes))


def _turns(stmt: Stmt) -> bool:
    """Whether vectors are gathered from elements that lie apart."""
    ramps = (
        e for part in walk(stmt) if isinstance(part, Load) for i in part.index for e in walk(i)
    )
    return any(isinstance(e, Ramp) and e.stride != 1 for e in ramps)
