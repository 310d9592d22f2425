"""Attention in plain arithmetic: half a warp shares a row. Halves become f32 on their way to shared
memory."""

from __future__ import annotations

import math
from typing import ClassVar

from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    Ramp,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    broadcast,
    contiguous,
    index_const,
    load,
)
from graphopt_backends.cuda.lower.flash import Attention, Tile, padded
from graphopt_backends.cuda.lower.grid import ceil_div, unrolled

_THREADS = 128
_ACROSS = 16
"""Threads that share a row."""
_DOWN = _THREADS // _ACROSS

TILES = tuple(Tile(h * _DOWN, w * _ACROSS, h, w, _THREADS) for h in (8, 4, 2, 1) for w in (4, 2))


class SimtAttention(Attention):
    sharing: ClassVar[int] = _ACROSS
    widest: ClassVar[int] = 4

    def columns_of_a_thread(self) -> tuple[int, int]:
        width = self.size.width
        lanes = next(n for n in (4, 2, 1) if width % (n * _ACROSS) == 0 or n == 1)
        return lanes, ceil_div(width, lanes * _ACROSS)

    def usual_tile(self) -> Tile:
        """As many rows as there are, and as registers and shared memory hold."""
        most = 8 if self.chunks * self.lanes <= 4 else 4
        need = min(most, ceil_div(self.size.queries, _DOWN))
        heights = [h for h in (8, 4, 2, 1) if h <= most and (h < 2 * need or h == 1)]
        fitting = [t for t in TILES if t.height in heights and self.fits(t)]
        return fitting[0] if fitting else TILES[-1]

    def shared(self, tile: Tile) -> tuple[Buffer, Buffer, Buffer, Buffer]:
        wide, depth = self.chunks * self.lanes * _ACROSS, self.size.depth
        return (
            padded("q", self.dtype, tile.rows, depth),
            padded("k", self.dtype, tile.keys, depth),
            padded("v", self.dtype, tile.keys, wide),
            padded("p", self.dtype, tile.rows, tile.keys),
        )

    def accumulators(self) -> tuple[Buffer, Buffer]:
        tile = self.tile
        return (
            self.registers("score", tile.height, tile.width),
            self.registers("out", tile.height, self.chunks, self.lanes),
        )

    def score(self) -> tuple[Expr, ...]:
        return self.thread(), self.i(), self.j()

    def part_of_result(self) -> tuple[Expr, ...]:
        return self.thread(), self.i(), self.c(), self.lane()

    def row(self) -> Expr:
        """A row of the tile: neighbouring halves of warps have neighbouring ones."""
        down = binary("//", self.thread(), index_const(_ACROSS))
        return self.access.simplify(binary("+", binary("*", self.i(), index_const(_DOWN)), down))

    def key(self) -> Expr:
        """A column of the tile's scores."""
        across = binary("%", self.thread(), index_const(_ACROSS))
        return self.access.simplify(
            binary("+", binary("*", self.j(), index_const(_ACROSS)), across)
        )

    def column(self) -> Expr:
        """A vector of columns of V."""
        across = binary("%", self.thread(), index_const(_ACROSS))
        vector = binary("+", binary("*", self.c(), index_const(_ACROSS)), across)
        first = self.access.simplify(binary("*", vector, index_const(self.lanes)))
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    def multiply_keys(self) -> Stmt:
        """score[i][j] = sum over d of q[row i][d] * k[key j][d]."""
        tile = self.tile
        lanes = math.gcd(4, self.size.depth)
        steps = self.size.depth // lanes
        d, lane = self.region.loop("d", steps), self.region.loop("l", lanes)
        first = self.access.simplify(binary("*", d, index_const(lanes)))
        along: Expr = contiguous(first, lanes)
        whole: Expr = contiguous(index_const(0), lanes)
        x = Buffer.dense("x", self.dtype, (tile.height, lanes), Scope.REGISTER)
        w = Buffer.dense("w", self.dtype, (tile.width, lanes), Scope.REGISTER)
        i, j, t = self.i(), self.j(), self.thread()
        term = binary("*", load(x, i, lane), load(w, j, lane))
        body = block(
            Alloc(x),
            self.each_row(Store(x, (i, whole), load(self.qs, self.row(), along))),
            Alloc(w),
            unrolled("j", tile.width, Store(w, (j, whole), load(self.ks, self.key(), along))),
            self.each_row(unrolled("j", tile.width, unrolled(
                "l", lanes, Store(self.scores, (t, i, j), term, "+")))),
        )  # fmt: skip
        zero = Store(self.scores, (t, i, j), self.number(0.0))
        return block(
            self.each_row(unrolled("j", tile.width, zero)),
            For("d", steps, body) if steps > 1 else body,
        )

    def multiply_values(self) -> Stmt:
        """out[i][c] += weight[row i][key] * v[key][column c], four keys at a time."""
        tile, group = self.tile, 4
        keys, key = self.region.loop("key", tile.keys // group), self.region.loop("l", group)
        first = self.access.simplify(binary("*", keys, index_const(group)))
        i, c, t = self.i(), self.c(), self.thread()
        x = Buffer.dense("x", self.dtype, (tile.height, group), Scope.REGISTER)
        w = Buffer.dense("w", self.dtype, (self.lanes,), Scope.REGISTER)
        row = self.access.simplify(binary("+", first, key))
        term = binary("*", broadcast(load(x, i, key), self.lanes), load(w, self.lane()))
        whole = Ramp(INDEX, group, index_const(0), 1)
        body = block(
            Alloc(x),
            self.each_row(
                Store(x, (i, whole), load(self.ps, self.row(), Ramp(INDEX, group, first, 1)))
            ),
            unrolled("l", group, self.each_column(block(
                Alloc(w),
                Store(w, (self.lane(),), load(self.vs, row, self.column())),
                self.each_row(Store(self.out, (t, i, c, self.lane()), term, "+")),
            ))),
        )  # fmt: skip
        return For("key", tile.keys // group, body)
