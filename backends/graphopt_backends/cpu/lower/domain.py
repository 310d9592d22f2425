"""Products in a transformed domain: what the algorithms share that trade multiplications for
additions.

Some rows of the left factor at a time are transformed into per-thread scratch that stays in cache,
`v[e][row][k]`. Then, for each panel of columns, they are multiplied by weights that were
transformed when the model was compiled, `m[e][row][j] = sum over k of v[e][row][k] * u[e][k][j]`,
and the results, still in cache, are transformed back through the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from graphopt.ir.types import DType
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    For,
    Kernel,
    LoopKind,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    const,
    contiguous,
    index_const,
    load,
)
from graphopt.lower.access import linear_index
from graphopt.lower.loops import chunks
from graphopt.lower.region import Lowered, Packing, Region
from graphopt.lower.sharing import largest_share, mean_time
from graphopt.target import Target
from graphopt_backends.cpu.lower.contraction import pack_panels
from graphopt_backends.cpu.lower.streaming import choose_block_tile
from graphopt_backends.cpu.lower.tiles import TOGETHER, Panel, Tile, even_split, panels_of
from graphopt_backends.cpu.schedule import ask_for_weights, unroll_reduction

_FLOPS_PER_NS_AND_LANE = 6.0
"""What each of a core's vector units computes when all goes well."""
_SIGHT = 80.0
"""Bytes from memory per nanosecond that they cost beside products; measured in bench/NOTES.md."""
_SUMMED = 40.0
"""Bytes per nanosecond of sums of rows that are stored: a cautious guess, 77 to 92 were measured
where their rows are in cache."""
_ALL = index_const(0)
"""The group, where there is one."""

_FEW_ROWS = 16
"""As many rows leave as much of the first streaming of weights in sight again."""
_REREAD, _REREAD_ROWS = 4.0, 8.0
"""How much less bytes from level 3 cost than bytes from memory: weights, and rows that spill."""
_SLOW_REREAD = 1.7
"""Likewise of weights where both are slow: 24 to 28 GB/s beside 12 to 16 (bench/NOTES.md)."""
_LEVEL_3 = 6
"""How much of level 3 is one kernel's, in level 2 caches. All four are fitted to products of 128 to
1500 rows in 1 to 64 blocks, their weights from memory (bench/NOTES.md)."""

_WIDEST = 64
"""Columns of panels that pass over transformed rows together: wider ones gain no more."""

_LINE = 16
"""float32s."""


@dataclass(frozen=True)
class Sizes:
    """`elements` products of [rows, inputs] by [inputs, channels], for each of `groups`."""

    elements: int
    inputs: int
    channels: int
    groups: int = 1

    @property
    def stride(self) -> int:
        """Elements between rows of v. A power of two would put all rows of a register tile into one
        cache set."""
        return self.inputs + 16

    @property
    def depth(self) -> int:
        """Weights of a column."""
        return self.elements * self.inputs

    @property
    def weights(self) -> int:
        """Of one group."""
        return self.depth * self.channels

    def nanoseconds(
        self, rows: int, total: int, width: int, target: Target, *, ahead: bool = False
    ) -> float:
        """Estimated, for `total` rows in blocks of `rows` and panels of `width` columns: the
        products', or that of moving bytes beyond the level 2 cache: weights once per block, and
        transformed rows where they spill. `ahead`: weights are asked for a product ahead."""
        rate = _FLOPS_PER_NS_AND_LANE * target.vector_units * target.lanes_f32
        computing = 2.0 * self.weights * total / rate
        moved = self.bytes_moved(rows, total, width, target, ahead=ahead)
        return max(computing, moved / target.far_gbytes)

    def bytes_moved(
        self, rows: int, total: int, width: int, target: Target, *, ahead: bool = False
    ) -> float:
        """Weights, and what spills, in bytes from memory that would cost as much. The first block's
        weights come from memory, the less hidden the fewer its rows unless they are asked for
        `ahead`; later blocks find them in the level 3 cache. What spills and fits there, too, the
        hardware fetches ahead: a register tile takes a line of such rows in several steps."""
        panels = -(-self.channels // width)
        v, m = (4.0 * self.elements * rows * size for size in (self.stride, width))
        blocks = -(-total // rows)
        seen = 0.0 if ahead else _FEW_ROWS / rows
        reread = _SLOW_REREAD if target.is_slow_afar else _REREAD
        streamed = 4.0 * self.weights * (1 + seen + (blocks - 1) / reread)
        if v + m <= 0.9 * target.l2_bytes:
            return streamed
        near = v + m <= _LEVEL_3 * target.l2_bytes and not target.is_slow_afar
        hidden = _REREAD_ROWS if near else 1.0
        return streamed + blocks * ((1 + panels) * v + 2 * panels * m) / hidden


def choose_domain_tile(rows: int, sizes: Sizes, usual: Tile, target: Target) -> Tile:
    """The tile of a block of `rows`; `usual` is that of many rows. Narrow panels pass together over
    transformed rows that do not fit the level 2 cache, and would come from beyond it for each: as
    many as leave their products half of it, all alike, and several for threads to share."""
    tile = choose_block_tile(rows, sizes.inputs, usual, sizes.channels, target)
    width = tile.vectors * target.lanes_f32
    panels, rest = divmod(sizes.channels, width)
    left, products = (4 * sizes.elements * rows * size for size in (sizes.stride, width))
    if rest or left + products <= target.l2_bytes:
        return tile
    most = min(_WIDEST // width, target.l2_bytes // 2 // products, panels // 2)
    return replace(tile, together=max(n for n in TOGETHER if n <= max(1, most) and panels % n == 0))


def block_time(
    sizes: Sizes, rows: int, total: int, panels: Sequence[Panel], target: Target, *,
    ahead: bool = False,
) -> float:  # fmt: skip
    """Nanoseconds, estimated, of the products of `total` rows, whoever shares them, in blocks of so
    many `rows`, the last one as large as the others. `ahead`: as `Sizes.nanoseconds` has it."""
    blocks, width = -(-total // rows), max(p.width for p in panels)
    sized = rows, blocks * rows, width, target
    moving = sizes.bytes_moved(*sized, ahead=ahead) / _SIGHT
    multiplying = sizes.groups * (sizes.nanoseconds(*sized, ahead=ahead) + moving)
    summing = 4.0 * sizes.elements * rows * sizes.stride / _SUMMED
    return shared_time(sizes.groups * blocks, shareable(panels), summing, multiplying)


def shared_time(blocks: int, panels: int, summing: float, multiplying: float) -> float:
    """Of the products of `blocks` of rows by so many panels, whoever shares them: one block of rows
    takes `summing`, by each thread that has some of it, all of the products `multiplying`."""

    def slowest(threads: int) -> float:
        most, summed = largest_share(blocks, panels, threads)
        return most / (blocks * panels) * multiplying + summed * summing

    return mean_time(slowest)


def shareable(panels: Sequence[Panel]) -> int:
    """How many of them threads may share: those of one width alone."""
    return panels[0].count if len(panels) == 1 else 1


def odd_lines(size: int) -> int:
    """At least `size` elements, an odd number of cache lines: that far apart, elements of the same
    row and column, which are transformed together, are in different sets of any cache."""
    return (-(-size // _LINE) | 1) * _LINE


class Domain:
    """The products of a region by its `operand`, blocks of `rows` rows of a `group` at a time."""

    def __init__(
        self,
        region: Region,
        operand: int,
        sizes: Sizes,
        rows: int,
        tile: Tile,
        dtype: DType,
        group: Expr = _ALL,
    ) -> None:
        self.region, self.operand, self.sizes, self.group = region, operand, sizes, group
        lanes = region.target.lanes_f32
        if sizes.channels % (tile.vectors * tile.together * lanes):
            tile = replace(tile, together=1)
        self.rows, self.tile, self.dtype = rows, tile, dtype
        wide = replace(tile, vectors=tile.vectors * tile.together)
        self.panels = panels_of(sizes.channels, wide, lanes)
        region.resize(operand, sizes.groups * sizes.weights)
        widest = max(p.width for p in self.panels)
        self.v = self._scratch("v", sizes.elements * self._left_stride)
        self.m = self._scratch("m", sizes.elements * self._product_stride(widest))

    @property
    def _left_stride(self) -> int:
        """Elements between those of v that are transformed together."""
        return odd_lines(self.rows * self.sizes.stride)

    def _product_stride(self, width: int) -> int:
        """Likewise of m, for a panel."""
        return odd_lines(self.rows * width)

    def _scratch(self, name: str, size: int) -> Buffer:
        return Buffer.dense(name, self.dtype, (size,), Scope.SCRATCH)

    @cached_property
    def input_vectors(self) -> list[tuple[int, int, int]]:
        """Chunks that cover k."""
        return chunks(self.sizes.inputs, self.region.target.lanes_f32)

    def vectors_of(self, panel: Panel) -> list[tuple[int, int, int]]:
        """Chunks that cover a panel."""
        return chunks(panel.width, self.region.target.lanes_f32)

    def over(
        self, name: str, parts: Sequence[tuple[int, int, int]], body: Callable[[Expr], Stmt]
    ) -> list[Stmt]:
        """Loops of `body` over chunks, given the vector of indices it works on."""
        out: list[Stmt] = []
        for start, width, count in parts:
            at = self.region.loop(name, count)
            first = binary("+", binary("*", at, index_const(width)), index_const(start))
            stmt = body(contiguous(first, width))
            out.append(For(name, count, stmt) if count > 1 else stmt)
        return out

    # Elements ------------------------------------------------------------------------------------

    def put(self, e: int, row: Expr, k: Expr, value: Expr) -> Stmt:
        """v[e][row][k] = value."""
        return Store(self.v, (self._left_at(index_const(e), row, k),), value)

    def product(self, panel: Panel, e: int, row: Expr, j: Expr) -> Expr:
        """m[e][row][j], once `products` have run."""
        return load(self.m, self._product_at(panel, index_const(e), row, j))

    def column(self, panel: Panel, jb: Expr, j: Expr) -> Expr:
        """The column, of all groups', that is the j-th of a panel."""
        n = binary("+", binary("*", jb, index_const(panel.width)), j)
        n = binary("+", n, index_const(panel.start))
        first = binary("*", self.group, index_const(self.sizes.channels))
        return self.region.access.simplify(binary("+", first, n))

    def _left_at(self, e: Expr, row: Expr, k: Expr) -> Expr:
        at = binary("*", row, index_const(self.sizes.stride))
        at = binary("+", binary("*", e, index_const(self._left_stride)), at)
        return self.region.access.simplify(binary("+", at, k))

    def _product_at(self, panel: Panel, e: Expr, row: Expr, j: Expr) -> Expr:
        at = binary("*", row, index_const(panel.width))
        at = binary("+", binary("*", e, index_const(self._product_stride(panel.width))), at)
        return self.region.access.simplify(binary("+", at, j))

    # Products ------------------------------------------------------------------------------------

    def by_panels(self, finish: Callable[[Panel, Expr], Stmt]) -> list[Stmt]:
        """Products and what finishes them, panel by panel. Threads share panels of one width: each
        transforms the rows of a block for those that it gets."""
        kind = LoopKind.PARALLEL if shareable(self.panels) > 1 else LoopKind.SERIAL
        out: list[Stmt] = []
        for p in self.panels:
            jb = self.region.loop("jb", p.count)
            body = block(Alloc(self.m), self.products(p, jb), finish(p, jb))
            out.append(For("jb", p.count, body, kind) if p.count > 1 else body)
        return out

    def products(self, panel: Panel, jb: Expr) -> Stmt:
        """m[e][row][j] = sum over k of v[e][row][k] * u[e][k][j], for a panel."""
        out: list[Stmt] = []
        start = 0
        e = self.region.loop("e", self.sizes.elements)
        for rows, count in even_split(self.rows, self.tile.rows):
            mo, mi = self.region.loop("mo", count), self.region.loop("mi", rows)
            first = binary("+", binary("*", mo, index_const(rows)), index_const(start))
            nest = self._sum(panel, jb, e, binary("+", first, mi))
            vectors = panel.width // self.tile.together // panel.lanes
            loops = (("jl", panel.lanes), ("jr", vectors), ("mi", rows))
            for name, extent in loops:
                nest = For(name, extent, nest)
            out.append(For("mo", count, nest) if count > 1 else nest)
            start += rows * count
        body, together = block(*out), self.tile.together
        return For("e", self.sizes.elements, For("js", together, body) if together > 1 else body)

    def _sum(self, p: Panel, jb: Expr, e: Expr, row: Expr) -> Stmt:
        width = p.width // self.tile.together
        js, jr = (
            self.region.loop("js", self.tile.together),
            self.region.loop("jr", width // p.lanes),
        )
        within = binary("+", binary("*", jr, index_const(p.lanes)), self.region.loop("jl", p.lanes))
        j = binary("+", binary("*", js, index_const(width)), within)
        k = self.region.loop("k", self.sizes.inputs)
        acc = Buffer.dense("acc", self.dtype, (), Scope.REGISTER)
        left = load(self.v, self._left_at(e, row, k))
        term = binary("*", left, self._weight(p, (jb, e, js, k, within)))
        return block(
            Alloc(acc),
            Store(acc, (), const(0.0, self.dtype)),
            For("k", self.sizes.inputs, Store(acc, (), term, reduce="+")),
            Store(self.m, (self._product_at(p, e, row, j),), load(acc)),
        )

    def _weight(self, p: Panel, at: tuple[Expr, Expr, Expr, Expr, Expr]) -> Expr:
        """Packed [group][panel][e][narrow panel][k][width], panels of one width after the other."""
        sizes, together = self.sizes, self.tile.together
        extents = (p.count, sizes.elements, together, sizes.inputs, p.width // together)
        index = binary("+", linear_index(at, extents), index_const(p.start * sizes.depth))
        index = binary("+", index, binary("*", self.group, index_const(sizes.weights)))
        return load(self.region.inputs[self.operand], self.region.access.simplify(index))

    # Schedule ------------------------------------------------------------------------------------

    def lowered(
        self, name: str, key: str, body: Stmt, transformed: Callable[[np.ndarray], np.ndarray]
    ) -> Lowered:
        """The kernel around `body`, scheduled. `transformed` makes u, [e, k, n] with the columns of
        all groups side by side, of a weight; `key` tells it from others."""
        naive = self.region.kernel(name, body)
        steps: list[tuple[str, Kernel]] = [("naive", naive)]
        k = s.expand_accumulator(naive, "acc", ("mi", "jr", "jl"))
        steps.append(("accumulate in registers", k))
        k = s.vectorize(k, "jl")
        steps.append(("vectorize", k))
        for var in ("jr", "mi"):
            k = s.unroll(k, var)
        if self.sizes.inputs > 1:
            weights = self.region.inputs[self.operand].name
            k = ask_for_weights(k, self.tile, weights, "js" if self.tile.together > 1 else "e")
            k = unroll_reduction(k, self.tile)
        k = s.simplify(k)
        steps.append(("unroll", k))
        return Lowered(k, {self.operand: self._packing(key, transformed)}, tuple(steps))

    def _packing(self, key: str, transformed: Callable[[np.ndarray], np.ndarray]) -> Packing:
        panels, sizes, together = self.panels, self.sizes, self.tile.together

        def pack(array: np.ndarray) -> np.ndarray:
            """To panels of [e, narrow panel, k, width], group by group."""
            u = transformed(array).reshape(-1, sizes.groups, sizes.channels)
            packed = pack_panels(u.swapaxes(0, 1), panels)
            if together == 1:
                return packed
            narrow = packed.reshape(-1, sizes.inputs, together, panels[0].width // together)
            return np.ascontiguousarray(narrow.swapaxes(1, 2)).ravel()

        widths = "-".join(f"{p.width}x{p.count}" for p in panels)
        widths += f"by{together}" if together > 1 else ""
        return Packing(f"{key}_{widths}", sizes.groups * sizes.weights, pack)
