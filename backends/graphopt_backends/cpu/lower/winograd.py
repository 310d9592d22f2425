"""Winograd convolutions: transform, products and inverse transform of a few tile rows at a time.

The groups of a grouped convolution are convolutions of their own, of neighbouring channels. All
blocks of one group come before the next group's: its weights stay in the level 2 cache.

Tiles that reach past the image read its last row or column again and store only what lies inside.
Those of a dilated convolution lie phase by phase: the pixels of one are `dilation` apart. Along one
axis, so many tiles as make a row of their own: blocks are rows of tiles here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from graphopt.ir.graph import Node
from graphopt.kernel.ir import (
    Alloc,
    Expr,
    For,
    If,
    Let,
    LoopKind,
    Stmt,
    Var,
    binary,
    block,
    broadcast,
    index_const,
    index_var,
)
from graphopt.lower.access import delinearized, linear_index
from graphopt.lower.products import stored_value
from graphopt.lower.region import Lowered, Region
from graphopt.ops.winograd import Matrix, Transform, transformed_weights
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space, with_parameter
from graphopt_backends.cpu.lower.combine import transformed
from graphopt_backends.cpu.lower.contraction import borders
from graphopt_backends.cpu.lower.domain import Domain, Sizes, block_time, choose_domain_tile
from graphopt_backends.cpu.lower.spaces import register_space
from graphopt_backends.cpu.lower.streaming import choose_block_tile
from graphopt_backends.cpu.lower.tiles import Panel, Shape, Tile, choose_even_tile, panels_of

_ROW = range(8, 25)
"""Tiles that may make a row where there is one axis; the number that is least surplus does."""


def lower(
    region: Region, root: Node, operand: int, transform: Transform, point: Point | None = None
) -> Lowered:
    """`operand` is the region's operand that holds the weights, a constant of the model; `point` is
    one of the `space` for this transform."""
    return _Winograd(region, root, operand, transform, point).lowered()


def space(region: Region, root: Node, operand: int, transform: Transform) -> Space:
    """Register tile, prefetch distance, and the tile rows of a block."""
    return _Winograd(region, root, operand, transform).space()


@dataclass(frozen=True)
class Grid:
    """The tiles of all images."""

    images: int
    tile_rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.images * self.tile_rows * self.columns

    @property
    def blocks(self) -> tuple[int, ...]:
        """How many tile rows may make a block: equal parts of an image, or whole images."""
        several = (self.tile_rows * d for d in _divisors(self.images) if d > 1)
        return (*_divisors(self.tile_rows), *several)


def choose_tile_rows(grid: Grid, sizes: Sizes, usual: Tile, target: Target) -> int:
    """The tile rows that make a block: as many as take the least time. `usual` is the register tile
    of many rows."""
    panels = panels_of(sizes.channels, usual, target.lanes_f32)

    def cost(tile_rows: int) -> float:
        rows = tile_rows * grid.columns
        tile = choose_block_tile(rows, sizes.inputs, usual, sizes.channels, target)
        return block_time(sizes, rows, grid.tiles, panels, target, ahead=tile.spread > 0)

    return min(grid.blocks, key=cost)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


class _Winograd:
    def __init__(
        self,
        region: Region,
        root: Node,
        operand: int,
        transform: Transform,
        point: Point | None = None,
    ) -> None:
        self.region, self.root, self.access = region, root, region.access
        self.transform, self.t, m = transform, transform.t, transform.m
        self.x = root.operands[0]
        n, channels, *self.extents = root.result.type.dims
        self.rank, self.dilation = len(self.extents), root.attrs.dilation  # type: ignore[attr-defined]
        groups: int = root.attrs.groups  # type: ignore[attr-defined]
        sizes = Sizes(self.t**self.rank, self.x.type.dims[1] // groups, channels // groups, groups)
        self.tiles = [-(-e // (d * m)) for e, d in zip(self.extents, self.dilation, strict=True)]
        self.grid = self._grid(n)
        self.shape: Shape = ((self.grid.tiles,), sizes.channels, sizes.inputs)
        target = region.target
        usual = choose_even_tile(self.shape, target)
        self.tile_rows = choose_tile_rows(self.grid, sizes, usual, target)
        rows = self.tile_rows * self.grid.columns
        tile = choose_domain_tile(rows, sizes, usual, target)
        if point is not None:
            tile = tile.at(point)
            if "tile_rows" in point:
                self.tile_rows = point.number("tile_rows")
        rows = self.tile_rows * self.grid.columns
        group = self._place(sizes.groups)
        dtype = root.result.type.dtype
        self.domain = Domain(region, operand, sizes, rows, tile, dtype, group)
        self.results = [stored_value(v, root) for v in region.body.outputs]

    def lowered(self) -> Lowered:
        transform = self.transform
        body = block(*borders(self.region), self._blocks())
        key = f"winograd{transform.m}r{len(transform.weight[0])}s{transform.stride}"
        return self.domain.lowered(
            "winograd", key, body, lambda w: transformed_weights(w, transform)
        )

    def space(self) -> Space:
        blocks = Parameter("tile_rows", self.grid.blocks, self.tile_rows)
        tiles = register_space(self.shape, self.region.target, self.domain.tile, packed=True)
        return with_parameter(tiles, blocks)

    # Structure -----------------------------------------------------------------------------------

    def _grid(self, images: int) -> Grid:
        """`tiles` of each phase of each axis, those of a single axis rounded up to whole rows."""
        if self.rank == 2:
            rows, columns = (d * k for d, k in zip(self.dilation, self.tiles, strict=True))
            return Grid(images, rows, columns)
        (tiles,), (phases,) = self.tiles, self.dilation
        columns = min(_ROW, key=lambda c: (-(-tiles // c) * c, -c)) if tiles > _ROW[0] else tiles
        self.tiles = [-(-tiles // columns) * columns]
        return Grid(images, phases * self.tiles[0] // columns, columns)

    def _place(self, groups: int) -> Expr:
        """Which images and which of their tile rows a block is, and of which group: that."""
        grid = self.grid
        self.images = max(1, self.tile_rows // grid.tile_rows)
        self.rows = min(self.tile_rows, grid.tile_rows)
        extents = (groups, grid.images // self.images, grid.tile_rows // self.rows)
        self.blocks = prod(extents)
        place = delinearized(self.region.loop("blk", self.blocks), extents)
        group, image, first = map(self.access.simplify, place)
        self.image = binary("*", image, index_const(self.images))
        self.image = binary("+", self.image, self.region.loop("im", self.images))
        self.first_row = binary("*", first, index_const(self.rows))
        return group

    def _blocks(self) -> Stmt:
        products = self.domain.by_panels(self._transform_output)
        body = block(Alloc(self.domain.v), self._transform_input(), *products)
        return For("blk", self.blocks, body, LoopKind.PARALLEL)

    def _over_tiles(self, body: Stmt) -> Stmt:
        """`body` for every tile (im, tr, tc) of the block."""
        loops = (("tc", self.grid.columns), ("tr", self.rows), ("im", self.images))
        for name, extent in loops:
            body = For(name, extent, body) if extent > 1 else body
        return body

    def _tile(self) -> tuple[tuple[Expr, ...], Expr]:
        """Where the tile is along each axis, and its number in the block."""
        extents = {"im": self.images, "tr": self.rows, "tc": self.grid.columns}
        im, tr, tc = (self.region.loop(name, extent) for name, extent in extents.items())
        number = linear_index((im, tr, tc), tuple(extents.values()))
        row = binary("+", self.first_row, tr)
        if self.rank == 2:
            return (row, tc), number
        return (binary("+", binary("*", row, index_const(self.grid.columns)), tc),), number

    def _at(self, axis: int, tile: Expr, step: int, offset: int) -> Expr:
        """The pixel `offset` into a tile along an axis; tiles of a phase are `step` apart."""
        dilation, tiles = self.dilation[axis], index_const(self.tiles[axis])
        inside = tile if dilation == 1 else binary("%", tile, tiles)
        at = binary("+", binary("*", inside, index_const(step)), index_const(offset))
        if dilation == 1:
            return at
        phase = binary("//", tile, tiles)
        return binary("+", binary("*", at, index_const(dilation)), phase)

    # Input ---------------------------------------------------------------------------------------

    def _transform_input(self) -> Stmt:
        """v[e][tile][c] = (B' d B)[e]."""
        places, tile = self._tile()
        pixels = [
            Let(f"{letter}{p}", self._clamped(axis, place, p))
            for axis, (letter, place) in enumerate(zip(self._letters, places, strict=True))
            for p in range(self.t)
        ]
        vectors = self.domain.input_vectors
        nests = self.domain.over("cv", vectors, lambda c: self._input_tile(tile, c))
        return self._over_tiles(block(*pixels, *nests))

    @property
    def _letters(self) -> str:
        return "yx"[-self.rank :]

    def _clamped(self, axis: int, tile: Expr, offset: int) -> Expr:
        """The pixel `offset` into a tile, the last one of the image where there is none."""
        at = self._at(axis, tile, self.transform.m * self.transform.stride, offset)
        last = index_const(self.x.type.dims[2 + axis] - 1)
        return self.access.simplify(binary("min", at, last))

    def _input_tile(self, tile: Expr, c: Expr) -> Stmt:
        t, matrix = self.t, self.transform.input

        first = binary("*", self.domain.group, index_const(self.domain.sizes.inputs))
        channel = self.access.simplify(binary("+", first, c))

        def pixel(*offsets: int) -> Expr:
            named = zip(self._letters, offsets[-self.rank :], strict=True)
            at = (self.image, channel, *(index_var(f"{letter}{p}") for letter, p in named))
            return broadcast(self.access.at(self.x, at), c.lanes)

        out, w = self._columns(matrix, pixel, c.lanes)
        for i, row in enumerate(w):
            lets, values = transformed(matrix, row, f"r{i}")
            out += lets
            out += [self.domain.put(i * t + j, tile, c, v) for j, v in enumerate(values)]
        return block(*out)

    def _columns(
        self, matrix: Matrix, value: Callable[[int, int], Expr], lanes: int
    ) -> tuple[list[Stmt], list[list[Expr]]]:
        """w = matrix @ d, column by column, where d[i][q] = value(i, q): bindings, and w. Along one
        axis d is a row, and w it."""
        out: list[Stmt] = []
        dtype, t = self.domain.dtype, self.t
        if self.rank == 1:
            out = [Let(f"d{q}", value(0, q)) for q in range(t)]
            return out, [[Var(dtype, lanes, f"d{q}") for q in range(t)]]
        for q in range(t):
            names = [f"d{i}_{q}" for i in range(t)]
            out += [Let(name, value(i, q)) for i, name in enumerate(names)]
            column = [Var(dtype, lanes, name) for name in names]
            lets, values = transformed(matrix, column, f"c{q}")
            out += [*lets, *(Let(f"w{i}_{q}", v) for i, v in enumerate(values))]
        rows = range(len(matrix))
        return out, [[Var(dtype, lanes, f"w{i}_{q}") for q in range(t)] for i in rows]

    # Output --------------------------------------------------------------------------------------

    def _transform_output(self, p: Panel, jb: Expr) -> Stmt:
        """out = epilogue(A' m A), for the pixels of each tile that lie in the image."""
        places, tile = self._tile()
        vectors = self.domain.vectors_of(p)
        nests = self.domain.over("jv", vectors, lambda j: self._output_tile(p, jb, j, places, tile))
        return self._over_tiles(block(*nests))

    def _output_tile(
        self, p: Panel, jb: Expr, j: Expr, places: tuple[Expr, ...], tile: Expr
    ) -> Stmt:
        t, matrix = self.t, self.transform.output
        out, w = self._columns(
            matrix, lambda i, q: self.domain.product(p, i * t + q, tile, j), j.lanes
        )
        n = self.domain.column(p, jb, j)
        for i, row in enumerate(w):
            lets, values = transformed(matrix, row, f"r{i}")
            out += lets
            for jj, value in enumerate(values):
                out.append(self._stored(n, places, value, (i, jj)[-self.rank :]))
        return block(*out)

    def _stored(
        self, n: Expr, places: tuple[Expr, ...], value: Expr, offsets: tuple[int, ...]
    ) -> Stmt:
        """The epilogue and the store of one pixel's channels, if the pixel is one."""
        m = self.transform.m
        pixel = tuple(self._at(a, place, m, o) for a, (place, o) in
                      enumerate(zip(places, offsets, strict=True)))  # fmt: skip
        finished = value
        if len(self.root.operands) > 2:
            finished = binary("+", value, self.access.at(self.root.operands[2], (n,)))
        self.access.keep(self.root.result, lambda _: finished)
        index = (self.image, n, *pixel)
        stores: list[Stmt] = []
        for which, (stored, start) in enumerate(self.results):
            at = tuple(binary("+", i, index_const(b)) for i, b in zip(index, start, strict=True))
            element = broadcast(self.access.at(stored, index), n.lanes)
            stores.append(self.region.store(which, at, element))
        out = block(*stores)
        for axis, (place, o) in enumerate(zip(pixel, offsets, strict=True)):
            furthest = self.dilation[axis] * (m * (self.tiles[axis] - 1) + o + 1) - 1
            if furthest >= self.extents[axis]:
                out = If(binary("<", place, index_const(self.extents[axis])), out)
        return out
