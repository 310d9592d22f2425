"""Windows that slide over every channel by itself: depthwise convolutions and pooling.

A thread computes a few neighbouring positions of one vector of channels, whose windows overlap in
its registers; neighbouring threads have neighbouring channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.ir.graph import Node
from graphopt.kernel.ir import (
    IDENTITY,
    INDEX,
    Alloc,
    Buffer,
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
from graphopt.lower.access import delinearized, linear_index
from graphopt.lower.products import Axes, Product
from graphopt.lower.region import Lowered, Packing
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.lower.epilogue import Epilogue
from graphopt_backends.cuda.lower.grid import (
    Part,
    below,
    ceil_div,
    grid,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.region import GpuRegion, widen

_UNROLLED = 25
_ROWS = (1, 2, 4)
_THREADS = (64, 128, 256)


@dataclass(frozen=True)
class Tile:
    """`rows` positions of the innermost axis for each of a block's `threads`."""

    threads: int
    rows: int

    def at(self, point: Point | None) -> Tile:
        return self if point is None else Tile(point.number("threads"), point.number("rows"))


def lower(region: GpuRegion, root: Node, product: Product, point: Point | None = None) -> Lowered:
    window = _Window(region, root, product)
    window.tile = window.tile.at(point)
    parts = [window.part(), *window.epilogue.borders()]
    kernel = region.kernel("window", grid(region, parts))
    return Lowered(kernel, window.packings(), label=f"{window.tile.threads}x{window.tile.rows}")


def space(region: GpuRegion, root: Node, product: Product) -> Space:
    tile = _Window(region, root, product).tile
    return Space(
        (Parameter("threads", _THREADS, tile.threads), Parameter("rows", _ROWS, tile.rows))
    )


class _Window:
    def __init__(self, region: GpuRegion, root: Node, product: Product) -> None:
        self.region, self.root, self.product = region, root, product
        self.epilogue = Epilogue(region, root, product)
        self.dtype = root.result.type.dtype
        contiguous = region.body.outputs[0].type.strides[1] == 1
        self.lanes = math.gcd(region.lanes(), product.channels) if contiguous else 1
        self.chunks = product.channels // self.lanes
        self.positions = list(product.positions)
        reuse = contiguous and max(e for _, e in product.reduced) > 1
        self.tile = Tile(128, 4 if reuse and self.positions[-1][1] >= 4 else 1)

    @property
    def groups(self) -> int:
        """Threads along the innermost axis of positions."""
        return ceil_div(self.positions[-1][1], self.tile.rows)

    def part(self) -> Part:
        """Threads over (positions, vectors of channels) as the result lies in memory."""
        extents = [e for _, e in self.positions[:-1]] + [self.groups]
        at = self._channel_axis()
        shape = [*extents[:at], self.chunks, *extents[at:]]
        total = math.prod(shape)
        blocks = ceil_div(total, self.tile.threads)

        def body(b: Expr) -> Stmt:
            return threads(self.region, self.tile.threads, lambda t: thread(b, t))

        def thread(b: Expr, t: Expr) -> Stmt:
            access = self.region.access
            i = binary("+", binary("*", b, index_const(self.tile.threads)), t)
            access.ranges["i"] = total  # where it is used
            index = list(delinearized(index_var("i"), shape))
            chunk = index.pop(at)
            inside = below(index_var("i"), total, blocks * self.tile.threads)
            return block(Let("i", access.simplify(i)), guarded(inside, self._thread(index, chunk)))

        return Part(blocks, body)

    def _channel_axis(self) -> int:
        """Where channels come among the loops: innermost, or where memory has them."""
        if self.lanes > 1:
            return len(self.positions)
        order = self.region.body.outputs[0].type.order
        return order.index(1)

    def _thread(self, index: list[Expr], chunk: Expr) -> Stmt:
        access, rows = self.region.access, self.tile.rows
        first = access.simplify(binary("*", chunk, index_const(self.lanes)))
        n: Expr = Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first
        acc = Buffer.dense("acc", self.dtype, (rows, self.lanes), Scope.REGISTER)
        r = self.region.loop("r", rows)
        lane: Expr = (
            Ramp(INDEX, self.lanes, index_const(0), 1) if self.lanes > 1 else index_const(0)
        )
        last_name, last_extent = self.positions[-1]
        row = binary("+", binary("*", index[-1], index_const(rows)), r)
        inside = below(row, last_extent, self.groups * rows)
        m = {name: i for (name, _), i in zip(self.positions, index, strict=True)}
        read: Axes = {**m, last_name: row if inside is None else (
            binary("min", row, index_const(last_extent - 1)))}  # fmt: skip
        start = const(IDENTITY[self.product.combine], self.dtype, self.lanes)
        step = Store(acc, (r, lane), self._term(read, n), self.product.combine)
        stored = self.epilogue.stores(load(acc, r, lane), {**m, last_name: row}, n)
        return block(
            Alloc(acc),
            unrolled("r", rows, Store(acc, (r, lane), start)),
            self._over_taps(unrolled("r", rows, step)),
            unrolled("r", rows, guarded(inside, stored)),
        )

    def _taps(self) -> Axes:
        return {name: self.region.loop(name, e) for name, e in self.product.reduced}

    def _over_taps(self, body: Stmt) -> Stmt:
        left = math.prod(e for _, e in self.product.reduced)
        kinds: list[LoopKind] = []
        for _, extent in self.product.reduced:
            kinds.append(LoopKind.UNROLL if left <= _UNROLLED else LoopKind.SERIAL)
            left //= extent
        for (name, extent), kind in reversed(list(zip(self.product.reduced, kinds, strict=True))):
            body = For(name, extent, body, kind) if extent > 1 else body
        return body

    def _term(self, m: Axes, n: Expr) -> Expr:
        k = self._taps()
        left = broadcast(self.product.left(m, n, k), n.lanes)
        if self.product.weight is not None:
            return binary("*", left, self._weight(k, n))
        if self.product.right is None:
            return left
        return binary("*", left, broadcast(self.product.right(m, n, k), n.lanes))

    def _weight(self, k: Axes, n: Expr) -> Expr:
        """The packed filters: [tap][channel]."""
        assert self.product.weight is not None
        tap = linear_index([k[a] for a, _ in self.product.reduced],
                           [e for _, e in self.product.reduced])  # fmt: skip
        at = binary("+", binary("*", tap, index_const(self.product.channels)), n)
        buffer = self.region.inputs[self.product.weight.operand]
        return widen(load(buffer, self.region.access.simplify(at)))

    def packings(self) -> dict[int, Packing]:
        weight = self.product.weight
        if weight is None:
            return {}
        size = self.region.inputs[weight.operand].numel

        def pack(array: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(weight.matrix(array))

        return {weight.operand: Packing("taps", size, pack)}
