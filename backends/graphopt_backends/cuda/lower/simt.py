"""Products in plain arithmetic: every thread has a tile of the result in registers, and reads a
column of one slice and a row of the other for each step of k. Halves become f32 on their way to
shared memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    LoopKind,
    Ramp,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    broadcast,
    const,
    index_const,
    index_var,
    load,
)
from graphopt.lower.products import Product
from graphopt.lower.region import Lowered
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.lower.contraction import Contraction, choose_tile
from graphopt_backends.cuda.lower.grid import THREAD, grid, unrolled
from graphopt_backends.cuda.lower.region import GpuRegion

_VECTOR = 4


@dataclass(frozen=True)
class Tile:
    """`rows` by `columns` of the result for a block, `height` by `width` of them for a thread."""

    rows: int
    columns: int
    height: int
    width: int

    @property
    def threads(self) -> int:
        return (self.rows // self.height) * (self.columns // self.width)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


TILES: tuple[tuple[Tile, float], ...] = (
    (Tile(128, 128, 8, 8), 1.0),
    (Tile(128, 64, 8, 4), 0.9),
    (Tile(64, 64, 4, 4), 0.75),
    (Tile(64, 32, 4, 4), 0.6),
    (Tile(32, 32, 2, 4), 0.45),
)
"""What a block may compute, and how much of the multiplying units' rate it reaches, about: a
thread of h by w reads h + w numbers for h * w products."""


def lower(region: GpuRegion, root: Node, product: Product, point: Point | None = None) -> Lowered:
    contraction = _Simt(region, root, product)
    if point is not None:
        contraction.tile = next(t for t, _ in TILES if str(t) == point["tile"])
    parts = [contraction.part(), *contraction.epilogue.borders()]
    kernel = region.kernel("contraction", grid(region, parts))
    return Lowered(kernel, contraction.packings(), label=str(contraction.tile))


def space(region: GpuRegion, root: Node, product: Product) -> Space:
    tile = _Simt(region, root, product).tile
    return Space((Parameter("tile", tuple(str(t) for t, _ in TILES), str(tile)),))


class _Simt(Contraction):
    depth_of_slice: ClassVar[int] = 8
    widest: ClassVar[int] = _VECTOR
    by_k: ClassVar[bool] = True
    tile: Tile

    def usual_tile(self) -> Tile:
        batch = math.prod(e for _, e in self.batch)
        return choose_tile(TILES, batch, self.rows, self.columns, self.region.target)

    @property
    def slice_dtype(self) -> DType:
        return self.dtype

    def accumulators(self) -> Buffer:
        tile = self.tile
        shape = (tile.threads, tile.height, tile.width // _VECTOR, _VECTOR)
        return Buffer.dense("acc", self.dtype, shape, Scope.REGISTER)

    def initial(self) -> Stmt:
        i, q = self._tile_loops()
        zero = const(0.0, self.dtype, _VECTOR)
        return self._over_tile(Store(self.acc, (index_var(THREAD), i, q, _lanes()), zero))

    def _tile_loops(self) -> tuple[Expr, Expr]:
        q = self.region.loop("q", self.tile.width // _VECTOR)
        return self.region.loop("i", self.tile.height), q

    def _over_tile(self, body: Stmt) -> Stmt:
        inner = unrolled("q", self.tile.width // _VECTOR, body)
        return unrolled("i", self.tile.height, inner)

    def _row(self) -> Expr:
        """A thread's first row in the tile."""
        across = self.tile.columns // self.tile.width
        return self._times(binary("//", index_var(THREAD), index_const(across)), self.tile.height)

    def _column(self, q: Expr) -> Expr:
        """Where a thread's vector of columns begins; neighbours have neighbouring ones."""
        across = self.tile.columns // self.tile.width
        x = binary("*", binary("%", index_var(THREAD), index_const(across)), index_const(_VECTOR))
        return self.region.access.simplify(
            binary("+", binary("*", q, index_const(across * _VECTOR)), x)
        )

    def multiply(self, left: Buffer, right: Buffer) -> Stmt:
        tile, t = self.tile, index_var(THREAD)
        kk = self.region.loop("kk", self.depth_of_slice)
        i, q = self._tile_loops()
        width = min(tile.height, _VECTOR)
        h = self.region.loop("h", tile.height // width)
        x = Buffer.dense("x", self.dtype, (tile.height,), Scope.REGISTER)
        w = Buffer.dense("w", self.dtype, (tile.width // _VECTOR, _VECTOR), Scope.REGISTER)
        part = binary("*", h, index_const(width))
        rows = Ramp(INDEX, width, binary("+", self._row(), part), 1)
        columns = Ramp(INDEX, _VECTOR, self._column(q), 1)
        term = binary("*", broadcast(load(x, i), _VECTOR), load(w, q, _lanes()))
        body = block(
            Alloc(x),
            unrolled("h", tile.height // width,
                     Store(x, (Ramp(INDEX, width, part, 1),), load(left, kk, rows))),
            Alloc(w),
            unrolled("q", tile.width // _VECTOR,
                     Store(w, (q, _lanes()), load(right, kk, columns))),
            self._over_tile(Store(self.acc, (t, i, q, _lanes()), term, "+")),
        )  # fmt: skip
        return For("kk", self.depth_of_slice, body, LoopKind.UNROLL)

    def results(self) -> Stmt:
        """In vectors where columns come in such."""
        i, q = self._tile_loops()
        lanes = _VECTOR if self.columns % _VECTOR == 0 else 1
        single = self.region.loop("l", _VECTOR // lanes)
        row = binary("+", binary("+", self.first_row, self._row()), i)
        column = binary("+", binary("+", self.first_column, self._column(q)), single)
        lane = _lanes() if lanes > 1 else single
        body = self.stored(
            row, column, lanes, lambda: load(self.acc, index_var(THREAD), i, q, lane)
        )
        return self._over_tile(unrolled("l", _VECTOR // lanes, body))


def _lanes() -> Expr:
    return Ramp(INDEX, _VECTOR, index_const(0), 1)
