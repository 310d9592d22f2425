"""Attention of halves on tensor cores: every warp has 16 rows, of which four threads share each.
Scores, sums and the result are f32; the weights become halves again before they meet V."""

from __future__ import annotations

from typing import ClassVar

from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Expr,
    Ramp,
    Stmt,
    Store,
    binary,
    block,
    index_const,
)
from graphopt.lower.region import Region
from graphopt_backends.cuda.fragments import ACROSS, DOWN, PARTS, STEPS, Factor, Tiles, part
from graphopt_backends.cuda.lower.flash import Attention, Tile, padded
from graphopt_backends.cuda.lower.grid import THREAD, ceil_div, unrolled
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.targets import WARP

_SHARING = 4
"""Threads of a warp that have the columns of one row."""
_PAIR = 2
"""Neighbouring columns of a thread."""
_HALVES = 2
"""Rows of a thread: 8 apart."""

TILES = tuple(
    Tile(warps * DOWN, keys, _HALVES, keys // _SHARING, warps * WARP)
    for warps, keys in ((4, 64), (4, 32), (2, 64), (2, 32), (1, 32))
)


def fits(region: GpuRegion) -> bool:
    """Whether queries, keys and values are halves of one kind, and there are enough queries."""
    q, k, v = _factors(region)
    return q in (DType.F16, DType.BF16) and q is k is v and _queries(region) >= DOWN


def _factors(region: GpuRegion) -> list[DType]:
    return [o.type.dtype for o in _root(region)]


def _queries(region: GpuRegion) -> int:
    return int(_root(region)[0].type.dims[2])


class TensorAttention(Attention):
    sharing: ClassVar[int] = _SHARING
    widest: ClassVar[int] = 8

    def columns_of_a_thread(self) -> tuple[int, int]:
        return _PAIR, ceil_div(self.size.width, DOWN) * (DOWN // ACROSS)

    def usual_tile(self) -> Tile:
        """Four warps where there are rows for them; fewer keys where the result fills registers."""
        keys = 64 if self.chunks * PARTS <= 64 else 32
        need = ceil_div(self.size.queries, DOWN)
        warps = 4 if need >= 3 else need
        near = [t for t in TILES if t.rows <= warps * DOWN and t.keys <= keys and self.fits(t)]
        return near[0] if near else TILES[-1]

    def shared(self, tile: Tile) -> tuple[Buffer, Buffer, Buffer, Buffer]:
        half, depth = _factors(self.region)[0], ceil_div(self.size.depth, STEPS) * STEPS
        return (
            padded("q", half, tile.rows, depth),
            padded("k", half, tile.keys, depth),
            padded("v", half, tile.keys, self.chunks * ACROSS),
            padded("p", half, tile.rows, tile.keys),
        )

    def accumulators(self) -> tuple[Buffer, Buffer]:
        across = self.tile.keys // ACROSS
        return (
            self.registers("score", 1, across, PARTS),
            self.registers("out", 1, self.chunks, PARTS),
        )

    def score(self) -> tuple[Expr, ...]:
        j = self.j()
        tile, pair = binary("//", j, index_const(_PAIR)), binary("%", j, index_const(_PAIR))
        at = binary("+", binary("*", self.i(), index_const(_PAIR)), pair)
        return self.thread(), index_const(0), self.access.simplify(tile), self.access.simplify(at)

    def part_of_result(self) -> tuple[Expr, ...]:
        first = binary("*", self.i(), index_const(_PAIR))
        return self.thread(), index_const(0), self.c(), Ramp(INDEX, _PAIR, first, 1)

    def _warp(self) -> Expr:
        """The warp's first row in the tile."""
        warp = binary("//", self.thread(), index_const(WARP))
        return self.access.simplify(binary("*", warp, index_const(DOWN)))

    def row(self) -> Expr:
        own, _ = part(THREAD, binary("*", self.i(), index_const(_PAIR)))
        return self.access.simplify(binary("+", self._warp(), own))

    def key(self) -> Expr:
        j = self.j()
        tile = binary("*", binary("//", j, index_const(_PAIR)), index_const(ACROSS))
        _, own = part(THREAD, binary("%", j, index_const(_PAIR)))
        return self.access.simplify(binary("+", tile, own))

    def column(self) -> Expr:
        _, own = part(THREAD, index_const(0))
        first = binary("+", binary("*", self.c(), index_const(ACROSS)), own)
        return Ramp(INDEX, _PAIR, self.access.simplify(first), 1)

    def multiply_keys(self) -> Stmt:
        zero = self.each_row(unrolled("j", self.tile.width, self._zero()))
        return block(zero, self._multiply(self.scores, self.qs, self.ks, by_k=False))

    def _zero(self) -> Stmt:
        return Store(self.scores, self.score(), self.number(0.0))

    def multiply_values(self) -> Stmt:
        return self._multiply(self.out, self.ps, self.vs, by_k=True)

    def _multiply(self, acc: Buffer, left: Buffer, right: Buffer, *, by_k: bool) -> Stmt:
        """`left` [row][k] times `right` [column][k], or [k][column]."""
        steps = (self.tile.keys if by_k else left.shape[1] - 8) // STEPS
        k = binary("*", self.region.loop("kk", steps), index_const(STEPS))
        b = Factor(right, index_const(0), k, by_k)
        tiles = Tiles(acc, 1, acc.shape[2], Factor(left, self._warp(), k), b)
        return unrolled("kk", steps, tiles.nest(THREAD))


def _root(region: GpuRegion) -> list[Value]:
    """Queries, keys and values as they are in memory."""
    body = Region(region.node, region.target).body
    root = next(n for n in body.nodes if n.op.name == "attention")
    return list(root.operands[:3])
