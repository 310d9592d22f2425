"""Selection and sorting: a few of the best by looking for each, more of them by sorting all.

Sorting takes runs that are short enough to compare every element with every other, many at a time:
an element's rank is how many come before it. Then runs are merged in pairs, without branches. Where
only the first k are wanted, no run keeps more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    If,
    Let,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    cast,
    const,
    index_const,
    load,
    select,
)
from graphopt.lower.order import Index, beats, over_earlier, picked, selected
from graphopt.lower.region import Region
from graphopt.lower.serial import at, cell
from graphopt_backends.cpu.lower.serial import rows

_ZERO = index_const(0)
_RUN = 64
"""Elements of a run: an element's rank among as many costs what merging takes for one."""
_STEP = 12
"""Cycles of a step that waits for the one before it: of a selection, of a merge."""
_RANK = 4
"""Comparisons of a rank in a cycle."""


def topk(region: Region, root: Node) -> Stmt:
    """The first k in (value, position) order, nan being the largest value."""
    attrs, (x,) = root.attrs, root.operands
    axis, k = attrs.axis, attrs.k  # type: ignore[attr-defined]
    index, around = rows(region, x, axis)
    extent = x.type.dims[axis]

    def place(i: Expr) -> tuple[Expr, ...]:
        return at(index, axis, i)

    levels = _levels(extent, k) if k else []
    sorting = extent * min(extent, _RUN) / _RANK + _STEP * sum(x.total for x in levels[1:])
    looking = _STEP * k * extent
    if looking <= sorting:
        return around(selected(region, root, place))
    row = _Row(region, root, extent, k, attrs.largest, place)  # type: ignore[attr-defined]
    return around(row.sorted(levels))


@dataclass(frozen=True)
class _Level:
    """Runs side by side: all of `width` elements but the last, `total` together."""

    width: int
    total: int

    @property
    def runs(self) -> int:
        return ceil(self.total / self.width)

    def merged(self, k: int) -> _Level:
        """After pairs of runs have become one, of at most k."""
        pairs, width = ceil(self.runs / 2), min(2 * self.width, k)
        last = self.total - (pairs - 1) * 2 * self.width
        return _Level(width, (pairs - 1) * width + min(width, last))


def _levels(extent: int, k: int) -> list[_Level]:
    """The runs after ranking, and after each merge."""
    whole, left = divmod(extent - 1, _RUN)
    width = min(_RUN, k, extent)
    out = [_Level(width, whole * width + min(width, left + 1))]
    while out[-1].runs > 1:
        out.append(out[-1].merged(k))
    return out


@dataclass(frozen=True)
class _Keys:
    """Elements and where they stood, in some order."""

    value: Buffer
    place: Buffer

    def store(self, i: Expr, value: Expr, place: Expr) -> Stmt:
        return block(Store(self.value, (i,), value), Store(self.place, (i,), place))


@dataclass(frozen=True)
class _Row:
    region: Region
    root: Node
    extent: int
    k: int
    largest: bool
    index: Index

    @property
    def dtype(self) -> DType:
        return self.root.operands[0].type.dtype

    def _element(self, i: Expr) -> Expr:
        return self.region.access.at(self.root.operands[0], self.index(i))

    def sorted(self, levels: Sequence[_Level]) -> Stmt:
        source, other = self._keys("a"), self._keys("b")
        out: list[Stmt] = [*map(Alloc, (source.value, source.place, other.value, other.place))]
        out += self._ranked(source, other, levels[0])
        for before, after in pairwise(levels):
            source, other = other, source
            out.append(self._merged(source, other, before, after))
        p = self.region.loop("p", self.k)
        results = picked(
            self.region, self.root, self.index(p), load(other.value, p), load(other.place, p)
        )
        return block(*out, For("p", self.k, block(*results)))

    def _keys(self, name: str) -> _Keys:
        def buffer(what: str, dtype: DType) -> Buffer:
            return Buffer.dense(f"{what}_{name}", dtype, (self.extent,), Scope.SCRATCH)

        return _Keys(buffer("value", self.dtype), buffer("place", INDEX))

    def _ranked(self, source: _Keys, out: _Keys, level: _Level) -> list[Stmt]:
        """Runs of `_RUN`, each sorted by how many of its elements stand before one."""
        c = self.region.loop("c", self.extent)
        copy = For("c", self.extent, Store(source.value, (c,), self._element(c)))
        full, left = divmod(self.extent, _RUN)
        runs = [self._run(source, out, level, 0, _RUN, full)] if full else []
        return [copy, *runs, *([self._run(source, out, level, full, left, 1)] if left else [])]

    def _run(
        self, source: _Keys, out: _Keys, level: _Level, first: int, size: int, count: int
    ) -> Stmt:
        """`count` runs of `size`, of which the first is number `first`."""
        r, i, j = (self.region.loop(n, e) for n, e in (("r", count), ("i", size), ("j", size)))
        number = binary("+", r, index_const(first))
        start = binary("*", number, index_const(_RUN))
        own = load(source.value, binary("+", start, i))
        each = load(source.value, binary("+", start, j))
        earlier = binary("<", cast(j, DType.I32), cast(i, DType.I32))
        rank = cell("rank", DType.I32)

        def counted(before: Expr) -> Stmt:
            return For("j", size, Store(rank, (), cast(before, DType.I32), "+"))

        kept = min(level.width, size)
        at = binary("max", binary("min", cast(load(rank), INDEX), index_const(kept - 1)), _ZERO)
        at = binary("+", binary("*", number, index_const(level.width)), at)
        keep = out.store(at, own, binary("+", start, i))
        body = block(
            Alloc(rank),
            Store(rank, (), const(0, DType.I32)),
            over_earlier(each, own, earlier, self.largest, counted),
            keep if kept == size else If(binary("<", load(rank), const(kept, DType.I32)), keep),
        )
        nest = For("i", size, body)
        return For("r", count, nest) if count > 1 else nest

    def _merged(self, source: _Keys, out: _Keys, before: _Level, after: _Level) -> Stmt:
        """Runs in pairs. Of equal elements that of the first run comes first."""
        r, t = self.region.loop("r", after.runs), self.region.loop("t", after.width)
        first = binary("*", r, index_const(2 * before.width))
        limit = index_const(before.total)
        middle = binary("min", binary("+", first, index_const(before.width)), limit)
        end = binary("min", binary("+", first, index_const(2 * before.width)), limit)
        left, right = cell("left", INDEX), cell("right", INDEX)

        def at(which: Buffer) -> Expr:
            """What is looked at beyond the end is not taken."""
            return binary("max", binary("min", load(which), index_const(before.total - 1)), _ZERO)

        a, b = load(source.value, at(left)), load(source.value, at(right))
        over = binary(">=", load(right), end)
        ahead = select(beats(b, a, self.largest), over, const(True, DType.BOOL))
        ahead = binary("and", binary("<", load(left), middle), ahead)
        take = Var(DType.BOOL, 1, "take")
        places = load(source.place, at(left)), load(source.place, at(right))
        step = cast(take, INDEX)
        place = binary("+", binary("*", r, index_const(after.width)), t)
        body = block(
            Let("take", ahead),
            out.store(place, select(take, a, b), select(take, *places)),
            Store(left, (), step, "+"),
            Store(right, (), binary("-", index_const(1), step), "+"),
        )
        whole = after.total == after.runs * after.width
        inside = binary("<", place, index_const(after.total))
        nest = block(
            Alloc(left),
            Alloc(right),
            Store(left, (), first),
            Store(right, (), middle),
            For("t", after.width, body if whole else If(inside, body)),
        )
        return For("r", after.runs, nest) if after.runs > 1 else nest
