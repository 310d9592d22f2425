"""Attention without scores in memory: a block of query rows passes over the keys, tile by tile.

The softmax is computed online: a row keeps its maximum so far, its sum and its weighted sum of V,
and what came before is scaled down whenever the maximum grows. A few threads share a row. Tiles
that a causal mask hides are skipped. Who multiplies, and which thread has which scores, is said by
the two kinds of it: `flash_simt` and `flash_tensor`.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import ClassVar

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    If,
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
    call,
    const,
    contiguous,
    index_const,
    index_var,
    load,
    select,
)
from graphopt.lower.access import Source, delinearized
from graphopt.lower.attention import MASKED, Span, masked, where_seen
from graphopt.ops import AttentionAttrs
from graphopt_backends.cuda.lower.grid import (
    THREAD,
    Part,
    below,
    both,
    ceil_div,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.region import GpuRegion, narrow
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import GpuTarget

_PADDING_BYTES = 16
"""Between rows in shared memory, so that neighbouring rows begin in different banks."""


@dataclass(frozen=True)
class Tile:
    """`rows` queries by `keys` of a block of `threads`; `height` rows and `width` keys of a
    thread."""

    rows: int
    keys: int
    height: int
    width: int
    threads: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.keys}"


@dataclass(frozen=True)
class Sizes:
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    depth: int
    width: int


def padded(name: str, dtype: DType, rows: int, columns: int) -> Buffer:
    """Shared memory for rows that lie a little apart."""
    shape = (rows, columns + _PADDING_BYTES // dtype.size_bytes)
    return Buffer.dense(name, dtype, shape, Scope.SHARED)


class Attention(abc.ABC):
    """What a block does, whoever multiplies: `sharing` neighbouring threads share a row of scores,
    of which each has `tile.height` rows and `tile.width` keys, and of the result `chunks` vectors
    of `lanes` columns."""

    sharing: ClassVar[int]
    widest: ClassVar[int]
    """Lanes of a vector on its way to shared memory."""

    def __init__(self, region: GpuRegion, root: Node) -> None:
        assert isinstance(root.attrs, AttentionAttrs)
        self.region, self.root, self.access = region, root, region.access
        self.attrs = root.attrs
        self.q, self.k, self.v = root.operands[:3]
        (b, h, m, d), (_, hk, t, _) = self.q.type.dims, self.k.type.dims
        self.size = Sizes(b, h, hk, m, t, d, self.v.type.dims[-1])
        self.dtype = root.result.type.dtype
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")
        self.lanes, self.chunks = self.columns_of_a_thread()
        self.tile = self.usual_tile()

    # What subclasses say -------------------------------------------------------------------------

    @abc.abstractmethod
    def columns_of_a_thread(self) -> tuple[int, int]:
        """Lanes of a vector of the result's columns, and how many vectors a thread has."""

    @abc.abstractmethod
    def usual_tile(self) -> Tile:
        """The tile for this many queries."""

    @abc.abstractmethod
    def shared(self, tile: Tile) -> tuple[Buffer, Buffer, Buffer, Buffer]:
        """Queries, keys, values and weights, a row of each padded."""

    @abc.abstractmethod
    def accumulators(self) -> tuple[Buffer, Buffer]:
        """A thread's scores and its part of the result."""

    @abc.abstractmethod
    def score(self) -> tuple[Expr, ...]:
        """Where the score of row `i` and key `j` is among the accumulators."""

    @abc.abstractmethod
    def part_of_result(self) -> tuple[Expr, ...]:
        """Where vector `c` of row `i` is."""

    @abc.abstractmethod
    def row(self) -> Expr:
        """Row `i` of a thread, in the tile."""

    @abc.abstractmethod
    def key(self) -> Expr:
        """Key `j` of a thread, in the tile."""

    @abc.abstractmethod
    def column(self) -> Expr:
        """Columns of vector `c` of a thread."""

    @abc.abstractmethod
    def multiply_keys(self) -> Stmt:
        """Set the scores to the products of queries and keys."""

    @abc.abstractmethod
    def multiply_values(self) -> Stmt:
        """Add the weighted values."""

    def fits(self, tile: Tile) -> bool:
        """Whether there is shared memory for it."""
        target = self.region.target
        limit = target.shared_bytes if isinstance(target, GpuTarget) else 0
        return sum(b.numel * b.dtype.size_bytes for b in self.shared(tile)) <= limit

    def registers(self, name: str, *shape: int) -> Buffer:
        return Buffer.dense(name, self.dtype, (self.tile.threads, *shape), Scope.REGISTER)

    def part(self) -> Part:
        z, tile = self.size, self.tile
        blocks = ceil_div(z.queries, tile.rows)

        def body(b: Expr) -> Stmt:
            batch, head, self.block = delinearized(b, (z.batch, z.heads, blocks))
            self.b, self.h = self.access.simplify(batch), self.access.simplify(head)
            self.hk = self.access.simplify(binary("//", head, index_const(z.heads // z.kv_heads)))
            self.first = self.access.simplify(binary("*", self.block, index_const(tile.rows)))
            return self._block()

        return Part(z.batch * z.heads * blocks, body)

    # Structure -----------------------------------------------------------------------------------

    def _block(self) -> Stmt:
        z, tile = self.size, self.tile
        self.qs, self.ks, self.vs, self.ps = shared = self.shared(tile)
        self.scores, self.out = self.accumulators()
        rows = (self.registers(n, tile.height) for n in ("peak", "own", "top", "sum", "total"))
        self.peak, self.own, self.top, self.sum, self.total = rows
        registers = (self.scores, self.out, self.peak, self.own, self.top, self.sum, self.total)
        tiles = ceil_div(z.keys, tile.keys)
        n = self.region.loop("n", tiles)
        self.start = self.access.simplify(binary("*", n, index_const(tile.keys)))
        step = block(*self._step())
        total = self._put(self.total, self._over_row("reduce_add", self.sum))
        if tiles > 1:
            step = where_seen(self.access, self.root, self._span(self.first, tile.rows),
                              self._span(self.start, tile.keys), step)  # fmt: skip
        return block(
            *map(Alloc, (*shared, *registers)),
            self._bring(self.qs, self.q, (self.b, self.h), self.first, z.queries, z.depth),
            self._all(self._initial()),
            For("n", tiles, step) if tiles > 1 else step,
            self._all(self.each_row(total)),
            self._all(self._results()),
        )

    def _span(self, first: Expr, count: int) -> Span:
        return first, binary("+", first, index_const(count - 1))

    def _step(self) -> list[Stmt]:
        """One tile of keys."""
        z, at = self.size, (self.b, self.hk)
        return [
            self._bring(self.ks, self.k, at, self.start, z.keys, z.depth),
            self._bring(self.vs, self.v, at, self.start, z.keys, z.width),
            self._all(self.multiply_keys()),
            self._all(self.each_row(self._finish_scores())),
            self._all(self.each_row(self._put(self.top, self._over_row("reduce_max", self.own)))),
            self._all(self.each_row(self._weigh())),
            self._all(self.multiply_values()),
        ]

    def _all(self, body: Stmt) -> Stmt:
        return threads(self.region, self.tile.threads, lambda t: body)

    def _bring(
        self, to: Buffer, value: Value, at: tuple[Expr, Expr], first: Expr, extent: int, width: int
    ) -> Stmt:
        """Rows of a factor to shared memory; zeros where there are none."""
        rows, wide = to.shape[0], to.shape[1] - _PADDING_BYTES // to.dtype.size_bytes
        x = self.region.loop("x", extent)
        lanes = math.gcd(self.widest, width)
        ramp = Ramp(INDEX, lanes, index_const(0), 1)
        if lanes > 1 and not is_contiguous(self.access.at(value, (*at, x, ramp))):
            lanes = 1
        per_row = ceil_div(wide, lanes)
        vectors = rows * per_row
        each = ceil_div(vectors, self.tile.threads)
        u = self.region.loop("u", each)
        self.access.ranges[THREAD] = self.tile.threads
        at_vector = binary("+", binary("*", u, index_const(self.tile.threads)), index_var(THREAD))
        self.access.ranges["i"] = vectors  # where it is used
        row = self.access.simplify(binary("//", index_var("i"), index_const(per_row)))
        column = binary("%", index_var("i"), index_const(per_row))
        column = self.access.simplify(binary("*", column, index_const(lanes)))
        self.access.ranges["x"] = extent  # where it is used
        place: Expr = contiguous(column, lanes)
        inside = both(
            below(index_var("x"), extent, ceil_div(extent, rows) * rows),
            below(column, width, wide),
        )
        element = narrow(self.access.at(value, (*at, index_var("x"), place)), to.dtype)
        element = broadcast(element, lanes)
        bring: Stmt = Store(to, (row, place), element)
        if inside is not None:
            bring = If(inside, bring, Store(to, (row, place), const(0.0, to.dtype, lanes)))
        body = block(Let("x", self.access.simplify(binary("+", first, row))), bring)
        within = below(index_var("i"), vectors, each * self.tile.threads)
        kind = LoopKind.UNROLL if each <= 8 else LoopKind.SERIAL
        step = block(Let("i", self.access.simplify(at_vector)), guarded(within, body))
        return self._all(For("u", each, step, kind) if each > 1 else step)

    # A thread's rows and columns -----------------------------------------------------------------

    def i(self) -> Expr:
        return self.region.loop("i", self.tile.height)

    def j(self) -> Expr:
        return self.region.loop("j", self.tile.width)

    def c(self) -> Expr:
        return self.region.loop("c", self.chunks)

    def thread(self) -> Expr:
        self.access.ranges[THREAD] = self.tile.threads
        return index_var(THREAD)

    def lane(self) -> Expr:
        return Ramp(INDEX, self.lanes, index_const(0), 1) if self.lanes > 1 else index_const(0)

    def each_row(self, body: Stmt) -> Stmt:
        return unrolled("i", self.tile.height, body)

    def each_column(self, body: Stmt) -> Stmt:
        return unrolled("c", self.chunks, body)

    def _put(self, registers: Buffer, value: Expr, reduce: str = "") -> Stmt:
        return Store(registers, (self.thread(), self.i()), value, reduce)

    def _get(self, registers: Buffer) -> Expr:
        return load(registers, self.thread(), self.i())

    def _over_row(self, name: str, registers: Buffer) -> Expr:
        """Reduced over the threads that share a row."""
        group = binary("//", self.thread(), index_const(self.sharing))
        group = binary("*", group, index_const(self.sharing))
        shared = load(registers, Ramp(INDEX, self.sharing, group, 1), self.i())
        return Call(self.dtype, 1, name, (shared,))

    def number(self, value: float, lanes: int = 1) -> Expr:
        return const(value, self.dtype, lanes)

    # Statements ----------------------------------------------------------------------------------

    def _initial(self) -> Stmt:
        at = self.part_of_result()
        return self.each_row(block(
            self._put(self.peak, self.number(MASKED)),
            self._put(self.sum, self.number(0.0)),
            self.each_column(Store(self.out, at, self.number(0.0, self.lanes))),
        ))  # fmt: skip

    def _finish_scores(self) -> Stmt:
        """Scale and masks; the largest of a thread's scores."""
        score = self.score()
        m = self.access.simplify(binary("+", self.first, self.row()))
        key = self.access.simplify(binary("+", self.start, self.key()))
        scaled = binary("*", load(self.scores, *score), self.number(self.attrs.scale))
        return block(
            self._put(self.own, self.number(MASKED)),
            unrolled("j", self.tile.width, block(
                Store(self.scores, score, self._masked(scaled, m, key)),
                self._put(self.own, load(self.scores, *score), "max"),
            )),
        )  # fmt: skip

    def _masked(self, e: Expr, m: Expr, key: Expr) -> Expr:
        e = masked(self.access, self.root, e, (self.b, self.h, m, key), beyond=True)
        if self.size.keys % self.tile.keys:
            inside = binary("<", key, index_const(self.size.keys))
            e = select(inside, e, self.number(MASKED))
        return e

    def _weigh(self) -> Stmt:
        """From scores to weights, exp(score - peak); what came before is scaled to the new peak.
        A row that is masked everywhere has the peak -inf: its shift is 0, and so are its weights.
        """
        score, out = self.score(), self.part_of_result()
        peak, shift, scale = (Var(self.dtype, 1, n) for n in ("row_peak", "shift", "scale"))
        none, weighted = binary("==", peak, self.number(MASKED)), Var(self.dtype, 1, "weight")
        weight = call("exp", binary("-", load(self.scores, *score), shift))
        scaled = binary("*", load(self.out, *out), broadcast(scale, self.lanes))
        return block(
            Let("row_peak", binary("max", self._get(self.peak), self._get(self.top))),
            Let("shift", select(none, self.number(0.0), peak)),
            Let("scale", call("exp", binary("-", self._get(self.peak), shift))),
            self._put(self.peak, peak),
            self._put(self.sum, scale, "*"),
            self.each_column(Store(self.out, out, scaled)),
            unrolled("j", self.tile.width, block(
                Let("weight", weight),
                self._put(self.sum, weighted, "+"),
                Store(self.ps, (self.row(), self.key()), narrow(weighted, self.ps.dtype)),
            )),
        )  # fmt: skip

    def _results(self) -> Stmt:
        z = self.size
        total = Var(self.dtype, 1, "row_total")
        none = binary("==", total, self.number(0.0))
        inverse = select(none, self.number(0.0), binary("/", self.number(1.0), total))
        value = binary(
            "*", load(self.out, *self.part_of_result()),
            broadcast(Var(self.dtype, 1, "inverse"), self.lanes),
        )  # fmt: skip
        self.access.keep(self.root.result, _always(value))
        rows = ceil_div(z.queries, self.tile.rows) * self.tile.rows
        self.access.ranges["m"] = z.queries  # where it is used
        column = self.column()
        index = (self.b, self.h, index_var("m"), column)
        stores = [
            self.region.store(which, index, broadcast(self.access.at(result, index), self.lanes))
            for which, result in enumerate(self.region.body.outputs)
        ]
        first = column.base if isinstance(column, Ramp) else column
        wide = self.chunks * self.lanes * self.sharing
        body = self.each_column(guarded(below(first, z.width, wide), block(*stores)))
        m = self.access.simplify(binary("+", self.first, self.row()))
        return self.each_row(block(
            Let("row_total", self._get(self.total)),
            Let("inverse", inverse),
            Let("m", m),
            guarded(below(index_var("m"), z.queries, rows), body),
        ))  # fmt: skip


def _always(value: Expr) -> Source:
    """The same expression at every index."""
    return lambda _: value
