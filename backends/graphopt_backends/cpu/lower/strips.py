"""Chains of convolutions by strips of output rows, what lies between them in per-thread scratch.

For each strip and each block of channels: the rows of the expanded image under the strip, its
border filled in, then the depthwise convolution over them; after all blocks the product at every
pixel. Each link is scheduled by itself, as if it were alone, and then put into the loops they
share. Rows where the windows of two strips overlap are expanded twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir.graph import Node
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    For,
    Kernel,
    Let,
    LoopKind,
    Scope,
    Stmt,
    binary,
    block,
    index_const,
    index_var,
    loops,
)
from graphopt.lower.products import Product, product_of
from graphopt.lower.region import Lowered, Packing, Region
from graphopt.lower.strips import Link, chain_of, links_of
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cpu.lower.contraction import (
    Builder,
    borders,
    pack_panels,
    packing_key,
)
from graphopt_backends.cpu.lower.links import (
    Border,
    LinkRegion,
    ScratchRows,
    padding,
    part_of,
    scaled,
)
from graphopt_backends.cpu.lower.tiles import (
    MOST_VECTORS,
    Panel,
    Tile,
    candidates,
    choose_tile,
    choose_window_tile,
    cycles,
    panels_of,
)
from graphopt_backends.cpu.schedule import register_tile_steps

Axes = tuple[tuple[str, int], ...]


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    """By the strips and blocks of the cost model, or of a `point` of the space."""
    return _Strips(node, target, point or Point({})).lowered()


def space(node: Node, target: Target) -> Space:
    """The rows of a strip, and the vectors of channels in a block."""
    return _Strips(node, target, Point({})).space()


@dataclass(frozen=True)
class _Nest:
    """A link's nest for one strip and one block of channels, before and after its schedule."""

    naive: Stmt
    scheduled: Stmt


@dataclass(frozen=True)
class _Block:
    """The nests of blocks of one width."""

    panel: Panel
    expand: _Nest | None
    depthwise: _Nest


class _Strips:
    def __init__(self, node: Node, target: Target, point: Point) -> None:
        self.whole, self.target = Region(node, target), target
        self.links = links_of(self.whole.body)
        self.images, self.channels, height, self.width = self.links.depthwise.root.result.type.dims
        self.tile = self._expand_tile(point)
        self.blocks = self._blocks()
        self.chain = chain_of(self.links, sum(p.count for p in self.blocks))
        self.rows = self.chain.best_rows(target.l2_bytes)
        if "strip_rows" in point:
            self.rows = point.number("strip_rows")
        self.window = self.chain.window(self.rows)
        self.strip_axes: Axes = ("image", self.images), ("top", height // self.rows)
        self.expanded, self.middle = self._scratch()
        self.packings: dict[int, Packing] = {}

    def lowered(self) -> Lowered:
        parts = [self._block(panel) for panel in self.blocks]
        last = self._project()
        steps = [("naive", self._kernel(parts, last, 0))]
        for i, name in enumerate(("expand", "depthwise", "project")):
            if getattr(self.links, name) is not None:
                steps.append((f"schedule the {name} link", self._kernel(parts, last, i + 1)))
        steps.append(("simplify", s.simplify(steps[-1][1])))
        return Lowered(steps[-1][1], self.packings, tuple(steps))

    def space(self) -> Space:
        choices = [Parameter("strip_rows", tuple(self.chain.strips()), self.rows)]
        if self.tile is not None:
            widest = min(MOST_VECTORS, -(-self.channels // self.target.lanes_f32))
            vectors = tuple(range(1, widest + 1))
            choices.append(Parameter("block_vectors", vectors, self.tile.vectors))
        return Space(tuple(p for p in choices if len(p.choices) > 1))

    # Sizes ---------------------------------------------------------------------------------------

    def _expand_tile(self, point: Point) -> Tile | None:
        """Of one row of the expanded image."""
        if self.links.expand is None:
            return None
        root = self.links.expand.root
        depth = math.prod(root.operands[1].type.dims[1:])
        shape = (root.result.type.dims[3],), self.channels, depth
        if "block_vectors" not in point:
            return choose_tile(shape, self.target)
        vectors = point.number("block_vectors")
        fitting = (t for t in candidates(shape, self.target) if t.vectors == vectors)
        return min(fitting, key=lambda t: cycles(shape, t, self.target))

    def _blocks(self) -> list[Panel]:
        """The channels that are expanded together: a panel of the product's weights."""
        if self.tile is None:
            return [Panel(0, self.channels, 1, self.target.lanes_f32)]
        return panels_of(self.channels, self.tile, self.target.lanes_f32)

    def _scratch(self) -> tuple[Buffer, Buffer]:
        type = self.links.depthwise.root.operands[0].type
        expanded = self.window * type.dims[3] * max(p.width for p in self.blocks)
        middle = self.rows * self.width * self.channels
        return (
            Buffer.dense("expanded", type.dtype, (expanded,), Scope.SCRATCH),
            Buffer.dense("middle", type.dtype, (middle,), Scope.SCRATCH),
        )

    # Links ---------------------------------------------------------------------------------------

    def _block(self, panel: Panel) -> _Block:
        link = self.links.depthwise
        expand = self._expand(self.links.expand, panel) if self.links.expand else None
        region = LinkRegion(
            self.whole,
            link,
            self._expanded_rows(panel) if self.links.expand else None,
            self._middle_rows() if self.links.project else None,
        )
        image, first = self._strip(region, self.rows)
        product = part_of(product_of(region, link.root), image, first, self.rows,
                          self._channel(region, panel), panel.width)  # fmt: skip
        shape = (self.rows, self.width), panel.width, product.depth
        tile = choose_window_tile(shape, self.target)
        panels = [
            replace(q, start=b.start + i * b.width + q.start)
            for b in self.blocks
            for i in range(b.count)
            for q in panels_of(b.width, tile, self.target.lanes_f32)
        ]
        axes = (*self.strip_axes, ("cb", panel.count))
        return _Block(panel, expand, self._nest(region, link, product, tile, panels, axes))

    def _expand(self, link: Link, panel: Panel) -> _Nest:
        """One row of the expanded image."""
        assert self.tile is not None
        region = LinkRegion(self.whole, link, None, self._expanded_rows(panel))
        image, first = self._strip(region, self.rows * self.chain.stride)
        above, _ = padding(link.result, 2)
        row = binary("-", region.loop("row", self.window), index_const(above))
        product = part_of(product_of(region, link.root), image, binary("+", first, row), 1,
                          self._channel(region, panel), panel.width)  # fmt: skip
        axes = (*self.strip_axes, ("cb", panel.count), ("row", self.window))
        tile = replace(self.tile, outer_rows=1)
        return self._nest(region, link, product, tile, self.blocks, axes)

    def _project(self) -> _Nest | None:
        link = self.links.project
        if link is None:
            return None
        region = LinkRegion(self.whole, link, self._middle_rows(), None)
        image, first = self._strip(region, self.rows)
        product = product_of(region, link.root)
        product = part_of(product, image, first, self.rows, index_const(0), product.channels)
        shape = (self.rows * self.width,), product.channels, product.depth
        tile = choose_tile(shape, self.target)
        panels = panels_of(product.channels, tile, self.target.lanes_f32)
        return self._nest(region, link, product, tile, panels, self.strip_axes)

    def _nest(
        self, region: Region, link: Link, product: Product, tile: Tile, panels: Sequence[Panel],
        axes: Axes,
    ) -> _Nest:  # fmt: skip
        """A link scheduled inside the loops `axes`, which are taken away again. `panels` are those
        of its weights, for all blocks."""
        builder = Builder(region, link.root, product)
        kernel = region.kernel("link", loops(axes, block(*builder.nests(tile))))
        weights = None
        if product.weight is not None:
            weights = region.inputs[product.weight.operand].name
            self._pack(link.root, product, panels)
        steps = register_tile_steps(kernel, tile, weights)
        return _Nest(*(_inside(k.body, len(axes)) for k in (steps[0][1], steps[-1][1])))

    def _pack(self, root: Node, product: Product, panels: Sequence[Panel]) -> None:
        assert product.weight is not None
        matrix = product.weight.matrix

        def pack(array: np.ndarray) -> np.ndarray:
            return pack_panels(matrix(array), panels)

        size = math.prod(root.operands[1].type.dims)
        self.packings[product.weight.operand] = Packing(packing_key(root, [panels]), size, pack)

    def _strip(self, region: Region, rows: int) -> tuple[Expr, Expr]:
        """The image of a strip, and its first row, where strips have `rows` rows."""
        image, top = (region.loop(name, extent) for name, extent in self.strip_axes)
        return image, scaled(top, rows)

    def _channel(self, region: Region, panel: Panel) -> Expr:
        """The first of a block."""
        cb = scaled(region.loop("cb", panel.count), panel.width)
        return binary("+", cb, index_const(panel.start))

    def _expanded_rows(self, panel: Panel) -> ScratchRows:
        _, first = self._strip(self.whole, self.rows * self.chain.stride)
        value = self.links.depthwise.root.operands[0]
        channel = self._channel(self.whole, panel)
        return ScratchRows(value, self.expanded, first, channel, panel.width)

    def _middle_rows(self) -> ScratchRows:
        _, first = self._strip(self.whole, self.rows)
        value = self.links.depthwise.result
        return ScratchRows(value, self.middle, first, index_const(0), self.channels)

    # The loops they share ------------------------------------------------------------------------

    def _kernel(self, parts: Sequence[_Block], last: _Nest | None, scheduled: int) -> Kernel:
        """All links in their loops, the first `scheduled` of them after their schedules. Without a
        last link that needs all channels, threads share the blocks, too."""
        bodies = [(("cb", p.panel.count), self._block_body(p, scheduled)) for p in parts]
        held = [Alloc(self.expanded)] if self.links.expand else []
        if last is None:
            nests = [_shared((*self.strip_axes, cb), block(*held, body)) for cb, body in bodies]
        else:
            project = last.scheduled if scheduled > 2 else last.naive
            blocks = [loops([cb], body) for cb, body in bodies]
            body = block(Alloc(self.middle), *held, *blocks, project)
            nests = [_shared(self.strip_axes, body)]
        return self.whole.kernel("strips", block(*borders(self.whole), *nests))

    def _block_body(self, part: _Block, scheduled: int) -> Stmt:
        """What is done for one block of channels of a strip."""
        depthwise = part.depthwise.scheduled if scheduled > 1 else part.depthwise.naive
        if part.expand is None:
            return depthwise
        expand = part.expand.scheduled if scheduled > 0 else part.expand.naive
        padded = self.links.depthwise.root.operands[0]
        border = Border(padded, self.expanded, part.panel.width, self.target.lanes_f32)
        row = self.whole.loop("row", self.window)
        _, first = self._strip(self.whole, self.rows * self.chain.stride)
        filled = border.around(row, binary("+", first, row), expand)
        return block(For("row", self.window, filled), depthwise)


def _inside(body: Stmt, depth: int) -> Stmt:
    """What lies in the outermost `depth` loops."""
    for _ in range(depth):
        assert isinstance(body, For)
        body = body.body
    return body


def _shared(axes: Axes, body: Stmt) -> Stmt:
    """One loop over all axes, which threads share."""
    several = [(name, extent) for name, extent in axes if extent > 1]
    if len(several) <= 1:
        return For(*several[0], body, LoopKind.PARALLEL) if several else body
    lets: list[Stmt] = []
    strip = index_var("strip")
    left = total = math.prod(extent for _, extent in several)
    for name, extent in several:
        left //= extent
        whole = binary("//", strip, index_const(left))
        lets.append(Let(name, binary("%", whole, index_const(extent))))
    return For("strip", total, block(*lets, body), LoopKind.PARALLEL)
