"""Products of a few rows by constant weights: decoding. The weights pass by once, as fast as memory
gives them; a warp sums up a few output columns, each of its lanes every 32nd vector of 16 bytes.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from graphopt.ir.graph import Node
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    Let,
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
from graphopt.lower.access import delinearized
from graphopt.lower.products import Axes, Product
from graphopt.lower.region import Lowered, Packing
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.lower.epilogue import Epilogue
from graphopt_backends.cuda.lower.grid import (
    THREAD,
    Part,
    below,
    both,
    ceil_div,
    grid,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.region import GpuRegion, widen
from graphopt_backends.cuda.targets import WARP

MOST_ROWS = 8
_WARPS = (1, 2, 4, 8)
_COLUMNS = (1, 2, 4)
_ACCUMULATORS = 64
_IN_FLIGHT = 96
"""Elements of both factors that a lane may have on their way; registers hold no more of them."""


@dataclass(frozen=True)
class Tile:
    """`warps` of a block, each of which sums up `columns`."""

    warps: int
    columns: int

    def at(self, point: Point | None) -> Tile:
        return self if point is None else Tile(point.number("warps"), point.number("columns"))


def fits(region: GpuRegion, product: Product) -> bool:
    """Few rows, weights that can be packed by columns, and enough of them."""
    rows = math.prod(e for _, e in product.positions)
    depth = math.prod(e for _, e in product.reduced)
    one = product.weight is not None and product.weight.groups == 1 and not product.chooses
    return rows <= MOST_ROWS and one and depth >= WARP


def lower(region: GpuRegion, root: Node, product: Product, point: Point | None = None) -> Lowered:
    skinny = _Skinny(region, root, product)
    skinny.tile = skinny.tile.at(point)
    parts = [skinny.part(), *skinny.epilogue.borders()]
    kernel = region.kernel("skinny", grid(region, parts))
    return Lowered(kernel, skinny.packings(), label=f"{skinny.tile.warps}x{skinny.tile.columns}")


def space(region: GpuRegion, root: Node, product: Product) -> Space:
    tile = _Skinny(region, root, product).tile
    return Space(
        (Parameter("warps", _WARPS, tile.warps), Parameter("columns", _COLUMNS, tile.columns))
    )


class _Skinny:
    def __init__(self, region: GpuRegion, root: Node, product: Product) -> None:
        self.region, self.root, self.product = region, root, product
        self.epilogue = Epilogue(region, root, product)
        self.dtype = root.result.type.dtype
        assert product.weight is not None
        self.operand = product.weight.operand
        self.rows = math.prod(e for _, e in product.positions)
        self.depth = math.prod(e for _, e in product.reduced)
        weights = region.inputs[self.operand]
        inner = product.reduced[-1][1]
        self.lanes = math.gcd(16 // weights.dtype.size_bytes, inner)
        self.chunks = self.depth // self.lanes
        self.steps = ceil_div(self.chunks, WARP)
        most = max(1, _ACCUMULATORS // (self.rows * self.lanes))
        columns = max(c for c in _COLUMNS if c <= most)
        self.tile = Tile(4, min(columns, 2))

    def part(self) -> Part:
        tile, n = self.tile, self.product.channels
        per_block = tile.warps * tile.columns
        blocks = ceil_div(n, per_block)
        count = tile.warps * WARP
        acc = Buffer.dense(
            "acc", self.dtype, (count, self.rows, tile.columns, self.lanes), Scope.REGISTER
        )
        one = Buffer.dense("part", self.dtype, (count, self.rows, tile.columns), Scope.REGISTER)
        out = Buffer.dense("sum", self.dtype, (count, self.rows, tile.columns), Scope.REGISTER)

        def body(b: Expr) -> Stmt:
            warp = binary("+", binary("*", b, index_const(tile.warps)), self._warp())
            self.first = self.region.access.simplify(binary("*", warp, index_const(tile.columns)))
            return block(
                Alloc(acc),
                threads(self.region, count, lambda t: self._accumulate(acc, t)),
                Alloc(one),
                threads(self.region, count, lambda t: self._each(
                    Store(one, self._at(t), _folded(load(acc, *self._at(t), self._lane()))))),
                Alloc(out),
                threads(self.region, count, lambda t: self._each(
                    Store(out, self._at(t), self._over_warp(one)))),
                threads(self.region, count, lambda t: self._stored(out, t, blocks * per_block)),
            )  # fmt: skip

        return Part(blocks, body)

    # Indices -------------------------------------------------------------------------------------

    def _warp(self) -> Expr:
        self.region.access.ranges[THREAD] = self.tile.warps * WARP
        return binary("//", index_var(THREAD), index_const(WARP))

    def _lane(self) -> Expr:
        return Ramp(INDEX, self.lanes, index_const(0), 1) if self.lanes > 1 else index_const(0)

    def _row(self) -> Expr:
        return self.region.loop("i", self.rows)

    def _column(self) -> Expr:
        return self.region.loop("j", self.tile.columns)

    def _at(self, t: Expr) -> tuple[Expr, Expr, Expr]:
        return t, self._row(), self._column()

    def _each(self, body: Stmt) -> Stmt:
        """For every row and column of the warp."""
        return unrolled("i", self.rows, unrolled("j", self.tile.columns, body))

    def _n(self) -> Expr:
        return self.region.access.simplify(binary("+", self.first, self._column()))

    def _m(self) -> Axes:
        extents = [e for _, e in self.product.positions]
        parts = delinearized(self._row(), extents)
        return {name: i for (name, _), i in zip(self.product.positions, parts, strict=True)}

    # Statements ----------------------------------------------------------------------------------

    def _accumulate(self, acc: Buffer, t: Expr) -> Stmt:
        zero = const(0.0, self.dtype, self.lanes)
        start = self._each(Store(acc, (*self._at(t), self._lane()), zero))
        each = (self.rows + self.tile.columns) * self.lanes
        flight = next(
            n for n in (4, 2, 1) if self.steps % n == 0 and n * each <= max(_IN_FLIGHT, each)
        )
        e, u = self.region.loop("e", self.steps // flight), self.region.loop("u", flight)
        step = binary("+", binary("*", e, index_const(flight)), u)
        lane = binary("%", t, index_const(WARP))
        chunk = binary("+", binary("*", step, index_const(WARP)), lane)
        self.region.access.ranges["c"] = self.chunks  # where it is used
        inside = below(index_var("c"), self.chunks, self.steps * WARP)
        body = block(
            Let("c", self.region.access.simplify(chunk)), guarded(inside, self._products(acc, t))
        )
        body = unrolled("u", flight, body)
        outer = self.steps // flight
        return block(start, For("e", outer, body, LoopKind.SERIAL) if outer > 1 else body)

    def _products(self, acc: Buffer, t: Expr) -> Stmt:
        x = Buffer.dense("x", self.dtype, (self.rows, self.lanes), Scope.REGISTER)
        read = Store(x, (self._row(), self._lane()), self._left())
        weight = Buffer.dense("w", self.dtype, (self.lanes,), Scope.REGISTER)
        term = binary("*", load(x, self._row(), self._lane()), load(weight, self._lane()))
        at = (*self._at(t), self._lane())
        columns = block(
            Alloc(weight),
            Store(weight, (self._lane(),), self._weight()),
            unrolled("i", self.rows, Store(acc, at, term, "+")),
        )
        return block(
            Alloc(x), unrolled("i", self.rows, read), unrolled("j", self.tile.columns, columns)
        )

    def _left(self) -> Expr:
        """The left factor along the lanes of chunk `c`."""
        extents = [e for _, e in self.product.reduced]
        extents[-1] //= self.lanes
        parts = list(delinearized(index_var("c"), extents))
        parts[-1] = self._along(parts[-1])
        k = {name: i for (name, _), i in zip(self.product.reduced, parts, strict=True)}
        return broadcast(self.product.left(self._m(), self._n(), k), self.lanes)

    def _along(self, chunk: Expr) -> Expr:
        first = self.region.access.simplify(binary("*", chunk, index_const(self.lanes)))
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    def _weight(self) -> Expr:
        """Packed by columns: [n][k]; the last column again where there are no more."""
        n = self._n()
        tile = self.tile.warps * self.tile.columns
        if self.product.channels % tile:
            n = binary("min", n, index_const(self.product.channels - 1))
        at = binary("+", binary("*", n, index_const(self.depth)), self._along(index_var("c")))
        return widen(load(self.region.inputs[self.operand], self.region.access.simplify(at)))

    def _over_warp(self, one: Buffer) -> Expr:
        group = binary("*", self._warp(), index_const(WARP))
        at = (Ramp(INDEX, WARP, group, 1), self._row(), self._column())
        return Call(self.dtype, 1, "reduce_add", (load(one, *at),))

    def _stored(self, out: Buffer, t: Expr, most: int) -> Stmt:
        """A warp's first lane writes its columns."""
        first = binary("==", binary("%", t, index_const(WARP)), index_const(0))
        inside = below(self._n(), self.product.channels, most)
        stores = self.epilogue.stores(load(out, *self._at(t)), self._m(), self._n())
        return self._each(guarded(both(first, inside), stores))

    def packings(self) -> dict[int, Packing]:
        weight = self.product.weight
        assert weight is not None

        def pack(array: np.ndarray) -> np.ndarray:
            matrix = weight.matrix(array)
            return np.ascontiguousarray(matrix.reshape(matrix.shape[-2:]).T)

        key = f"columns_{self.root.op.name}_{zlib.crc32(repr(self.root.attrs).encode()):08x}"
        return {self.operand: Packing(key, self.depth * self.product.channels, pack)}


def _folded(e: Expr) -> Expr:
    return e if e.lanes == 1 else Call(e.dtype, 1, "reduce_add", (e,))
