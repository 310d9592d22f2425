"""Chains of convolutions by strips of output rows, what lies between them in per-thread scratch.

For each strip and each block of channels: the rows of the expanded image under the strip, its
border filled in, then the depthwise convolution over them; after all blocks the product at every
pixel. Each link is scheduled by itself, as if it were alone, and then put into the loops they
share. Rows where the windows of two strips overlap are expanded twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
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
    binary,
    block,
    const,
    index_const,
    index_var,
    load,
    loops,
)
from graphopt.lower.access import Index
from graphopt.lower.strips import Link, chain_of, links_of
from graphopt.ops import PadAttrs
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cpu.lower.contraction import (
    Axes,
    Builder,
    Product,
    borders,
    pack_panels,
    packing_key,
)
from graphopt_backends.cpu.lower.loops import chunks
from graphopt_backends.cpu.lower.products import product_of
from graphopt_backends.cpu.lower.region import Lowered, Packing, Region
from graphopt_backends.cpu.lower.tiles import (
    Panel,
    Tile,
    candidates,
    choose_tile,
    choose_window_tile,
    cycles,
    panels_of,
)
from graphopt_backends.cpu.schedule import register_tile_steps

_LINKS = ("expand", "depthwise", "project")
_WIDEST = 6


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    """By the strips and blocks of the cost model, or of a `point` of the space."""
    return _Strips(node, target, point).lowered()


def space(node: Node, target: Target) -> Space:
    """The rows of a strip, and the vectors of channels in a block."""
    return _Strips(node, target, None).space()


@dataclass(frozen=True)
class _Rows:
    """What scratch holds of an image [n, c, h, w]: whole rows from `first`, `channels` channels
    from `channel`."""

    value: Value
    buffer: Buffer
    first: Expr
    channel: Expr
    channels: int

    def position(self, index: Index) -> Expr:
        _, c, y, x = index
        row = binary("*", binary("-", y, self.first), index_const(self.value.type.dims[3]))
        pixel = binary("*", binary("+", row, x), index_const(self.channels))
        return binary("+", pixel, binary("-", c, self.channel))


class _Link(Region):
    """One link as a region of its own, which reads and writes scratch at its ends."""

    def __init__(
        self, whole: Region, link: Link, source: _Rows | None, sink: _Rows | None
    ) -> None:
        inputs = (*whole.body.inputs, *((source.value,) if source else ()))
        super().__init__(whole.node, whole.target, Graph(inputs, link.nodes, (link.result,)))
        self.sink = sink
        if source is not None:
            self.access.keep(
                source.value,
                lambda i: load(source.buffer, self.access.simplify(source.position(i))),
            )

    def store(self, which: int, index: Index, value: Expr) -> Stmt:
        if self.sink is None:
            return super().store(which, index, value)
        return Store(self.sink.buffer, (self.access.simplify(self.sink.position(index)),), value)


@dataclass(frozen=True)
class _Nest:
    """A link's nest for one strip and one block of channels, before and after its schedule."""

    naive: Stmt
    scheduled: Stmt


@dataclass(frozen=True)
class _Block:
    """The nests of one kind of block, and how many blocks of it there are."""

    panel: Panel
    expand: _Nest | None
    depthwise: _Nest


class _Strips:
    def __init__(self, node: Node, target: Target, point: Point | None) -> None:
        self.whole, self.target = Region(node, target), target
        self.links = links_of(self.whole.body)
        self.images, self.channels, height, self.width = self.links.depthwise.root.result.type.dims
        self.tile = self._expand_tile(None if point is None else point)
        self.blocks = self._blocks()
        self.chain = chain_of(self.links, sum(p.count for p in self.blocks))
        self.rows = self.chain.best_rows(target.l2_bytes)
        if point is not None and "strip_rows" in point:
            self.rows = point.number("strip_rows")
        self.strips = height // self.rows
        self.packings: dict[int, Packing] = {}
        self.expanded, self.middle = self._scratch()

    def lowered(self) -> Lowered:
        parts = [self._block(panel) for panel in self.blocks]
        last = self._project()
        steps = [("naive", self._kernel(parts, last, 0))]
        for i, (name, link) in enumerate(zip(_LINKS, self._all_links(), strict=True)):
            if link is not None:
                steps.append((f"schedule the {name}", self._kernel(parts, last, i + 1)))
        return Lowered(steps[-1][1], self.packings, tuple(steps))

    def space(self) -> Space:
        choices = [Parameter("strip_rows", tuple(self.chain.strips()), self.rows)]
        widest = min(_WIDEST, -(-self.channels // self.target.lanes_f32))
        if self.tile is not None and widest > 1:
            vectors = tuple(range(1, widest + 1))
            choices.append(Parameter("block_vectors", vectors, self.tile.vectors))
        return Space(tuple(p for p in choices if len(p.choices) > 1))

    # Sizes ---------------------------------------------------------------------------------------

    def _all_links(self) -> tuple[Link | None, Link, Link | None]:
        return self.links.expand, self.links.depthwise, self.links.project

    def _expand_tile(self, point: Point | None) -> Tile | None:
        """Of one row of the expanded image."""
        if self.links.expand is None:
            return None
        root = self.links.expand.root
        depth = math.prod(root.operands[1].type.dims[1:])
        shape = (root.result.type.dims[3],), self.channels, depth
        if point is None or "block_vectors" not in point:
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
        widest = max(p.width for p in self.blocks)
        window = self.chain.window(self.rows) * type.dims[3]
        middle = self.rows * self.width * self.channels
        return (
            Buffer.dense("expanded", type.dtype, (window * widest,), Scope.SCRATCH),
            Buffer.dense("middle", type.dtype, (middle,), Scope.SCRATCH),
        )

    # Links ---------------------------------------------------------------------------------------

    def _block(self, panel: Panel) -> _Block:
        expand, depthwise = self.links.expand, self.links.depthwise
        source = self._expanded_rows(panel) if expand else None
        middle = self._middle_rows() if self.links.project else None
        region = _Link(self.whole, depthwise, source, middle)
        first = _scaled(self._top(region), self.rows)
        channel = self._channel(region, panel)
        product = _part(product_of(region, depthwise.root), self._image(region), first, self.rows,
                        channel, panel.width)  # fmt: skip
        shape = (self.rows, self.width), panel.width, product.depth
        tile = choose_window_tile(shape, self.target)
        axes = (*self._strip_axes(), ("cb", panel.count))
        nest = self._nest(region, depthwise.root, product, tile, axes)
        return _Block(panel, self._expand(panel) if expand else None, nest)

    def _expand(self, panel: Panel) -> _Nest:
        """One row of the expanded image."""
        link = self.links.expand
        assert link is not None and self.tile is not None
        region = _Link(self.whole, link, None, self._expanded_rows(panel))
        row = region.loop("row", self.chain.window(self.rows))
        at = binary("+", _scaled(self._top(region), self.rows * self.chain.stride), row)
        before, _ = _padding(link.result, 2)
        product = _part(product_of(region, link.root), self._image(region),
                        binary("-", at, index_const(before)), 1,
                        self._channel(region, panel), panel.width)  # fmt: skip
        axes = (*self._strip_axes(), ("cb", panel.count), ("row", self.chain.window(self.rows)))
        tile = replace(self.tile, outer_rows=1)
        return self._nest(region, link.root, product, tile, axes)

    def _project(self) -> _Nest | None:
        link = self.links.project
        if link is None:
            return None
        region = _Link(self.whole, link, self._middle_rows(), None)
        first = _scaled(self._top(region), self.rows)
        product = _part(product_of(region, link.root), self._image(region), first, self.rows)
        shape = (self.rows * self.width,), product.channels, product.depth
        tile = choose_tile(shape, self.target)
        return self._nest(region, link.root, product, tile, self._strip_axes())

    def _nest(
        self, region: Region, root: Node, product: Product, tile: Tile,
        axes: Sequence[tuple[str, int]],
    ) -> _Nest:  # fmt: skip
        """A link scheduled inside the loops `axes`, which are taken away again."""
        builder = Builder(region, root, product)
        kernel = region.kernel("link", loops(axes, block(*builder.nests(tile))))
        weights = None
        if product.weight is not None:
            weights = region.inputs[product.weight.operand].name
            self._pack(root, product, tile)
        steps = register_tile_steps(kernel, tile, weights)
        return _Nest(*(_inside(k.body, len(axes)) for k in (steps[0][1], steps[-1][1])))

    def _pack(self, root: Node, product: Product, tile: Tile) -> None:
        """The panels of all blocks, one after the other."""
        assert product.weight is not None
        lanes, matrix = self.target.lanes_f32, product.weight.matrix
        if self.links.project is not None and root is self.links.project.root:
            panels = panels_of(product.channels, tile, lanes)
        else:
            panels = [replace(q, start=b.start + i * b.width + q.start)
                      for b in self.blocks for i in range(b.count)
                      for q in panels_of(b.width, tile, lanes)]  # fmt: skip

        def pack(array: np.ndarray) -> np.ndarray:
            return pack_panels(matrix(array), panels)

        size = math.prod(root.operands[1].type.dims)
        key = f"strips_{packing_key(root, [panels])}"
        self.packings[product.weight.operand] = Packing(key, size, pack)

    # Loops they share ----------------------------------------------------------------------------

    def _strip_axes(self) -> tuple[tuple[str, int], ...]:
        return ("image", self.images), ("top", self.strips)

    def _image(self, region: Region) -> Expr:
        return region.loop("image", self.images)

    def _top(self, region: Region) -> Expr:
        """The number of the strip in its image."""
        return region.loop("top", self.strips)

    def _channel(self, region: Region, panel: Panel) -> Expr:
        """The first of a block."""
        cb = _scaled(region.loop("cb", panel.count), panel.width)
        return binary("+", cb, index_const(panel.start))

    def _expanded_rows(self, panel: Panel) -> _Rows:
        first = _scaled(self._top(self.whole), self.rows * self.chain.stride)
        value, channel = self.links.depthwise.root.operands[0], self._channel(self.whole, panel)
        return _Rows(value, self.expanded, first, channel, panel.width)

    def _middle_rows(self) -> _Rows:
        first = _scaled(self._top(self.whole), self.rows)
        return _Rows(self.links.depthwise.result, self.middle, first, index_const(0), self.channels)

    def _kernel(self, parts: Sequence[_Block], last: _Nest | None, scheduled: int) -> Kernel:
        """All links in their loops, the first `scheduled` of them after their schedules."""

        def chosen(nest: _Nest, which: int) -> Stmt:
            return nest.scheduled if which < scheduled else nest.naive

        blocks: list[tuple[int, Stmt]] = []
        for part in parts:
            work = [chosen(part.depthwise, 1)]
            if part.expand is not None:
                work.insert(0, self._filled_rows(part.panel, chosen(part.expand, 0)))
            blocks.append((part.panel.count, block(*work)))
        held = [Alloc(self.expanded)] if self.links.expand else []
        if last is None:
            nests = [_shared((*self._strip_axes(), ("cb", count)), block(*held, body))
                     for count, body in blocks]  # fmt: skip
        else:
            inner = [loops([("cb", count)], body) for count, body in blocks]
            body = block(Alloc(self.middle), *held, *inner, chosen(last, 2))
            nests = [_shared(self._strip_axes(), body)]
        k = self.whole.kernel("strips", block(*borders(self.whole), *nests))
        return s.simplify(k) if scheduled == len(_LINKS) else k

    # The border of the expanded image ------------------------------------------------------------

    def _filled_rows(self, panel: Panel, nest: Stmt) -> Stmt:
        """The expanded rows under a strip: computed between their columns of padding, or padding
        where the strip reaches past the image."""
        link = self.links.expand
        assert link is not None
        value, window = link.result, self.chain.window(self.rows)
        height, width = value.type.dims[2:]
        row = index_var("row") if window > 1 else index_const(0)
        start = _scaled(row, width * panel.width)
        (above, below), (left, right) = _padding(value, 2), _padding(value, 3)
        columns = [
            *self._fill(value, start, left * panel.width),
            *self._fill(
                value,
                binary("+", start, index_const((width - right) * panel.width)),
                right * panel.width,
            ),
        ]
        body = block(nest, *columns)
        top = index_var("top") if self.strips > 1 else index_const(0)
        at = binary("+", _scaled(top, self.rows * self.chain.stride), row)
        inside = [
            *([binary(">=", at, index_const(above))] if above else []),
            *([binary("<", at, index_const(height - below))] if below else []),
        ]
        if inside:
            condition = inside[0] if len(inside) == 1 else binary("and", *inside)
            body = If(condition, body, block(*self._fill(value, start, width * panel.width)))
        return For("row", window, body)

    def _fill(self, padded: Value, start: Expr, count: int) -> list[Stmt]:
        """Write the value of a border into scratch."""
        out: list[Stmt] = []
        if not count:
            return out
        assert padded.producer is not None and isinstance(padded.producer.attrs, PadAttrs)
        fill = padded.producer.attrs.value
        for first, lanes, times in chunks(count, self.target.lanes_f32):
            x = _scaled(index_var("x") if times > 1 else index_const(0), lanes)
            at = binary("+", binary("+", start, x), index_const(first))
            where = Ramp(INDEX, lanes, at, 1) if lanes > 1 else at
            store = Store(self.expanded, (where,), const(fill, self.expanded.dtype, lanes))
            out.append(For("x", times, store) if times > 1 else store)
        return out


def _part(
    product: Product,
    image: Expr,
    first: Expr,
    rows: int,
    channel: Expr | None = None,
    channels: int | None = None,
) -> Product:
    """A product over some rows of one image, for some of the channels."""
    start = index_const(0) if channel is None else channel

    def at(m: Axes) -> Axes:
        return {**m, "n": image, "s0": binary("+", first, m["s0"])}

    def n_at(n: Expr) -> Expr:
        return binary("+", start, n)

    right = product.right
    weight = product.weight
    return replace(
        product,
        positions=tuple((a, {"n": 1, "s0": rows}.get(a, e)) for a, e in product.positions),
        channels=product.channels if channels is None else channels,
        left=lambda m, n, k: product.left(at(m), n_at(n), k),
        right=None if right is None else lambda m, n, k: right(at(m), n_at(n), k),
        result_index=lambda m, n: product.result_index(at(m), n_at(n)),
        finish=lambda acc, m, n: product.finish(acc, at(m), n_at(n)),
        weight=None if weight is None else replace(weight, start=_scaled(start, product.depth)),
    )


def _scaled(i: Expr, factor: int) -> Expr:
    return binary("*", i, index_const(factor))


def _padding(value: Value, axis: int) -> tuple[int, int]:
    """Before and after the image on an axis."""
    node = value.producer
    if node is None or not isinstance(node.attrs, PadAttrs):
        return 0, 0
    return node.attrs.before[axis], node.attrs.after[axis]


def _inside(body: Stmt, depth: int) -> Stmt:
    """What lies in the outermost `depth` loops."""
    for _ in range(depth):
        assert isinstance(body, For)
        body = body.body
    return body


def _shared(axes: Sequence[tuple[str, int]], body: Stmt) -> Stmt:
    """One loop over all axes, which threads share."""
    axes = [(name, extent) for name, extent in axes if extent > 1]
    if len(axes) <= 1:
        return For(*axes[0], body, LoopKind.PARALLEL) if axes else body
    lets: list[Stmt] = []
    at, left = index_var("strip"), math.prod(e for _, e in axes)
    for name, extent in axes:
        left //= extent
        lets.append(Let(name, binary("%", binary("//", at, index_const(left)), index_const(extent))))
    return For("strip", math.prod(e for _, e in axes), block(*lets, body), LoopKind.PARALLEL)
