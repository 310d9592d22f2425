"""Pointwise and movement regions: one loop nest per box of each result, innermost in vectors.

Enters: a fused node of kind pointwise or movement. Leaves: a kernel whose adjacent loops are fused
wherever that keeps every access affine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    Binary,
    Const,
    Expr,
    For,
    Load,
    Ramp,
    Stmt,
    Store,
    Var,
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
from graphopt_backends.cpu.lower.turning import (
    Loop,
    by_tile,
    interleaved,
    interleaves,
    turned_by_tiles,
)

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


@dataclass(frozen=True)
class _Axis:
    """`extent` places along an axis of the result, `step` apart."""

    axis: int
    extent: int
    step: int = 1

    def parts(self, ends: set[int]) -> list[_Axis]:
        """As one that ends at each of `ends`, where they divide each other."""
        steps = sorted({1, *ends, self.extent})
        if any(b % a for a, b in pairwise(steps)):
            return [self]
        return [_Axis(self.axis, b // a, a) for a, b in reversed(list(pairwise(steps)))]


class _Nest:
    """The loops over one box."""

    def __init__(self, region: Region, which: int, piece: Piece) -> None:
        self.region, self.which, self.piece = region, which, piece
        self.type = region.body.outputs[which].type
        self.axes = [_Axis(a, e) for a in self.type.order if (e := piece.extent[a]) > 1]
        self.axes = self._split()
        self.boxes = 0

    def build(self) -> Stmt:
        groups = self._groups()
        if not groups:
            return self._store((), ())
        lanes = self.region.target.lanes_f32 if self._contiguous(groups[-1]) else 1
        longer = self._longer(groups, lanes)
        if longer is not None:
            return self._interleaved(groups, longer, lanes)
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
        if outer and len(inner) == 1 and isinstance(inner[0], For) and _gathers(inner[0]):
            return self._by_blocks(inner[0], loops)
        return self._around(block(*inner), groups)

    def _longer(self, groups: Groups, lanes: int) -> int | None:
        """The group along which whole vectors are read, where the last one is all that lies side by
        side in the result, too short for a vector, and read from elements that lie apart."""
        last, few = len(groups) - 1, self._extent(groups[-1])
        fits = interleaves(few) and few < lanes and self.type.dtype is not DType.BOOL
        if not fits or self.piece.value is None or _copies(self._vector(groups, last, few)):
            return None
        store = self._store(groups, self._variables(groups))
        assert isinstance(store, Store)
        place = linear(store.index[0], self.region.access.ranges)
        for n, group in enumerate(groups[:-1]):
            packed = self._extent(group) >= FEWEST_LANES and place.coefficient(f"i{n}") == few
            if packed and reads_vectors(self._vector(groups, n, FEWEST_LANES)):
                return n
        return None

    def _interleaved(self, groups: Groups, across: int, lanes: int) -> Stmt:
        """A vector along `across` for each element of the last group, by turns side by side; what
        is left of `across` element by element."""
        box, nests = [(0, self._extent(g)) for g in groups], list[Stmt]()
        for start, width, count in halves(box[across][1], lanes):
            box[across] = start, width * count
            if width >= FEWEST_LANES:
                nests.append(self._turns(groups, across, width, box))
            else:
                nests += self._elements(groups, lanes, box)
        return block(*map(in_parallel, nests))

    def _turns(self, groups: Groups, across: int, width: int, box: Sequence[Span]) -> Stmt:
        """Vectors of `width` lanes that cover a box."""
        names = [f"t{width}_{n}" if n == across else f"i{n}" for n in range(len(groups) - 1)]
        start, extent = box[across]
        counts = [extent // width if n == across else c for n, (_, c) in enumerate(box[:-1])]
        at = [self.region.loop(v, c) for v, c in zip(names, counts, strict=True)]
        first = binary("+", binary("*", at[across], index_const(width)), index_const(start))

        def row(of: int) -> Expr:
            places = [*at, index_const(of)]
            places[across] = contiguous(first, width)
            return broadcast(self._element(groups, places), width)

        def write(part: int, value: Expr) -> Stmt:
            places = [*at, index_const(0)]
            places[across] = first
            one = self._store(groups, places)
            assert isinstance(one, Store)
            place = binary("+", one.index[0], index_const(part * width))
            return Store(
                one.buffer, (contiguous(self.region.access.simplify(place), width),), value
            )

        body = interleaved([row(of) for of in range(box[-1][1])], write)
        return loops([(v, c) for v, c in zip(names, counts, strict=True) if c > 1], body)

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

    def _by_blocks(self, loop: For, outer: Sequence[Loop]) -> Stmt:
        """A block of vectors at a time for all of the outer loops that read the lines it reads, so
        that those are still near when the next element of each is; threads share the longer of the
        loops outside."""
        size = math.gcd(loop.extent, _BLOCK)
        blocks, inside = ("xb", loop.extent // size), ("xi", size)
        xb, xi = self.region.loop(*blocks), self.region.loop(*inside)
        at = binary("+", binary("*", xb, index_const(size)), xi)
        body: Stmt = substitute(loop.body, {"x": at})
        gathers = _gathers(body)

        def stays(name: str) -> bool:
            ranges = self.region.access.ranges
            return all(
                abs(linear(g.base, ranges).coefficient(name)) < abs(g.stride) * g.lanes * size
                for g in gathers
            )

        near = [one for one in outer if stays(one[0])]
        far = [one for one in outer if not stays(one[0])]
        around = [*far, blocks] if far and far[0][1] >= blocks[1] else [blocks, *far]
        return loops([(v, n) for v, n in (*around, *near, inside) if n > 1], body)

    def _around(self, body: Stmt, groups: Groups) -> Stmt:
        for n, group in reversed(list(enumerate(groups[:-1]))):
            body = For(f"i{n}", self._extent(group), body)
        return body

    def _split(self) -> list[_Axis]:
        """The axes as those whose positions are read without divisions: a reshaped transpose reads
        a channel c from c % groups and c // groups."""
        alone = tuple((n,) for n in range(len(self.axes)))
        point = self._store(alone, self._variables(alone))
        return [
            part
            for n, axis in enumerate(self.axes)
            for part in axis.parts(_divisors(point, f"i{n}"))
        ]

    def _groups(self) -> Groups:
        axes = range(len(self.axes))
        return fuse_axes(axes, lambda groups: self._store(groups, self._variables(groups)))

    def _variables(self, groups: Groups) -> list[Expr]:
        return [self._loop(n, g) for n, g in enumerate(groups)]

    def _loop(self, n: int, group: tuple[int, ...]) -> Expr:
        self.region.loop(f"i{n}", self._extent(group))
        return index_var(f"i{n}")

    def _extent(self, group: tuple[int, ...]) -> int:
        return math.prod(self.axes[n].extent for n in group)

    def _contiguous(self, group: tuple[int, ...]) -> bool:
        last = self.axes[group[-1]]
        return last.step * self.type.strides[last.axis] == 1

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
            parts = [self.axes[n] for n in group]
            for part, i in zip(parts, delinearized(at, [p.extent for p in parts]), strict=True):
                apart = binary("*", i, index_const(part.step))
                index[part.axis] = binary("+", index[part.axis], apart)
        return tuple(index)


def _divisors(store: Stmt, name: str) -> set[int]:
    """Where an axis ends whose positions are // and % of a loop variable."""
    out: set[int] = set()
    for e in walk(store):
        of, end = _divided(e, "//", "%")
        of, times = _divided(of, "//")
        if isinstance(of, Var) and of.name == name:
            out.add(end * times)
    return out


def _divided(e: Expr | Stmt, *ops: str) -> tuple[Expr | Stmt, int]:
    """What is divided, by one of some operators, and by how much; by 1 what is not."""
    if isinstance(e, Binary) and e.op in ops and isinstance(e.b, Const):
        return e.a, int(e.b.value)
    return e, 1


def _gathers(stmt: Stmt) -> list[Ramp]:
    """Where vectors are gathered from elements that lie evenly apart."""
    loaded = (i for e in walk(stmt) if isinstance(e, Load) for i in e.index)
    return [i for i in loaded if isinstance(i, Ramp) and i.stride != 1]


def gathers_data(value: Expr) -> bool:
    """Whether a vector's elements are read at places that are data themselves."""
    return any(i.lanes > 1 and not isinstance(i, Ramp) for i in _places(value))


def reads_vectors(value: Expr) -> bool:
    """Whether all that a vector is computed from lies side by side, or is one element."""
    return all(i.lanes == 1 or (isinstance(i, Ramp) and i.stride == 1) for i in _places(value))


def _copies(value: Expr) -> bool:
    """Whether all that a vector is computed from lies side by side, or is one element, but not
    everything."""
    alike = all(i.lanes == 1 for i in _places(value))
    return reads_vectors(value) and not alike


def _places(value: Expr) -> Iterator[Expr]:
    """Where each load that a value is computed from reads, those of places included."""
    for part in walk(value):
        if isinstance(part, Load):
            yield from part.index
