"""Products by one level of a Strassen-like scheme: sums of blocks, products, sums of those.

Rows are taken in groups, k and the columns in equal parts. A block of groups is summed into
scratch, then multiplied by one panel of columns after the other. A last group that lacks rows reads
the last one again and stores what there is. Columns that are left over are summed directly, in
nests that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
from graphopt.lower.products import Axes, PackedWeight, Product, stored_value
from graphopt.lower.region import Lowered, Packing, Region
from graphopt.ops.strassen import Scheme, summed_weights
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space, with_parameter
from graphopt_backends.cpu.lower.combine import transformed
from graphopt_backends.cpu.lower.contraction import Builder, borders, pack_panels
from graphopt_backends.cpu.lower.domain import Domain, Sizes, block_time, choose_domain_tile
from graphopt_backends.cpu.lower.spaces import register_space
from graphopt_backends.cpu.lower.tiles import (
    Panel,
    Shape,
    choose_even_tile,
    choose_tile,
    panels_of,
)
from graphopt_backends.cpu.schedule import contraction_steps

_BLOCKS = (*range(1, 33), 64, 128, 256, 512)
"""How many may share the rows."""


def lower(
    region: Region, root: Node, product: Product, scheme: Scheme, point: Point | None = None
) -> Lowered:
    """`product` has a constant right factor that `scheme` fits; `point` is one of its `space`."""
    return _Strassen(region, root, product, scheme, point).lowered()


def space(region: Region, root: Node, product: Product, scheme: Scheme) -> Space:
    """Register tile, prefetch distance, and the groups of rows of a block."""
    return _Strassen(region, root, product, scheme).space()


def block_choices(groups: int) -> list[int]:
    """Groups per block that split them into equal blocks, but for a few in the last."""
    return sorted({-(-groups // blocks) for blocks in _BLOCKS if blocks <= groups})


def choose_block(groups: int, sizes: Sizes, panels: Sequence[Panel], target: Target) -> int:
    """The groups of rows that make a block: those that take the least time."""
    return min(
        block_choices(groups), key=lambda rows: block_time(sizes, rows, groups, panels, target)
    )


class _Strassen:
    def __init__(
        self,
        region: Region,
        root: Node,
        product: Product,
        scheme: Scheme,
        point: Point | None = None,
    ) -> None:
        self.scheme = scheme
        self.region, self.root, self.product, self.access = region, root, product, region.access
        assert product.weight is not None
        self.weight = product.weight
        self.extents = [e for _, e in product.positions]
        self.rows = int(np.prod(self.extents))
        self.parted = scheme.parted(product.channels)
        self.rest = product.channels - self.parted
        sizes = Sizes(scheme.products, product.depth // scheme.depth, self.parted // scheme.columns)
        groups, target = -(-self.rows // scheme.rows), region.target
        self.shape: Shape = ((groups,), sizes.channels, sizes.inputs)
        usual = choose_even_tile(self.shape, target)
        panels = panels_of(sizes.channels, usual, target.lanes_f32)
        self.groups = choose_block(groups, sizes, panels, target)
        tile = choose_domain_tile(self.groups, sizes, usual, target)
        if point is not None:
            tile = tile.at(point)
            self.groups = point.number("groups") if "groups" in point else self.groups
        self.blocks = -(-groups // self.groups)
        self.dtype = root.result.type.dtype
        self.domain = Domain(region, self.weight.operand, sizes, self.groups, tile, self.dtype)
        self.results = [stored_value(v, root) for v in region.body.outputs]
        self.elements = sizes.weights + self.rest * product.depth
        region.resize(self.weight.operand, self.elements)

    def lowered(self) -> Lowered:
        body = block(*borders(self.region), self._blocks())
        key = f"strassen{self.scheme.products}"
        parted = self.domain.lowered("strassen", key, body, self._right)
        return self._with_rest(parted) if self.rest else parted

    def space(self) -> Space:
        choices = tuple(block_choices(self.shape[0][0]))
        tiles = register_space(self.shape, self.region.target, self.domain.tile, packed=True)
        return with_parameter(tiles, Parameter("groups", choices, self.groups))

    def _right(self, array: np.ndarray) -> np.ndarray:
        return summed_weights(self._matrix(array)[:, : self.parted], self.scheme)

    def _matrix(self, array: np.ndarray) -> np.ndarray:
        """[k, n]."""
        matrix = self.weight.matrix(array)
        return matrix.reshape(matrix.shape[-2:])

    # The rest ------------------------------------------------------------------------------------

    def _with_rest(self, parted: Lowered) -> Lowered:
        """And the columns that cannot be parted, by a direct sum: their weights come last."""
        operand, whole = self.weight.operand, self.product
        start = index_const(self.domain.sizes.weights)
        rest = replace(
            whole,
            channels=self.rest,
            left=lambda m, n, k: whole.left(m, self._shifted(n), k),
            result_index=lambda m, n: whole.result_index(m, self._shifted(n)),
            finish=lambda value, m, n: whole.finish(value, m, self._shifted(n)),
            weight=PackedWeight(operand, lambda a: self._matrix(a)[:, self.parted :], start),
        )
        sums = Builder(self.region, self.root, rest)
        tile = choose_tile(sums.shape(), self.region.target)
        naive = self.region.kernel("rest", block(*sums.nests(tile)))
        steps = contraction_steps(naive, tile, self.region.inputs[operand].name)
        kernel = replace(parted.kernel, body=block(parted.kernel.body, steps[-1][1].body))
        packing, panels = parted.packings[operand], sums.panels(tile)

        def pack(array: np.ndarray) -> np.ndarray:
            last = pack_panels(self._matrix(array)[:, self.parted :], panels)
            return np.concatenate([packing.pack(array), last])

        key = "-".join([packing.key, "rest", *(f"{p.width}x{p.count}" for p in panels)])
        named = ((f"rest: {name}", k) for name, k in steps)
        packings = {operand: Packing(key, self.elements, pack)}
        return Lowered(kernel, packings, (*parted.steps, *named, ("both", kernel)))

    def _shifted(self, n: Expr) -> Expr:
        return binary("+", n, index_const(self.parted))

    # Structure -----------------------------------------------------------------------------------

    def _blocks(self) -> Stmt:
        blk = self.region.loop("blk", self.blocks)
        group = self.region.loop("group", self.groups)
        first = binary("*", blk, index_const(self.groups))
        self.row = binary("*", binary("+", first, group), index_const(self.scheme.rows))
        sums = self._over_groups(self._left(group))
        products = self.domain.by_panels(
            lambda panel, jb: self._over_groups(self._result(panel, jb, group))
        )
        body = block(Alloc(self.domain.v), sums, *products)
        return For("blk", self.blocks, body, LoopKind.PARALLEL)

    def _over_groups(self, body: Stmt) -> Stmt:
        return For("group", self.groups, body) if self.groups > 1 else body

    def _rows(self, *, clamp: bool) -> tuple[list[Stmt], list[Axes]]:
        """Where the rows of a group are: bindings, and the position axes of each."""
        lets: list[Stmt] = []
        axes: list[Axes] = []
        for i in range(self.scheme.rows):
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
        return self.scheme.rows * self.groups * self.blocks > self.rows

    # Left factor ---------------------------------------------------------------------------------

    def _left(self, group: Expr) -> Stmt:
        """v[e][group][k] = (signed sum of the blocks of x)[e]."""
        lets, rows = self._rows(clamp=True)
        vectors = self.domain.input_vectors
        return block(*lets, *self.domain.over("kv", vectors, lambda k: self._sums(group, rows, k)))

    def _sums(self, group: Expr, rows: Sequence[Axes], k: Expr) -> Stmt:
        blocks: list[Stmt] = []
        values: list[Expr] = []
        for i, m in enumerate(rows):
            for part in range(self.scheme.depth):
                at = binary("+", k, index_const(part * self.domain.sizes.inputs))
                element = broadcast(
                    self.product.left(m, index_const(0), self._reduced(at)), k.lanes
                )
                blocks.append(Let(f"a{i}{part}", element))
                values.append(Var(self.dtype, k.lanes, f"a{i}{part}"))
        lets, sums = transformed(self.scheme.left, values, "s")
        return block(*blocks, *lets,
                     *(self.domain.put(e, group, k, v) for e, v in enumerate(sums)))  # fmt: skip

    def _reduced(self, k: Expr) -> Axes:
        """The k axes: all of one pixel's channels."""
        return {name: k if extent > 1 else index_const(0) for name, extent in self.product.reduced}

    # Result --------------------------------------------------------------------------------------

    def _result(self, p: Panel, jb: Expr, group: Expr) -> Stmt:
        """out = epilogue(signed sums of the products), for the rows there are."""
        lets, rows = self._rows(clamp=False)
        vectors = self.domain.vectors_of(p)
        return block(
            *lets,
            *self.domain.over("jv", vectors, lambda j: self._combined(p, jb, j, group, rows)),
        )

    def _combined(self, p: Panel, jb: Expr, j: Expr, group: Expr, rows: Sequence[Axes]) -> Stmt:
        products = range(self.scheme.products)
        out: list[Stmt] = [Let(f"p{e}", self.domain.product(p, e, group, j)) for e in products]
        values = [Var(self.dtype, j.lanes, f"p{e}") for e in products]
        lets, sums = transformed(self.scheme.result, values, "c")
        out += lets
        column = self.domain.column(p, jb, j)
        for i, m in enumerate(rows):
            stores = []
            for part in range(self.scheme.columns):
                n = binary("+", column, index_const(part * self.domain.sizes.channels))
                stores.append(self._stored(m, n, sums[i * self.scheme.columns + part]))
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
