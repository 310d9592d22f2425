"""Products by one level of Strassen's algorithm: sums of blocks, seven products, sums of those.

Rows are taken in pairs, k and the columns in halves. A block of pairs is summed into scratch once
per task; a task is some panels of a block, so that threads find work where rows are few. A last row
without a partner is read twice and stored once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
from graphopt.lower.access import delinearized
from graphopt.lower.products import Axes, Product, stored_value
from graphopt.lower.region import Lowered, Region
from graphopt.ops.strassen import LEFT, PRODUCTS, RESULT, halved_weights
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space, with_parameter
from graphopt_backends.cpu.lower.combine import transformed
from graphopt_backends.cpu.lower.contraction import borders
from graphopt_backends.cpu.lower.domain import Domain, Sizes
from graphopt_backends.cpu.lower.spaces import register_space
from graphopt_backends.cpu.lower.tiles import (
    Panel,
    Shape,
    choose_block_tile,
    choose_tile,
    panels_of,
)

_TASKS = 8
"""As many as that keep a few threads busy."""
_PANELS = 4
"""Per task at least, to pay for the sums of its rows."""
_BLOCKS = 32
_MOST_VECTORS = 2
"""Of a panel: seven products stream their weights through the level 2 cache, and a tile of many
rows asks for less of them per multiply-add."""


def lower(region: Region, root: Node, product: Product, point: Point | None = None) -> Lowered:
    """`product` has a constant right factor, an even k and an even number of channels; `point` is
    one of its `space`."""
    return _Strassen(region, root, product, point).lowered()


def space(region: Region, root: Node, product: Product) -> Space:
    """Register tile, prefetch distance, and the pairs of rows of a block."""
    return _Strassen(region, root, product).space()


def pair_choices(pairs: int) -> list[int]:
    """Pairs per block that split them into equal blocks, but for a few in the last."""
    return sorted({-(-pairs // blocks) for blocks in range(1, min(pairs, _BLOCKS) + 1)})


def choose_pairs(pairs: int, sizes: Sizes, width: int, target: Target) -> int:
    """The pairs of rows that make a block: those that take the least time."""

    def cost(rows: int) -> tuple[float, float]:
        total = -(-pairs // rows) * rows
        return (
            sizes.nanoseconds(rows, total, width, target),
            sizes.bytes_moved(rows, total, width, target),
        )

    return min(pair_choices(pairs), key=cost)


def choose_groups(blocks: int, panels: Sequence[Panel]) -> int:
    """How many tasks share the panels of a block."""
    if len(panels) > 1:
        return 1
    count = panels[0].count
    fitting = [g for g in range(1, count + 1) if count % g == 0 and count // g >= _PANELS]
    return next((g for g in fitting if g * blocks >= _TASKS), max(fitting, default=1))


class _Strassen:
    def __init__(
        self, region: Region, root: Node, product: Product, point: Point | None = None
    ) -> None:
        self.region, self.root, self.product, self.access = region, root, product, region.access
        assert product.weight is not None
        self.weight = product.weight
        self.extents = [e for _, e in product.positions]
        self.rows = int(np.prod(self.extents))
        depth = int(np.prod([e for _, e in product.reduced]))
        sizes = Sizes(PRODUCTS, depth // 2, product.channels // 2)
        pairs, target = -(-self.rows // 2), region.target
        self.shape: Shape = ((pairs,), sizes.channels, sizes.inputs)
        usual = choose_tile(self.shape, target, most_vectors=_MOST_VECTORS)
        width = max(p.width for p in panels_of(sizes.channels, usual, target.lanes_f32))
        self.pairs = choose_pairs(pairs, sizes, width, target)
        tile = choose_block_tile(self.pairs, sizes.inputs, usual, sizes.channels, target)
        if point is not None:
            tile = tile.at(point)
            self.pairs = point.number("pairs") if "pairs" in point else self.pairs
        self.blocks = -(-pairs // self.pairs)
        self.dtype = root.result.type.dtype
        self.domain = Domain(region, self.weight.operand, sizes, self.pairs, tile, self.dtype)
        self.groups = choose_groups(self.blocks, self.domain.panels)
        self.results = [stored_value(v, root) for v in region.body.outputs]

    def lowered(self) -> Lowered:
        body = block(*borders(self.region), self._tasks())
        return self.domain.lowered("strassen", "strassen", body, self._right)

    def space(self) -> Space:
        choices = tuple(pair_choices(self.shape[0][0]))
        tiles = register_space(self.shape, self.region.target, self.domain.tile, packed=True)
        return with_parameter(tiles, Parameter("pairs", choices, self.pairs))

    def _right(self, array: np.ndarray) -> np.ndarray:
        matrix = self.weight.matrix(array)
        return halved_weights(matrix.reshape(matrix.shape[-2:]))

    # Structure -----------------------------------------------------------------------------------

    def _tasks(self) -> Stmt:
        task = self.region.loop("task", self.blocks * self.groups)
        blk = binary("//", task, index_const(self.groups))
        self.group = binary("%", task, index_const(self.groups))
        pair = self.region.loop("pair", self.pairs)
        first = binary("*", blk, index_const(self.pairs))
        self.row = binary("*", binary("+", first, pair), index_const(2))
        body = block(
            Alloc(self.domain.v), self._over_pairs(self._left(pair)),
            Alloc(self.domain.m), *self._panels(pair),
        )  # fmt: skip
        return For("task", self.blocks * self.groups, body, LoopKind.PARALLEL)

    def _panels(self, pair: Expr) -> list[Stmt]:
        out: list[Stmt] = []
        for p in self.domain.panels:
            count = p.count // self.groups
            mine = self.region.loop("jb", count)
            jb = binary("+", binary("*", self.group, index_const(count)), mine)
            body = block(self.domain.products(p, jb), self._over_pairs(self._result(p, jb, pair)))
            out.append(For("jb", count, body) if count > 1 else body)
        return out

    def _over_pairs(self, body: Stmt) -> Stmt:
        return For("pair", self.pairs, body) if self.pairs > 1 else body

    def _rows(self, *, clamp: bool) -> tuple[list[Stmt], list[Axes]]:
        """Where the two rows of a pair are: bindings, and the position axes of each."""
        lets: list[Stmt] = []
        axes: list[Axes] = []
        for i in range(2):
            row = self.access.simplify(binary("+", self.row, index_const(i)))
            if clamp and self._ragged:
                row = binary("min", row, index_const(self.rows - 1))
            lets.append(Let(f"row{i}", row))
            positions = delinearized(index_var(f"row{i}"), self.extents)
            names = [name for name, _ in self.product.positions]
            axes.append(dict(zip(names, positions, strict=True)))
        return lets, axes

    @property
    def _ragged(self) -> bool:
        return 2 * self.pairs * self.blocks > self.rows

    # Left factor ---------------------------------------------------------------------------------

    def _left(self, pair: Expr) -> Stmt:
        """v[e][pair][k] = (signed sum of the blocks of x)[e]."""
        lets, rows = self._rows(clamp=True)
        vectors = self.domain.input_vectors
        return block(*lets, *self.domain.over("kv", vectors, lambda k: self._sums(pair, rows, k)))

    def _sums(self, pair: Expr, rows: Sequence[Axes], k: Expr) -> Stmt:
        blocks: list[Stmt] = []
        for i, m in enumerate(rows):
            for half in range(2):
                at = binary("+", k, index_const(half * self.domain.sizes.inputs))
                element = broadcast(
                    self.product.left(m, index_const(0), self._reduced(at)), k.lanes
                )
                blocks.append(Let(f"a{i}{half}", element))
        names = ("a00", "a01", "a10", "a11")
        lets, values = transformed(LEFT, [Var(self.dtype, k.lanes, n) for n in names], "s")
        return block(*blocks, *lets,
                     *(self.domain.put(e, pair, k, v) for e, v in enumerate(values)))  # fmt: skip

    def _reduced(self, k: Expr) -> Axes:
        """The k axes: all of one pixel's channels."""
        return {name: k if extent > 1 else index_const(0) for name, extent in self.product.reduced}

    # Result --------------------------------------------------------------------------------------

    def _result(self, p: Panel, jb: Expr, pair: Expr) -> Stmt:
        """out = epilogue(signed sums of the products), for the rows there are."""
        lets, rows = self._rows(clamp=False)
        vectors = self.domain.vectors_of(p)
        return block(
            *lets, *self.domain.over("jv", vectors, lambda j: self._blocks(p, jb, j, pair, rows))
        )

    def _blocks(self, p: Panel, jb: Expr, j: Expr, pair: Expr, rows: Sequence[Axes]) -> Stmt:
        products = range(PRODUCTS)
        out: list[Stmt] = [Let(f"p{e}", self.domain.product(p, e, pair, j)) for e in products]
        values = [Var(self.dtype, j.lanes, f"p{e}") for e in products]
        lets, sums = transformed(RESULT, values, "c")
        out += lets
        column = self.domain.column(p, jb, j)
        for i, m in enumerate(rows):
            stores = []
            for half in range(2):
                n = binary("+", column, index_const(half * self.domain.sizes.channels))
                stores.append(self._stored(m, n, sums[2 * i + half]))
            there = binary("<", index_var(f"row{i}"), index_const(self.rows))
            out.append(If(there, block(*stores)) if self._ragged else block(*stores))
        return block(*out)

    def _stored(self, m: Axes, n: Expr, value: Expr) -> Stmt:
        """The epilogue and the store of a vector of one row."""
        finished = broadcast(self.product.finish(value, m, n), n.lanes)
        self.access.keep(self.root.result, lambda _: finished)
        index = self.product.result_index(m, n)
        out: list[Stmt] = []
        for which, (stored, start) in enumerate(self.results):
            at = tuple(binary("+", i, index_const(s)) for i, s in zip(index, start, strict=True))
            out.append(
                self.region.store(which, at, broadcast(self.access.at(stored, index), n.lanes))
            )
        return block(*out)
