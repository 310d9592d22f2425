"""Winograd convolutions: transform, products and inverse transform of a few tile rows at a time.

A block of tile rows is transformed into per-thread scratch that stays in cache; then, for each
panel of output channels, the t*t products run over it and their results, still in cache, are
transformed back through the epilogue. Tiles that reach past the image read its last row or column
again and store only what lies inside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir.graph import Node
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    If,
    Kernel,
    Let,
    LoopKind,
    Ramp,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    broadcast,
    const,
    index_const,
    load,
)
from graphopt.lower.loops import chunks
from graphopt.lower.products import stored_value
from graphopt.lower.region import Lowered, Packing, Region
from graphopt.ops.winograd import TRANSFORMS, transformed_weights
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space, with_parameter
from graphopt_backends.cpu.lower.combine import transformed
from graphopt_backends.cpu.lower.contraction import borders, pack_panels
from graphopt_backends.cpu.lower.spaces import register_space
from graphopt_backends.cpu.lower.tiles import (
    Panel,
    Shape,
    Tile,
    choose_block_tile,
    choose_tile,
    even_split,
    panels_of,
)

_BYTES_PER_NS = 30.0
_FLOPS_PER_NS_AND_LANE = 12.0
"""What one core reads beyond its level 2 cache, and computes, when both go well."""

_ALONE = 2.0
"""How much worse a single block is: threads share blocks."""


@dataclass(frozen=True)
class Blocking:
    """`rows` tile rows of `columns` tiles are one block; `stride` elements lie between the
    transformed tiles."""

    rows: int
    columns: int
    stride: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns


def lower(region: Region, root: Node, operand: int, m: int, point: Point | None = None) -> Lowered:
    """F(m, 3). `operand` is the region's operand that holds the weights, a constant of the model;
    `point` is one of the `space` for this m."""
    return _Winograd(region, root, operand, m, point).lowered()


def space(region: Region, root: Node, operand: int, m: int) -> Space:
    """Register tile, prefetch distance, and the tile rows of a block."""
    return _Winograd(region, root, operand, m).space()


def choose_blocking(
    t: int, tile_rows: int, columns: int, inputs: int, channels: int, width: int, target: Target
) -> Blocking:
    """The number of tile rows that takes the least time: the products', or that of moving bytes
    beyond the level 2 cache: weights once per block, and transformed tiles where they spill."""
    # A power of two between rows would put all rows of a register tile into one cache set.
    stride = inputs + 16
    panels = -(-channels // width)
    weights = t * t * inputs * channels
    flops = 2.0 * weights * tile_rows * columns

    def bytes_moved(rows: int) -> float:
        v, m = (4.0 * t * t * rows * columns * size for size in (stride, width))
        spilled = 0.0 if v + m <= 0.9 * target.l2_bytes else (1 + panels) * v + 2 * panels * m
        return (tile_rows // rows) * (4.0 * weights + spilled)

    def cost(rows: int) -> tuple[float, float]:
        computing = flops / (_FLOPS_PER_NS_AND_LANE * target.lanes_f32)
        time = max(computing, bytes_moved(rows) / _BYTES_PER_NS)
        return time * (_ALONE if rows == tile_rows else 1.0), bytes_moved(rows)

    return Blocking(min(_divisors(tile_rows), key=cost), columns, stride)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


class _Winograd:
    def __init__(
        self, region: Region, root: Node, operand: int, m: int, point: Point | None = None
    ) -> None:
        self.region, self.root, self.operand, self.access = region, root, operand, region.access
        self.transform = TRANSFORMS[m]
        self.t = self.transform.t
        self.x = root.operands[0]
        self.n, self.channels, self.height, self.width = root.result.type.dims
        self.inputs = self.x.type.dims[1]
        self.weight_size = self.t**2 * self.inputs * self.channels
        region.resize(operand, self.weight_size)
        self.dtype = root.result.type.dtype
        self.lanes = region.target.lanes_f32
        self.tile_rows, columns = -(-self.height // m), -(-self.width // m)
        self.shape: Shape = ((columns * self.tile_rows,), self.channels, self.inputs)
        usual = choose_tile(self.shape, region.target)
        width = max(p.width for p in self._panels_of(usual))
        self.blocking = choose_blocking(self.t, self.tile_rows, columns, self.inputs,
                                        self.channels, width, region.target)  # fmt: skip
        self.tile = choose_block_tile(self.blocking.tiles, usual, self.channels, region.target)
        self.tile = self.tile if point is None else self.tile.at(point)
        self.panels = self._panels_of(self.tile)
        widest = max(p.width for p in self.panels)
        if point is not None and "tile_rows" in point:
            self.blocking = replace(self.blocking, rows=point.number("tile_rows"))
        tiles = self.blocking.tiles
        self.v = self._scratch("v", self.t**2 * tiles * self.blocking.stride)
        self.m = self._scratch("m", self.t**2 * tiles * widest)
        self.results = [stored_value(v, root) for v in region.body.outputs]

    def _panels_of(self, tile: Tile) -> list[Panel]:
        return panels_of(self.channels, tile, self.lanes)

    def _scratch(self, name: str, size: int) -> Buffer:
        return Buffer.dense(name, self.dtype, (size,), Scope.SCRATCH)

    def lowered(self) -> Lowered:
        naive = self.region.kernel("winograd", block(*borders(self.region), self._blocks()))
        steps: list[tuple[str, Kernel]] = [("naive", naive)]
        k = s.expand_accumulator(naive, "acc", ("mi", "jr", "jl"))
        steps.append(("accumulate in registers", k))
        k = s.vectorize(k, "jl")
        steps.append(("vectorize", k))
        for var in ("jr", "mi"):
            k = s.unroll(k, var)
        if self.tile.prefetch and self.inputs > 1:
            weights = self.region.inputs[self.operand].name
            k = s.prefetch(k, weights, "k", self.tile.prefetch)
        k = s.simplify(k)
        steps.append(("unroll", k))
        return Lowered(k, {self.operand: self._packing()}, tuple(steps))

    def space(self) -> Space:
        blocks = Parameter("tile_rows", tuple(_divisors(self.tile_rows)), self.blocking.rows)
        tiles = register_space(self.shape, self.region.target, self.tile, packed=True)
        return with_parameter(tiles, blocks)

    def _packing(self) -> Packing:
        m, panels = self.transform.m, self.panels

        def pack(array: np.ndarray) -> np.ndarray:
            """[o, c, 3, 3] to panels of [t*t, c, width]."""
            u = transformed_weights(array, m)
            return pack_panels(u.reshape(1, -1, u.shape[-1]), panels)

        widths = "-".join(f"{p.width}x{p.count}" for p in panels)
        return Packing(f"winograd{m}_{widths}", self.weight_size, pack)

    # Structure -----------------------------------------------------------------------------------

    def _blocks(self) -> Stmt:
        per_image = self.tile_rows // self.blocking.rows
        blk = self.region.loop("blk", self.n * per_image)
        self.image = binary("//", blk, index_const(per_image))
        first = binary("%", blk, index_const(per_image))
        self.first_row = binary("*", first, index_const(self.blocking.rows))
        body = block(Alloc(self.v), self._transform_input(), Alloc(self.m), *self._panels())
        return For("blk", self.n * per_image, body, LoopKind.PARALLEL)

    def _panels(self) -> list[Stmt]:
        out: list[Stmt] = []
        for p in self.panels:
            jb = self.region.loop("jb", p.count)
            body = block(*self._products(p, jb), self._transform_output(p, jb))
            out.append(For("jb", p.count, body) if p.count > 1 else body)
        return out

    def _over_tiles(self, body: Stmt) -> Stmt:
        """`body` for every tile (tr, tc) of the block."""
        for name, extent in (("tc", self.blocking.columns), ("tr", self.blocking.rows)):
            body = For(name, extent, body) if extent > 1 else body
        return body

    def _tile(self) -> tuple[Expr, Expr, Expr]:
        """Row and column of the tile in the image, and its number in the block."""
        tr = self.region.loop("tr", self.blocking.rows)
        tc = self.region.loop("tc", self.blocking.columns)
        number = binary("+", binary("*", tr, index_const(self.blocking.columns)), tc)
        return binary("+", self.first_row, tr), tc, number

    # Input ---------------------------------------------------------------------------------------

    def _transform_input(self) -> Stmt:
        """v[e][tile][c] = (B' d B)[e]."""
        row, column, tile = self._tile()
        nests: list[Stmt] = []
        for start, width, count in chunks(self.inputs, self.lanes):
            c = self._vector("cv", start, width, count)
            stmt = self._input_tile(tile, c)
            nests.append(For("cv", count, stmt) if count > 1 else stmt)
        height, width = self.x.type.dims[2:]
        m = self.transform.m
        pixels = [
            *(Let(f"y{p}", self._clamped(row, m, p, height)) for p in range(self.t)),
            *(Let(f"x{q}", self._clamped(column, m, q, width)) for q in range(self.t)),
        ]
        return self._over_tiles(block(*pixels, *nests))

    def _clamped(self, tile: Expr, m: int, offset: int, extent: int) -> Expr:
        """The pixel `offset` into a tile, the last one of the image where there is none."""
        at = binary("+", binary("*", tile, index_const(m)), index_const(offset))
        return self.access.simplify(binary("min", at, index_const(extent - 1)))

    def _input_tile(self, tile: Expr, c: Expr) -> Stmt:
        t, dtype, lanes = self.t, self.dtype, c.lanes
        pixels: list[Stmt] = []
        for p in range(t):
            for q in range(t):
                at = (self.image, c, Var(INDEX, 1, f"y{p}"), Var(INDEX, 1, f"x{q}"))
                pixels.append(Let(f"d{p}_{q}", broadcast(self.access.at(self.x, at), lanes)))

        def d(p: int, q: int) -> Expr:
            return Var(dtype, lanes, f"d{p}_{q}")

        matrix = self.transform.input
        out = pixels
        for q in range(t):
            lets, column_values = transformed(matrix, [d(p, q) for p in range(t)], f"c{q}")
            out += lets
            out += [Let(f"w{i}_{q}", v) for i, v in enumerate(column_values)]
        for i in range(t):
            row_in = [Var(dtype, lanes, f"w{i}_{q}") for q in range(t)]
            lets, values = transformed(matrix, row_in, f"r{i}")
            out += lets
            out += [Store(self.v, (self._v_at(i * t + j, tile, c),), v)
                    for j, v in enumerate(values)]  # fmt: skip
        return block(*out)

    def _v_at(self, e: int, tile: Expr, c: Expr) -> Expr:
        stride = self.blocking.stride
        row = binary("+", index_const(e * self.blocking.tiles), tile)
        return self.access.simplify(binary("+", binary("*", row, index_const(stride)), c))

    # Products ------------------------------------------------------------------------------------

    def _products(self, p: Panel, jb: Expr) -> list[Stmt]:
        """m[e][tile][j] = sum over c of v[e][tile][c] * u[e][c][j]."""
        out: list[Stmt] = []
        start = 0
        e = self.region.loop("e", self.t**2)
        for rows, count in even_split(self.blocking.tiles, self.tile.rows):
            mo, mi = self.region.loop("mo", count), self.region.loop("mi", rows)
            first = binary("+", binary("*", mo, index_const(rows)), index_const(start))
            nest = self._product(p, jb, e, binary("+", first, mi))
            for name, extent in (("jl", p.lanes), ("jr", p.width // p.lanes), ("mi", rows)):
                nest = For(name, extent, nest)
            out.append(For("mo", count, nest) if count > 1 else nest)
            start += rows * count
        return [For("e", self.t**2, block(*out))]

    def _product(self, p: Panel, jb: Expr, e: Expr, tile: Expr) -> Stmt:
        jr = self.region.loop("jr", p.width // p.lanes)
        j = binary("+", binary("*", jr, index_const(p.lanes)), self.region.loop("jl", p.lanes))
        k = self.region.loop("k", self.inputs)
        acc = Buffer.dense("acc", self.dtype, (), Scope.REGISTER)
        position = binary("+", binary("*", e, index_const(self.blocking.tiles)), tile)
        row = binary("*", position, index_const(self.blocking.stride))
        left = load(self.v, self.access.simplify(binary("+", row, k)))
        term = binary("*", left, self._weight(p, jb, e, k, j))
        at = binary("+", binary("*", position, index_const(p.width)), j)
        return block(
            Alloc(acc),
            Store(acc, (), const(0.0, self.dtype)),
            For("k", self.inputs, Store(acc, (), term, reduce="+")),
            Store(self.m, (self.access.simplify(at),), load(acc)),
        )

    def _weight(self, p: Panel, jb: Expr, e: Expr, k: Expr, j: Expr) -> Expr:
        """Packed [panel][e][c][width], one group of panels after the other."""
        depth = self.t**2 * self.inputs
        row = binary("+", binary("*", e, index_const(self.inputs)), k)
        row = binary("+", binary("*", jb, index_const(depth)), row)
        at = binary("+", binary("*", row, index_const(p.width)), j)
        at = binary("+", at, index_const(p.start * depth))
        return load(self.region.inputs[self.operand], self.access.simplify(at))

    # Output --------------------------------------------------------------------------------------

    def _transform_output(self, p: Panel, jb: Expr) -> Stmt:
        """out = epilogue(A' m A), for the pixels of each tile that lie in the image."""
        row, column, tile = self._tile()
        nests: list[Stmt] = []
        for start, width, count in chunks(p.width, self.lanes):
            j = self._vector("jv", start, width, count)
            stmt = self._output_tile(p, jb, j, row, column, tile)
            nests.append(For("jv", count, stmt) if count > 1 else stmt)
        return self._over_tiles(block(*nests))

    def _output_tile(
        self, p: Panel, jb: Expr, j: Expr, row: Expr, column: Expr, tile: Expr
    ) -> Stmt:
        t, m, lanes, matrix = self.t, self.transform.m, j.lanes, self.transform.output
        out: list[Stmt] = []
        for q in range(t):
            products = [self._product_at(p, i * t + q, tile, j) for i in range(t)]
            names = [f"d{i}_{q}" for i in range(t)]
            out += [Let(name, e) for name, e in zip(names, products, strict=True)]
            lets, values = transformed(
                matrix, [Var(self.dtype, lanes, name) for name in names], f"c{q}"
            )
            out += [*lets, *(Let(f"w{i}_{q}", v) for i, v in enumerate(values))]
        n = binary("+", binary("*", jb, index_const(p.width)), j)
        n = self.access.simplify(binary("+", n, index_const(p.start)))
        for i in range(m):
            values_in = [Var(self.dtype, lanes, f"w{i}_{q}") for q in range(t)]
            lets, values = transformed(matrix, values_in, f"r{i}")
            out += lets
            for jj, value in enumerate(values):
                pixel = (self._pixel(row, i), self._pixel(column, jj))
                out.append(self._stored(n, pixel, value, (i, jj)))
        return block(*out)

    def _product_at(self, p: Panel, e: int, tile: Expr, j: Expr) -> Expr:
        position = binary("+", index_const(e * self.blocking.tiles), tile)
        at = binary("+", binary("*", position, index_const(p.width)), j)
        return load(self.m, self.access.simplify(at))

    def _pixel(self, tile: Expr, offset: int) -> Expr:
        at = binary("*", tile, index_const(self.transform.m))
        return binary("+", at, index_const(offset))

    def _stored(
        self, n: Expr, pixel: tuple[Expr, Expr], value: Expr, offset: tuple[int, int]
    ) -> Stmt:
        """The epilogue and the store of one pixel's channels, if the pixel is one."""
        finished = value
        if len(self.root.operands) > 2:
            bias = self.access.at(self.root.operands[2], (n,))
            finished = binary("+", value, broadcast(bias, n.lanes))
        self.access.keep(self.root.result, lambda _: finished)
        index = (self.image, n, *pixel)
        stores: list[Stmt] = []
        for which, (stored, start) in enumerate(self.results):
            at = tuple(binary("+", i, index_const(b)) for i, b in zip(index, start, strict=True))
            element = broadcast(self.access.at(stored, index), n.lanes)
            stores.append(self.region.store(which, at, element))
        out = block(*stores)
        m, sizes = self.transform.m, (self.height, self.width)
        for size, place, o in zip(sizes, pixel, offset, strict=True):
            if size % m and o >= size % m:
                out = If(binary("<", place, index_const(size)), out)
        return out

    def _vector(self, name: str, start: int, width: int, count: int) -> Expr:
        at = self.region.loop(name, count)
        first = binary("+", binary("*", at, index_const(width)), index_const(start))
        return Ramp(INDEX, width, first, 1) if width > 1 else first
