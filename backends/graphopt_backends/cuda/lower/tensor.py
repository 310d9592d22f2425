"""Products of halves on tensor cores: every warp has a tile of the result in registers, and adds
products of 16 by 16 by 8 to it, summed up in f32. Halves stay halves on their way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Expr,
    Ramp,
    Scope,
    Stmt,
    Store,
    binary,
    const,
    contiguous,
    index_const,
    index_var,
    load,
)
from graphopt.lower.products import Product, product_root
from graphopt.lower.region import Lowered, Region
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.fragments import ACROSS, DOWN, PARTS, STEPS, Factor, Tiles, part
from graphopt_backends.cuda.lower.contraction import Contraction, choose_tile
from graphopt_backends.cuda.lower.grid import THREAD, grid, unrolled
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.targets import WARP

_LEAST_ROWS, _LEAST_COLUMNS = 16, 16


@dataclass(frozen=True)
class Tile:
    """`rows` by `columns` of the result for a block, `height` by `width` of them for a warp."""

    rows: int
    columns: int
    height: int
    width: int

    @property
    def threads(self) -> int:
        return (self.rows // self.height) * (self.columns // self.width) * WARP

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


TILES: tuple[tuple[Tile, float], ...] = (
    (Tile(128, 128, 64, 32), 1.0),
    (Tile(128, 64, 32, 32), 0.85),
    (Tile(64, 64, 32, 32), 0.7),
    (Tile(32, 64, 16, 32), 0.5),
    (Tile(32, 32, 16, 16), 0.35),
)
"""What a block may compute, and how much of the tensor cores' rate it reaches, about: a warp of h
by w reads h + w rows of slices for h * w products."""


def fits(region: GpuRegion, product: Product) -> bool:
    """Whether both factors are halves of one kind, and enough of them."""
    assert region.node.body is not None
    root = product_root(Region(region.node, region.target))
    types = {o.type.dtype for o in root.operands[:2]}
    rows = math.prod(e for _, e in product.positions)
    depth = math.prod(e for _, e in product.reduced)
    return (
        types in ({DType.F16}, {DType.BF16})
        and product.right is not None
        and rows >= _LEAST_ROWS
        and product.channels >= _LEAST_COLUMNS
        and depth >= STEPS
    )


def lower(region: GpuRegion, root: Node, product: Product, point: Point | None = None) -> Lowered:
    tensor = _Tensor(region, root, product)
    if point is not None:
        tensor.tile = next(t for t, _ in TILES if str(t) == point["tile"])
    parts = [tensor.part(), *tensor.epilogue.borders()]
    kernel = region.kernel("tensor", grid(region, parts))
    return Lowered(kernel, tensor.packings(), label=f"tensor{tensor.tile}")


def space(region: GpuRegion, root: Node, product: Product) -> Space:
    tile = _Tensor(region, root, product).tile
    return Space((Parameter("tile", tuple(str(t) for t, _ in TILES), str(tile)),))


class _Tensor(Contraction):
    depth_of_slice: ClassVar[int] = 32
    widest: ClassVar[int] = 8
    by_k: ClassVar[bool] = False
    tile: Tile

    def usual_tile(self) -> Tile:
        batch = math.prod(e for _, e in self.batch)
        return choose_tile(TILES, batch, self.rows, self.columns, self.region.target)

    @property
    def slice_dtype(self) -> DType:
        root = product_root(Region(self.region.node, self.region.target))
        return root.operands[0].type.dtype

    def accumulators(self) -> Buffer:
        down, across = self._counts()
        shape = (self.tile.threads, down, across, PARTS)
        return Buffer.dense("acc", self.dtype, shape, Scope.REGISTER)

    def _counts(self) -> tuple[int, int]:
        """Tiles of 16 by 8 of a warp."""
        return self.tile.height // DOWN, self.tile.width // ACROSS

    def _over_tiles(self, body: Stmt) -> Stmt:
        down, across = self._counts()
        return unrolled("i", down, unrolled("j", across, body))

    def _at(self) -> tuple[Expr, Expr]:
        down, across = self._counts()
        return self.region.loop("i", down), self.region.loop("j", across)

    def initial(self) -> Stmt:
        i, j = self._at()
        whole = Ramp(INDEX, PARTS, index_const(0), 1)
        zero = const(0.0, self.dtype, PARTS)
        return self._over_tiles(Store(self.acc, (index_var(THREAD), i, j, whole), zero))

    def _warp(self) -> tuple[Expr, Expr]:
        """Where the warp's tile begins in the block's."""
        across = self.tile.columns // self.tile.width
        self.region.access.ranges[THREAD] = self.tile.threads
        warp = binary("//", index_var(THREAD), index_const(WARP))
        row = binary("*", binary("//", warp, index_const(across)), index_const(self.tile.height))
        column = binary("*", binary("%", warp, index_const(across)), index_const(self.tile.width))
        return self.region.access.simplify(row), self.region.access.simplify(column)

    def multiply(self, left: Buffer, right: Buffer) -> Stmt:
        (row, column), (down, across) = self._warp(), self._counts()
        steps = self.depth_of_slice // STEPS
        k = binary("*", self.region.loop("kk", steps), index_const(STEPS))
        tiles = Tiles(self.acc, down, across, Factor(left, row, k), Factor(right, column, k))
        return unrolled("kk", steps, tiles.nest(THREAD))

    def results(self) -> Stmt:
        """In pairs of columns, where they come in such."""
        i, j = self._at()
        lanes = 2 if self.columns % 2 == 0 else 1
        r = self.region.loop("r", PARTS // lanes)
        first = binary("*", r, index_const(lanes))
        row, column = part(THREAD, first)
        warp_row, warp_column = self._warp()
        row = _sum(self.first_row, warp_row, binary("*", i, index_const(DOWN)), row)
        column = _sum(self.first_column, warp_column, binary("*", j, index_const(ACROSS)), column)
        at = contiguous(first, lanes)
        body = self.stored(
            self.region.access.simplify(row), self.region.access.simplify(column), lanes,
            lambda: load(self.acc, index_var(THREAD), i, j, at),
        )  # fmt: skip
        return self._over_tiles(unrolled("r", PARTS // lanes, body))


def _sum(*parts: Expr) -> Expr:
    total: Expr = index_const(0)
    for p in parts:
        total = binary("+", total, p)
    return total
