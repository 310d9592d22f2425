"""Pointwise and movement regions: every thread computes a few vectors of 16 bytes.

The boxes of each result (concat operands, the border of a pad) stand side by side in one grid.
Where neighbours of the result come from far apart, a tile of it is turned in shared memory
(`turned`). Adjacent axes are fused wherever that keeps every access affine; the innermost loop runs
in vectors where the result lies contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir.graph import Node
from graphopt.kernel.affine import simplify_index
from graphopt.kernel.ir import (
    INDEX,
    Expr,
    For,
    Let,
    Stmt,
    Var,
    binary,
    block,
    broadcast,
    const,
    index_const,
    index_var,
)
from graphopt.kernel.schedule.vectors import vectorized
from graphopt.kernel.visit import map_exprs, substitute
from graphopt.lower.access import delinearized
from graphopt.lower.loops import Groups, fuse_axes
from graphopt.lower.pieces import Piece, pieces_of
from graphopt.lower.region import Lowered
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.lower.grid import (
    Part,
    below,
    ceil_div,
    grid,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.lower.turned import Turned, turned_axes
from graphopt_backends.cuda.targets import GpuTarget

_THREADS = (128, 256, 512)
_VECTORS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Tile:
    """`threads` of a block, each with `vectors` vectors in flight."""

    threads: int
    vectors: int

    def at(self, point: Point | None) -> Tile:
        if point is None:
            return self
        return Tile(point.number("threads"), point.number("vectors"))


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    region = GpuRegion(node, target)
    tile = choose_tile(region).at(point)
    parts = [
        _part(region, which, piece, tile)
        for which, result in enumerate(region.body.outputs)
        for piece in pieces_of(result)
    ]
    kernel = region.kernel("elementwise", grid(region, parts))
    return Lowered(kernel, label=f"{tile.threads}x{tile.vectors}")


def _part(region: GpuRegion, which: int, piece: Piece, tile: Tile) -> Part:
    axes = turned_axes(region, which, piece)
    if axes is not None:
        return Turned(region, which, piece, axes).part(tile.threads)
    return Box(region, which, piece).part(tile)


def space(node: Node, target: Target) -> Space:
    tile = choose_tile(GpuRegion(node, target))
    return Space(
        (Parameter("threads", _THREADS, tile.threads), Parameter("vectors", _VECTORS, tile.vectors))
    )


def choose_tile(region: GpuRegion) -> Tile:
    """Four vectors in flight where that still fills the device, one where work is short."""
    work = max(v.type.numel // region.lanes(i) for i, v in enumerate(region.body.outputs))
    target = region.target
    device = target.sms * target.threads if isinstance(target, GpuTarget) else 1
    vectors = next((n for n in (4, 2) if work >= n * device), 1)
    return Tile(256 if work >= device else 128, vectors)


class Box:
    """The threads over one box of a result."""

    def __init__(self, region: GpuRegion, which: int, piece: Piece) -> None:
        self.region, self.which, self.piece = region, which, piece
        self.type = region.body.outputs[which].type
        axes = [a for a in self.type.order if piece.extent[a] > 1]
        self.groups = fuse_axes(axes, lambda g: self._store(g, self._variables(g)))
        self.extents = [math.prod(piece.extent[a] for a in g) for g in self.groups] or [1]
        contiguous = bool(self.groups) and self.type.strides[self.groups[-1][-1]] == 1
        self.lanes = math.gcd(region.lanes(which), self.extents[-1]) if contiguous else 1

    def part(self, tile: Tile) -> Part:
        """Blocks over the box's vectors; neighbouring threads have neighbouring ones."""
        shape = [*self.extents[:-1], self.extents[-1] // self.lanes]
        total = math.prod(shape)
        per_block = tile.threads * tile.vectors
        blocks = ceil_div(total, per_block)

        def body(b: Expr) -> Stmt:
            return threads(self.region, tile.threads, lambda t: vectors(b, t))

        def vectors(b: Expr, t: Expr) -> Stmt:
            u = self.region.loop("u", tile.vectors)
            at = binary("+", binary("*", b, index_const(tile.vectors)), u)
            at = binary("+", binary("*", at, index_const(tile.threads)), t)
            self.region.access.ranges["i"] = total  # where it is used
            store = self._vector(index_var("i"), shape)
            inside = below(index_var("i"), total, blocks * per_block)
            step = block(Let("i", self.region.access.simplify(at)), guarded(inside, store))
            return unrolled("u", tile.vectors, step)

        return Part(blocks, body)

    def _vector(self, i: Expr, shape: Sequence[int]) -> Stmt:
        """One vector. Indices are simplified before they become vectors: what is affine in a
        variable is neighbours in memory."""
        access, variables = self.region.access, self._variables(self.groups)
        *outer, inner = delinearized(i, shape)
        store = self._store(self.groups, variables)
        names = [v.name for v in variables]
        if self.lanes > 1:
            first = access.simplify(binary("*", inner, index_const(self.lanes)))
            inner = binary("+", first, index_var("lane"))
        store = substitute(store, dict(zip(names, [*outer, inner], strict=False)))
        ranges = {**access.ranges, "lane": self.lanes}
        if self.lanes > 1:
            return vectorized(For("lane", self.lanes, store), ranges)
        return map_exprs(store, lambda e: simplify_index(e, ranges) if e.dtype is INDEX else e)

    def _variables(self, groups: Groups) -> list[Var]:
        for n, group in enumerate(groups):
            self.region.loop(f"i{n}", math.prod(self.piece.extent[a] for a in group))
        return [Var(INDEX, 1, f"i{n}") for n in range(len(groups))]

    def _store(self, groups: Groups, positions: Sequence[Expr]) -> Stmt:
        index: list[Expr] = [index_const(0)] * self.type.rank
        for group, at in zip(groups, positions, strict=False):
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
