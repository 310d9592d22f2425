"""Sums for a few channels: vectors run along the reduction, not along the channels.

Three channels fill three of sixteen lanes. Where what a sum reads lies side by side, vectors of it
by vectors of weights fill them all: one sum per lane for each position of a tile and each channel,
added up across the lanes at the end.

  for m { for n {
    alloc part[L]; part[ramp] = 0
    for k { part[ramp] += left[m, ramp(k*L)] * weight[n, ramp(k*L)] }
    out[m, n] = reduce_add(part[ramp]) } }
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.ir.graph import Node
from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
    For,
    Load,
    Ramp,
    Scope,
    Stmt,
    Store,
    block,
    const,
    index_const,
    index_var,
)
from graphopt.lower.products import Product
from graphopt.lower.region import Lowered, Region
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cpu.lower.contraction import (
    Builder,
    borders,
    packings,
)
from graphopt_backends.cpu.lower.tiles import (
    FEWEST_LANES,
    Panel,
    choose_tile,
    cycles,
    most_rows,
    narrow_cycles,
)
from graphopt_backends.cpu.schedule import along_reduction_steps

_MOST_CHANNELS = 8
"""More of them, by one position, leave registers for no second."""


def sums_of(region: Region, root: Node, products: Sequence[Product]) -> Sums | None:
    """The product of a region, where it can be summed so."""
    if len(products) != 1 or not _is_candidate(products[0], region.target):
        return None
    sums = Sums(region, root, products[0])
    return sums if sums.lanes >= FEWEST_LANES and sums.is_contiguous() else None


def _is_candidate(p: Product, target: Target) -> bool:
    """What can be said before there are loops: most products have too many channels."""
    plain = p.weight is not None and p.weight.groups == 1 and p.combine == "+"
    few = p.channels <= min(_MOST_CHANNELS, target.lanes_f32 // 2)
    return plain and few and not p.per_channel and not p.chooses


class Sums(Builder):
    """The nest of a product whose sums are vectors."""

    def __init__(self, region: Region, root: Node, product: Product) -> None:
        super().__init__(region, root, product)
        run = self._extent(self.k_groups[-1]) if self.k_groups else 1
        self.lanes = math.gcd(run, region.target.lanes_f32)
        self.panel = Panel(0, 1, product.channels, 1)

    def is_contiguous(self) -> bool:
        """Whether neighbours along the innermost loop of the reduction lie side by side."""
        reads = self._left_reads()
        ranges = self.region.access.ranges
        return bool(reads) and all(
            len(e.index) == 1 and linear(e.index[0], ranges).coefficient("k") == 1 for e in reads
        )

    def win(self) -> bool:
        """Whether the product is faster so, by count of cycles."""
        shape, target = self.shape(), self.region.target
        usual = cycles(shape, choose_tile(shape, target), target) * self.product.depth
        return narrow_cycles(shape, self.lanes, self.rows(), target) < usual

    def rows(self) -> int:
        """Positions of a tile: those whose sums fit the registers."""
        positions = (1, *self.shape()[0])[-1]
        return max(1, min(most_rows(self.product.channels, self.region.target), positions))

    def space(self) -> Space:
        """The positions of a tile."""
        choices = tuple(range(1, self.rows() + 1))
        return Space((Parameter("rows", choices, choices[-1]),) if len(choices) > 1 else ())

    def lowered(self, point: Point | None = None) -> Lowered:
        """By the tile that fills the registers, or one of a `point` of the space."""
        rows = self.rows()
        if point is not None and "rows" in point:
            rows = point.number("rows")
        body = block(*borders(self.region), self._sums())
        steps = along_reduction_steps(self.region.kernel("contraction", body), rows)
        return Lowered(steps[-1][1], packings([(self, [self.panel])]), tuple(steps))

    def _sums(self) -> Stmt:
        m, k = self._indices("m", self.m_groups), self._indices("k", self.k_groups, self.lanes)
        jb, j, n = self._channel(self.panel)
        part = Buffer.dense("part", self.root.result.type.dtype, (self.lanes,), Scope.REGISTER)
        every = Ramp(INDEX, self.lanes, index_const(0), 1)
        term = self._term(self.panel, m, n, jb, j, k)
        inner: Stmt = For("l", self.lanes, Store(part, (index_var("l"),), term, "+"))
        for i, group in reversed(list(enumerate(self.k_groups))):
            steps = self.lanes if i == len(self.k_groups) - 1 else 1
            inner = For(self._name("k", i, self.k_groups), self._extent(group) // steps, inner)
        first = Store(part, (every,), const(0, part.dtype, self.lanes))
        lanes = Load(part.dtype, self.lanes, part, (every,))
        total = Call(part.dtype, 1, "reduce_add", (lanes,))
        body = block(Alloc(part), first, inner, *self._epilogue(total, m, n))
        return self._at_positions(self.panel, body)
