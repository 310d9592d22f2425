"""Matrix products and convolutions with their epilogues: one scheme, a register tile of MR output
positions by a panel of NR output channels.

Naive form, in every case: for all output positions and channels, `acc = sum over k of a * w`, then
the epilogue on `acc`. The schedule makes it fast; the weights are packed panel by panel so that the
inner loop reads them in one stream.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from graphopt.ir.graph import Node
from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    IDENTITY,
    Alloc,
    Buffer,
    Expr,
    For,
    If,
    Load,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    const,
    index_const,
    load,
    loops,
)
from graphopt.kernel.visit import uses_var, walk
from graphopt.lower.access import delinearized, linear_index
from graphopt.lower.loops import fuse_axes
from graphopt.lower.pieces import border
from graphopt.lower.products import Axes, PackedWeight, Product, stored_value
from graphopt.lower.region import Lowered, Packing, Region
from graphopt.target import Target
from graphopt.tune.space import Point, Space
from graphopt_backends.cpu.lower.blocking import far_bytes, passes_once, with_blocks
from graphopt_backends.cpu.lower.elementwise import fill_borders
from graphopt_backends.cpu.lower.packing import column, pack, pays
from graphopt_backends.cpu.lower.spaces import contraction_space, window_space
from graphopt_backends.cpu.lower.streaming import choose_streaming_tile, rows_asked_ahead
from graphopt_backends.cpu.lower.tiles import (
    Panel,
    Tile,
    choose_tile,
    choose_window_tile,
    panels_of,
)
from graphopt_backends.cpu.schedule import contraction_steps


def lower_products(
    region: Region, root: Node, products: Sequence[Product], point: Point | None = None
) -> Lowered:
    """Naive nests per product and panel group, then the schedule."""
    builders = [Builder(region, root, p) for p in products]
    tile = _default(builders[0], region.target)
    tile = tile if point is None else tile.at(point)
    nests = [nest for b in builders for nest in b.nests(tile)]
    naive = region.kernel("contraction", block(*borders(region), *nests))
    weight = builders[0].product.weight
    name = region.inputs[weight.operand].name if weight else None
    streams = {b.stream_of_rows for b in builders}
    rows = streams.pop() if len(streams) == 1 else None
    steps = contraction_steps(naive, tile, name, rows, far_bytes(region.target))
    packed = packings([(b, b.panels(tile)) for b in builders])
    return Lowered(steps[-1][1], packed, tuple(steps))


def products_space(region: Region, root: Node, products: Sequence[Product]) -> Space:
    """The tiles that `lower_products` may be told to use."""
    builder = Builder(region, root, products[0])
    default, shape = _default(builder, region.target), builder.shape()
    if builder.product.per_channel:
        return window_space(shape, region.target, default)
    return contraction_space(
        shape, region.target, default, packed=builder.product.weight is not None,
        streamable=builder.is_streamable, packable=builder.is_packable,
        rows_stream=builder.stream_of_rows is not None,
    )  # fmt: skip


def _default(builder: Builder, target: Target) -> Tile:
    if builder.product.per_channel:
        filters = builder.product.weight is not None
        left = builder.left_bytes()
        return choose_window_tile(builder.shape(), target, left, filters=filters)
    shape, row_bytes, left = builder.shape(), builder.row_bytes(), builder.left_bytes()
    once = passes_once(shape, left, target, packed=builder.product.weight is not None)
    blocks = builder.reduction_blocks
    if builder.is_streamable:
        tile = choose_streaming_tile(shape, target, row_bytes, once=once)
    else:
        _, channels, depth = shape
        streams = blocks is not None and 4 * depth * channels > target.l2_bytes
        tile = choose_tile(shape, target, row_bytes, once=once, streams=streams)
        if builder.is_packable and builder.packing_pays(tile):
            tile = replace(tile, packs=True, panel_outer=False)
    if once and not tile.panel_outer and builder.stream_of_rows is not None:
        return rows_asked_ahead(tile, target)
    return tile if blocks is None else with_blocks(tile, shape, blocks, left, target)


def packings(packed: Sequence[tuple[Builder, Sequence[Panel]]]) -> dict[int, Packing]:
    """One packed array per constant operand: the panels of every product, one after the other."""
    packed = [(b, panels) for b, panels in packed if b.product.weight is not None]
    if not packed:
        return {}
    parts = [(b.weight.matrix, panels) for b, panels in packed]

    def pack(array: np.ndarray) -> np.ndarray:
        return np.concatenate([pack_panels(matrix(array), panels) for matrix, panels in parts])

    (first, _), size = packed[0], sum(b.weight_elements for b, _ in packed)
    key = packing_key(first.root, [panels for _, panels in parts])
    return {first.weight.operand: Packing(key, size, pack)}


def packing_key(root: Node, panels: Sequence[Sequence[Panel]]) -> str:
    """A weight may be read by products of several kinds, each with another matrix in mind."""
    sizes = "_".join("-".join(f"{p.width}x{p.count}" for p in group) for group in panels)
    return f"{root.op.name}_{zlib.crc32(repr(root.attrs).encode()):08x}_{sizes}"


def borders(region: Region) -> list[Stmt]:
    """Nests that fill the border of every padded result."""
    out: list[Stmt] = []
    for which, result in enumerate(region.body.outputs):
        if result.producer is not None and result.producer.op.name == "pad":
            out.extend(fill_borders(region, which, border(result)))
    return out


class Builder:
    """The naive nests of one product, for the panels of a tile."""

    def __init__(self, region: Region, root: Node, product: Product) -> None:
        self.region, self.root, self.product = region, root, product
        self.extents = dict((*product.positions, *product.reduced))
        self.results = [stored_value(v, root) for v in region.body.outputs]
        self.m_groups, self.k_groups = self._fuse()

    @property
    def weight(self) -> PackedWeight:
        assert self.product.weight is not None
        return self.product.weight

    @property
    def is_streamable(self) -> bool:
        """Whether a panel of packed weights is read by one loop over k and the next one follows."""
        one = len(self.k_groups) == 1 and not self.product.chooses
        return self.product.weight is not None and one

    @cached_property
    def is_packable(self) -> bool:
        """Whether the right factor is computed, and rows share it."""
        p = self.product
        computed = p.weight is None and p.right is not None and not p.chooses and not p.per_channel
        return computed and self._right_groups < len(self.m_groups)

    def packing_pays(self, tile: Tile) -> bool:
        """Whether it is better packed than read as it lies."""
        assert self.product.right is not None
        rows = math.prod(map(self._extent, self.m_groups[self._right_groups :]))
        m, k = self._indices("m", self.m_groups), self._indices("k", self.k_groups)
        right = self.product.right(m, self.region.loop("j", self.product.channels), k)
        return pays(self.region, right, "k", self.product.depth, rows / tile.rows)

    @cached_property
    def _right_groups(self) -> int:
        """Position loops from the outermost on that the right factor depends on."""
        assert self.product.right is not None
        m, k = self._indices("m", self.m_groups), self._indices("k", self.k_groups)
        right = self.product.right(m, index_const(0), k)
        numbered = enumerate(self._position_loops(), 1)
        return max((i for i, (name, _) in numbered if uses_var(right, name)), default=0)

    @property
    def reduction_blocks(self) -> int | None:
        """Iterations of the outermost loop over k that blocks can be made of, 0 for any number of
        its only one; None where no block would read packed weights by one loop."""
        if self.product.weight is None or self.product.chooses or len(self.k_groups) not in (1, 2):
            return None
        return self._extent(self.k_groups[0]) if len(self.k_groups) == 2 else 0

    @property
    def weight_elements(self) -> int:
        return self.weight.groups * self.product.depth * self.product.channels

    def shape(self) -> tuple[tuple[int, ...], int, int]:
        """Extents of the fused m loops, N, and K; of one matrix where each of a batch has a right
        factor of its own, or blocks choose their weights, since no tile is of two."""
        p = self.product
        first = self._right_groups if self.is_packable else 0
        groups = [g for g in self.m_groups[first:] if p.chooses not in g]
        return tuple(self._extent(g) for g in groups), p.channels, p.depth

    def row_bytes(self) -> int:
        """Between what neighbouring innermost positions read of the left factor; 0 if unknown."""
        reads = self._left_reads()
        if not reads:
            return 0
        step = linear(reads[0].index[-1], self.region.access.ranges).coefficient("m")
        return abs(step) * reads[0].dtype.size_bytes

    def left_bytes(self) -> int:
        """Of the largest buffer that the left factor is read from."""
        sizes = (e.dtype.size_bytes * math.prod(e.buffer.shape) for e in self._left_reads())
        return max(sizes, default=0)

    @property
    def stream_of_rows(self) -> str | None:
        """The buffer of the left factor where neighbouring rows follow one another as one stream
        beside packed weights."""
        p, reads = self.product, self._left_reads()
        one = len(self.k_groups) == 1 and reads == [self._left()]
        if not one or p.weight is None or p.chooses:
            return None
        at = linear(reads[0].index[-1], self.region.access.ranges)
        follow = at.coefficient("m") == p.depth and at.coefficient("k") == 1
        return reads[0].buffer.name if follow else None

    def _left(self) -> Expr:
        m, k = self._indices("m", self.m_groups), self._indices("k", self.k_groups)
        return self.product.left(m, index_const(0), k)

    def _left_reads(self) -> list[Load]:
        return [e for e in walk(self._left()) if isinstance(e, Load)]

    def panels(self, tile: Tile) -> list[Panel]:
        return panels_of(self.product.channels, tile, self.region.target.lanes_f32)

    def nests(self, tile: Tile) -> list[Stmt]:
        nest = self._packing_nest if tile.packs else self._nest
        return [nest(p) for p in self.panels(tile)]

    # Structure ---------------------------------------------------------------------------------

    def _fuse(self) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
        blocks = self.product.chooses
        m_axes = [n for n, e in self.product.positions if (e > 1 or blocks) and n != blocks]
        k_axes = [n for n, e in self.product.reduced if e > 1]
        panel = Panel(0, 1, 1, 1)
        k_alone = tuple((k,) for k in k_axes)
        around = ((blocks,),) if blocks else ()
        m_groups = fuse_axes(m_axes, lambda g: self._point((*around, *g), k_alone, panel))
        m_groups = (*around, *m_groups)
        k_groups = fuse_axes(k_axes, lambda g: self._point(m_groups, g, panel))
        return m_groups, k_groups

    def _nest(self, panel: Panel) -> Stmt:
        body = self._point(self.m_groups, self.k_groups, panel)
        return self._at_positions(panel, For("j", panel.width, body))

    def _at_positions(self, panel: Panel, body: Stmt) -> Stmt:
        """The loops over output positions and panels around `body`."""
        return loops([*self._position_loops(), *_panel_loop(panel)], body)

    def _position_loops(self) -> list[tuple[str, int]]:
        groups = self.m_groups
        return [(self._name("m", i, groups), self._extent(g)) for i, g in enumerate(groups)]

    def _packing_nest(self, panel: Panel) -> Stmt:
        """The panel is packed, then positions pass by."""
        right, m = self.product.right, self._indices("m", self.m_groups)
        assert right is not None
        names, extents = zip(*self.product.reduced, strict=True)
        packed = Buffer.dense(
            f"right{panel.start}", self.root.result.type.dtype,
            (self.product.depth * panel.width,), Scope.SCRATCH,
        )  # fmt: skip
        jb, _, _ = self._channel(panel)

        def element(j: Expr, row: Expr) -> Expr:
            k = dict(zip(names, delinearized(row, extents), strict=True))
            n = self.region.access.simplify(column(panel, jb, j))
            return right(m, n, k)

        one = [Panel(0, panel.width, 1, panel.lanes)]
        filled = pack(self.region, packed, one, self.product.depth, element)
        point = self._point(self.m_groups, self.k_groups, panel, packed)
        outer, around = self._right_groups, self._position_loops()
        rows = loops([*around[outer:], ("j", panel.width)], point)
        return loops([*around[:outer], *_panel_loop(panel)], block(Alloc(packed), filled, rows))

    def _point(
        self,
        m_groups: tuple[tuple[str, ...], ...],
        k_groups: tuple[tuple[str, ...], ...],
        panel: Panel,
        packed: Buffer | None = None,
    ) -> Stmt:
        """Everything about one output element; `packed` holds a panel that is computed."""
        m = self._indices("m", m_groups)
        k = self._indices("k", k_groups)
        jb, j, n = self._channel(panel)
        acc = Buffer.dense("acc", self.root.result.type.dtype, (), Scope.REGISTER)
        if packed is None:
            term = self._term(panel, m, n, jb, j, k)
        else:
            term = binary("*", self.product.left(m, n, k), self._kept(packed, panel, j, k))
        inner: Stmt = Store(acc, (), term, self.product.combine)
        for i, group in reversed(list(enumerate(k_groups))):
            inner = For(self._name("k", i, k_groups), self._extent(group), inner)
        if self.product.chosen is not None:
            inner = If(self.product.chosen(m), inner)
        first = Store(acc, (), const(IDENTITY[self.product.combine], acc.dtype))
        return block(Alloc(acc), first, inner, *self._epilogue(load(acc), m, n))

    def _channel(self, panel: Panel) -> tuple[Expr, Expr, Expr]:
        """The loop variables over panels and in one, and the channel where they are."""
        jb, j = self.region.loop("jb", panel.count), self.region.loop("j", panel.width)
        return jb, j, column(panel, jb, j)

    def _term(self, panel: Panel, m: Axes, n: Expr, jb: Expr, j: Expr, k: Axes) -> Expr:
        left = self.product.left(m, n, k)
        if self.product.weight is not None:
            return binary("*", left, self._packed(panel, m, jb, j, k))
        right = self.product.right
        return left if right is None else binary("*", left, right(m, n, k))

    def _kept(self, packed: Buffer, panel: Panel, j: Expr, k: Axes) -> Expr:
        at = binary("+", binary("*", self._row(k), index_const(panel.width)), j)
        return load(packed, self.region.access.simplify(at))

    def _row(self, k: Axes) -> Expr:
        reduced = self.product.reduced
        return linear_index([k[name] for name, _ in reduced], [e for _, e in reduced])

    def _packed(self, panel: Panel, m: Axes, jb: Expr, j: Expr, k: Axes) -> Expr:
        """The packed right factor: [panel][k][width], one panel group after the other, a whole
        set of them per matrix."""
        p = self.product
        at = binary("+", binary("*", jb, index_const(self.product.depth)), self._row(k))
        at = binary("+", binary("*", at, index_const(panel.width)), j)
        at = binary("+", at, index_const(panel.start * self.product.depth))
        at = binary("+", at, self.weight.start)
        if self.weight.groups > 1:
            at = binary("+", at, binary("*", p.group(m), index_const(p.depth * p.channels)))
        return load(self.region.inputs[self.weight.operand], self.region.access.simplify(at))

    def _epilogue(self, total: Expr, m: Axes, n: Expr) -> list[Stmt]:
        access = self.region.access
        value = self.product.finish(total, m, n)
        access.keep(self.root.result, lambda _: value)
        index = self.product.result_index(m, n)
        out: list[Stmt] = []
        for which, (stored, start) in enumerate(self.results):
            at = tuple(binary("+", i, index_const(s)) for i, s in zip(index, start, strict=True))
            out.append(self.region.store(which, at, access.at(stored, index)))
        return out

    # Loop variables ----------------------------------------------------------------------------

    def _indices(self, letter: str, groups: tuple[tuple[str, ...], ...], lanes: int = 1) -> Axes:
        """Axis values by loop variables; `lanes` neighbours of the innermost loop are loop `l`."""
        axes = self.product.positions if letter == "m" else self.product.reduced
        out: Axes = {name: index_const(0) for name, _ in axes}
        for i, group in enumerate(groups):
            inner = lanes if i == len(groups) - 1 else 1
            var = self.region.loop(self._name(letter, i, groups), self._extent(group) // inner)
            if inner > 1:
                lane = self.region.loop("l", inner)
                var = binary("+", binary("*", var, index_const(inner)), lane)
            extents = [self.extents[a] for a in group]
            out.update(zip(group, delinearized(var, extents), strict=True))
        return out

    def _name(self, letter: str, i: int, groups: tuple[tuple[str, ...], ...]) -> str:
        """m0, m1, ... with the innermost simply `m`; likewise for k."""
        return letter if i == len(groups) - 1 else f"{letter}{i}"

    def _extent(self, group: tuple[str, ...]) -> int:
        return math.prod(self.extents[a] for a in group)


def _panel_loop(panel: Panel) -> list[tuple[str, int]]:
    return [("jb", panel.count)] if panel.count > 1 else []


def pack_panels(matrix: np.ndarray, panels: Sequence[Panel]) -> np.ndarray:
    """[..., K, N] to panels: per group of panels [count, K, width], flat, leading axes first."""
    k = matrix.shape[-2]
    flat = matrix.reshape(-1, k, matrix.shape[-1])
    parts = []
    for g in range(flat.shape[0]):
        for p in panels:
            columns = flat[g][:, p.start : p.start + p.count * p.width]
            parts.append(columns.reshape(k, p.count, p.width).transpose(1, 0, 2).ravel())
    return np.concatenate(parts) if len(parts) > 1 else np.ascontiguousarray(parts[0])
