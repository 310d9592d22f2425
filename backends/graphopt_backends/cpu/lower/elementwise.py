"""Pointwise and movement regions: one loop nest per box of each result, innermost in vectors.

Enters: a fused node of kind pointwise or movement. Leaves: a kernel whose adjacent loops are fused
wherever that keeps every access affine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

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
    loops,
)
from graphopt.kernel.visit import substitute, walk
from graphopt.lower.access import Index, delinearized
from graphopt.lower.loops import Groups, chunks, fuse_axes, halves, in_parallel
from graphopt.lower.pieces import Piece, pieces_of
from graphopt.lower.region import Lowered, Region
from graphopt.target import Target
from graphopt_backends.cpu.lower.tiles import FEWEST_LANES
from graphopt_backends.cpu.lower.turning import by_tile, turned_by_tiles

_BLOCK = 2
"""Vectors of a block of a transposing copy. Lines that lie a power of two apart share a set of the
cache: with 16 vectors [1024, 768] took 769 us, with 2 it takes 150; where the stride is another
number all blocks are alike."""

Span = tuple[int, int]
"""Start and count."""
_WORD = 4
"""Bytes of the elements that are turned by tiles of whole vectors."""


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
        self.boxes = 0

    def build(self) -> Stmt:
        groups = self._groups()
        if not groups:
            return self._store((), ())
        lanes = self.region.target.lanes_f32 if self._contiguous(groups[-1]) else 1
        across = self._across(groups, lanes)
        return (
            self._along(groups, lanes) if across is None else self._crossed(groups, across, lanes)
        )

    def _along(self, groups: Groups, lanes: int) -> Stmt:
        """Vectors along what lies side by side in the result."""
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

    def _across(self, groups: Groups, lanes: int) -> int | None:
        """The group along which whole vectors are read, where along the last one elements are
        gathered from places that are data."""
        fits = self.type.dtype.size_bytes == _WORD and self.piece.value is not None
        last = len(groups) - 1
        fits = fits and 1 < lanes <= self._extent(groups[last])
        if not fits or not gathers_data(self._vector(groups, last, lanes)):
            return None
        long = (n for n, g in enumerate(groups[:-1]) if self._extent(g) >= lanes)
        return next((n for n in long if reads_vectors(self._vector(groups, n, lanes))), None)

    def _vector(self, groups: Groups, along: int, lanes: int) -> Expr:
        """What is computed of `lanes` neighbours along a group of axes."""
        positions = self._variables(groups)
        positions[along] = contiguous(positions[along], lanes)
        return self._element(groups, positions)

    def _crossed(self, groups: Groups, across: int, lanes: int) -> Stmt:
        """Tiles of whole vectors, computed along `across` and written along the last group, of
        halves of vectors for what is left of `across`; what is left of the last group, and less
        than the narrowest tile, element by element."""
        box = [(0, self._extent(g)) for g in groups]
        length, nests = box[-1][1], list[Stmt]()
        for start, width, count in halves(box[across][1], lanes):
            box[across], done = (start, width * count), 0
            if width >= FEWEST_LANES:
                box[-1], done = (0, length // width * width), length // width * width
                nests.append(self._tiles(groups, across, width, box))
            box[-1] = (done, length - done)
            nests += self._elements(groups, lanes, box)
        return block(*map(in_parallel, nests))

    def _tiles(self, groups: Groups, across: int, width: int, box: Sequence[Span]) -> Stmt:
        """Square tiles that cover a box."""
        tiled = {across, len(groups) - 1}
        names = [f"t{width}_{n}" if n in tiled else f"i{n}" for n in range(len(groups))]
        counts = [count // width if n in tiled else count for n, (_, count) in enumerate(box)]

        def place(column: Expr, row: Expr) -> list[Expr]:
            at = [self.region.loop(v, c) for v, c in zip(names, counts, strict=True)]
            for n, inner in ((across, column), (len(groups) - 1, row)):
                first = binary("+", binary("*", at[n], index_const(width)), index_const(box[n][0]))
                at[n] = binary("+", first, inner)
            return at

        lane = contiguous(index_const(0), width)
        body = by_tile(
            lambda row: self._element(groups, place(lane, row)),
            lambda column, value: self._stored(groups, place(column, lane), value),
            self.type.dtype,
            width,
        )
        order = sorted(range(len(groups)), key=lambda n: n in tiled)
        return loops([(names[n], counts[n]) for n in order if counts[n] > 1], body)

    def _elements(self, groups: Groups, lanes: int, box: Sequence[Span]) -> Iterator[Stmt]:
        """A box, in vectors along the last group."""
        for start, width, count in chunks(box[-1][1], lanes):
            self.boxes += 1
            spans = [*box[:-1], (box[-1][0] + start, count)]
            names = [f"e{self.boxes}_{n}" for n in range(len(groups))]
            at = [self.region.loop(v, c) for v, (_, c) in zip(names, spans, strict=True)]
            at[-1] = contiguous(binary("*", at[-1], index_const(width)), width)
            at = [binary("+", i, index_const(s)) for i, (s, _) in zip(at, spans, strict=True)]
            nest = [(v, c) for v, (_, c) in zip(names, spans, strict=True) if c > 1]
            yield loops(nest, self._store(groups, at))

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
        return self._stored(groups, positions, self._element(groups, positions))

    def _element(self, groups: Groups, positions: Sequence[Expr]) -> Expr:
        """What is computed of the box at a place in it."""
        if self.piece.value is None:
            return const(self.piece.fill, self.type.dtype)
        return self.region.access.at(self.piece.value, self._index(groups, positions))

    def _stored(self, groups: Groups, positions: Sequence[Expr], element: Expr) -> Stmt:
        lanes = max((p.lanes for p in positions), default=1)
        index = self._index(groups, positions)
        target = tuple(
            binary("+", i, index_const(s)) for i, s in zip(index, self.piece.start, strict=True)
        )
        return self.region.store(self.which, target, broadcast(element, lanes))

    def _index(self, groups: Groups, positions: Sequence[Expr]) -> Index:
        index: list[Expr] = [index_const(0)] * self.type.rank
        for group, at in zip(groups, positions, strict=True):
            extents = [self.piece.extent[a] for a in group]
            for axis, i in zip(group, delinearized(at, extents), strict=True):
                index[axis] = i
        return tuple(index)


def _turns(stmt: Stmt) -> bool:
    """Whether vectors are gathered from elements that lie apart."""
    ramps = (
        e for part in walk(stmt) if isinstance(part, Load) for i in part.index for e in walk(i)
    )
    return any(isinstance(e, Ramp) and e.stride != 1 for e in ramps)


def gathers_data(value: Expr) -> bool:
    """Whether a vector's elements are read at places that are data themselves."""
    return any(i.lanes > 1 and not isinstance(i, Ramp) for i in _places(value))


def reads_vectors(value: Expr) -> bool:
    """Whether all that a vector is computed from lies side by side, or is one element."""
    return all(i.lanes == 1 or (isinstance(i, Ramp) and i.stride == 1) for i in _places(value))


def _places(value: Expr) -> Iterator[Expr]:
    """Where each load that a value is computed from reads, those of places included."""
    for part in walk(value):
        if isinstance(part, Load):
            yield from part.index
