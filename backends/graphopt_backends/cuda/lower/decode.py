"""Attention of a query or a few, each by a block of its own: decoding. Keys and values pass by
once, from memory to registers.

A group of neighbouring lanes takes a key at a time, 16 bytes of it each, and keeps an online
softmax of its own: maximum, sum, and weighted sum of V. In the end the groups' parts are brought to
the largest maximum and added up.
"""

from __future__ import annotations

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
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
    index_const,
    index_var,
    load,
    select,
)
from graphopt.lower.access import delinearized
from graphopt_backends.cuda.lower.grid import (
    THREAD,
    Part,
    below,
    ceil_div,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.lower.scores import MASKED, masked
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import WARP

MOST_QUERIES = 4
THREADS = (128, 256, 512)
_IN_FLIGHT = 4
"""Keys that a group has on their way."""


def fits(region: GpuRegion, root: Node) -> bool:
    """Few queries, whose factors lie along their last axis, as wide as a group of lanes."""
    q, k, v = root.operands[:3]
    depth = q.type.dims[-1]
    lanes = vector(region, root)
    return (
        q.type.dims[2] <= MOST_QUERIES
        and v.type.dims[-1] == depth
        and depth % lanes == 0
        and depth // lanes in (1, 2, 4, 8, 16, 32)
        and depth <= THREADS[0]
        and all(_lies_along(region, x, lanes) for x in (q, k, v))
    )


def vector(region: GpuRegion, root: Node) -> int:
    """Elements of a lane: 16 bytes, or as many as a warp needs for a whole key."""
    narrowest = min(b.dtype.size_bytes for b in region.inputs)
    depth = root.operands[0].type.dims[-1]
    return max(16 // max(narrowest, 2), ceil_div(depth, WARP))


def _lies_along(region: GpuRegion, value: Value, lanes: int) -> bool:
    index = [region.loop(f"x{a}", d) for a, d in enumerate(value.type.dims[:-1])]
    ramp = Ramp(INDEX, lanes, index_const(0), 1)
    return lanes == 1 or is_contiguous(region.access.at(value, (*index, ramp)))


class Decode:
    """A block for every query; `threads` of them."""

    def __init__(self, region: GpuRegion, root: Node) -> None:
        self.region, self.root, self.access = region, root, region.access
        self.q, self.k, self.v = root.operands[:3]
        (self.batch, self.heads, self.queries, self.depth) = self.q.type.dims
        _, self.kv_heads, self.keys, _ = self.k.type.dims
        self.dtype = root.result.type.dtype
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")
        self.lanes = vector(region, root)
        self.share = self.depth // self.lanes
        busy = ceil_div(self.keys, _IN_FLIGHT) * self.share
        self.threads = next((t for t in THREADS if t >= busy), THREADS[-1])

    @property
    def groups(self) -> int:
        return self.threads // self.share

    def part(self) -> Part:
        def body(b: Expr) -> Stmt:
            batch, head, query = delinearized(b, (self.batch, self.heads, self.queries))
            simplify = self.access.simplify
            self.b, self.h, self.m = simplify(batch), simplify(head), simplify(query)
            self.hk = simplify(binary("//", head, index_const(self.heads // self.kv_heads)))
            return self._block()

        return Part(self.batch * self.heads * self.queries, body)

    # Places --------------------------------------------------------------------------------------

    def _registers(self, name: str, *shape: int) -> Buffer:
        return Buffer.dense(name, self.dtype, (self.threads, *shape), Scope.REGISTER)

    def _thread(self) -> Expr:
        self.access.ranges[THREAD] = self.threads
        return index_var(THREAD)

    def _lane(self) -> Expr:
        return Ramp(INDEX, self.lanes, index_const(0), 1) if self.lanes > 1 else index_const(0)

    def _column(self) -> Expr:
        """A lane's part of a key."""
        own = binary("%", self._thread(), index_const(self.share))
        first = self.access.simplify(binary("*", own, index_const(self.lanes)))
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    def _group(self) -> Expr:
        return self.access.simplify(binary("//", self._thread(), index_const(self.share)))

    def _number(self, value: float, lanes: int = 1) -> Expr:
        return const(value, self.dtype, lanes)

    def _all(self, body: Stmt) -> Stmt:
        return threads(self.region, self.threads, lambda t: body)

    def _each(self, body: Stmt) -> Stmt:
        """For every key that a group has on its way."""
        return unrolled("u", _IN_FLIGHT, body)

    def _key(self) -> tuple[Expr, Expr | None]:
        """The key's number, and whether there is one."""
        steps = ceil_div(self.keys, self.groups * _IN_FLIGHT)
        e, u = self.region.loop("e", steps), self.region.loop("u", _IN_FLIGHT)
        at = binary("+", binary("*", e, index_const(_IN_FLIGHT)), u)
        at = binary("+", binary("*", at, index_const(self.groups)), self._group())
        self.access.ranges["key"] = self.keys  # where it is used
        inside = below(index_var("key"), self.keys, steps * _IN_FLIGHT * self.groups)
        return self.access.simplify(at), inside

    # Statements ----------------------------------------------------------------------------------

    def _block(self) -> Stmt:
        query, out = self._registers("query", self.lanes), self._registers("out", self.lanes)
        value = self._registers("value", _IN_FLIGHT, self.lanes)
        own, score = self._registers("own", _IN_FLIGHT), self._registers("score", _IN_FLIGHT)
        peak, total = self._registers("peak"), self._registers("sum")
        steps = ceil_div(self.keys, self.groups * _IN_FLIGHT)
        step = block(
            self._all(self._each(self._fetch(query, value, own))),
            self._all(self._each(self._score(own, score))),
            self._all(self._weigh(score, value, peak, total, out)),
        )
        return block(
            *map(Alloc, (query, out, value, own, score, peak, total)),
            self._all(self._initial(query, out, peak, total)),
            For("e", steps, step) if steps > 1 else step,
            *self._combined(peak, total, out),
        )

    def _initial(self, query: Buffer, out: Buffer, peak: Buffer, total: Buffer) -> Stmt:
        t, lane = self._thread(), self._lane()
        q = self.access.at(self.q, (self.b, self.h, self.m, self._column()))
        scale = self._number(self.root.attrs.scale, self.lanes)  # type: ignore[attr-defined]
        return block(
            Store(query, (t, lane), binary("*", broadcast(q, self.lanes), scale)),
            Store(out, (t, lane), self._number(0.0, self.lanes)),
            Store(peak, (t,), self._number(MASKED)),
            Store(total, (t,), self._number(0.0)),
        )

    def _fetch(self, query: Buffer, value: Buffer, own: Buffer) -> Stmt:
        """A lane's part of a score, and of V for later."""
        t, lane, u = self._thread(), self._lane(), self.region.loop("u", _IN_FLIGHT)
        number, inside = self._key()
        at = (self.b, self.hk, index_var("key"), self._column())
        k, v = (broadcast(self.access.at(x, at), self.lanes) for x in (self.k, self.v))
        products = binary("*", load(query, t, lane), k)
        score = Call(self.dtype, 1, "reduce_add", (products,)) if self.lanes > 1 else products
        fetched = block(Store(own, (t, u), score), Store(value, (t, u, lane), v))
        zero = block(
            Store(own, (t, u), self._number(0.0)),
            Store(value, (t, u, lane), self._number(0.0, self.lanes)),
        )
        body = fetched if inside is None else If(inside, fetched, zero)
        return block(Let("key", number), body)

    def _score(self, own: Buffer, score: Buffer) -> Stmt:
        """The score of a key, masked; -inf where there is none."""
        t, u = self._thread(), self.region.loop("u", _IN_FLIGHT)
        group = binary("*", binary("//", t, index_const(self.share)), index_const(self.share))
        neighbours = load(own, Ramp(INDEX, self.share, group, 1), u)
        whole: Expr = load(own, t, u)
        if self.share > 1:
            whole = Call(self.dtype, 1, "reduce_add", (neighbours,))
        number, inside = self._key()
        e = masked(self.access, self.root, whole, (self.b, self.h, self.m, number))
        if inside is not None:
            e = select(binary("<", number, index_const(self.keys)), e, self._number(MASKED))
        return Store(score, (t, u), e)

    def _weigh(
        self, score: Buffer, value: Buffer, peak: Buffer, total: Buffer, out: Buffer
    ) -> Stmt:
        """Add keys, scaled to the new peak. Where all are masked, that is -inf: the shift is 0."""
        t, lane, u = self._thread(), self._lane(), self.region.loop("u", _IN_FLIGHT)
        top = Buffer.dense("top", self.dtype, (), Scope.REGISTER)
        shift, scale, weight = (Var(self.dtype, 1, n) for n in ("shift", "scale", "weight"))
        none = binary("==", load(top), self._number(MASKED))
        scaled = binary("*", load(out, t, lane), broadcast(scale, self.lanes))
        more = binary("*", load(value, t, u, lane), broadcast(weight, self.lanes))
        return block(
            Alloc(top),
            Store(top, (), load(peak, t)),
            self._each(Store(top, (), load(score, t, u), "max")),
            Let("shift", select(none, self._number(0.0), load(top))),
            Let("scale", call("exp", binary("-", load(peak, t), shift))),
            Store(peak, (t,), load(top)),
            Store(total, (t,), scale, "*"),
            Store(out, (t, lane), scaled),
            self._each(block(
                Let("weight", call("exp", binary("-", load(score, t, u), shift))),
                Store(total, (t,), weight, "+"),
                Store(out, (t, lane), more, "+"),
            )),
        )  # fmt: skip

    def _combined(self, peak: Buffer, total: Buffer, out: Buffer) -> list[Stmt]:
        """All groups' parts, in shared memory; then a thread for every column."""
        peaks, sums = (
            Buffer.dense(n, self.dtype, (self.groups,), Scope.SHARED) for n in ("peaks", "sums")
        )
        parts = Buffer.dense("parts", self.dtype, (self.groups, self.depth), Scope.SHARED)
        t, g = self._thread(), self._group()
        first = binary("==", binary("%", t, index_const(self.share)), index_const(0))
        one = block(Store(peaks, (g,), load(peak, t)), Store(sums, (g,), load(total, t)))
        wide = Store(parts, (g, self._column()), load(out, t, self._lane()))
        return [
            *map(Alloc, (peaks, sums, parts)),
            self._all(block(guarded(first if self.share > 1 else None, one), wide)),
            threads(self.region, self.depth, lambda t: self._result(peaks, sums, parts, t)),
        ]

    def _result(self, peaks: Buffer, sums: Buffer, parts: Buffer, column: Expr) -> Stmt:
        top, total, value = (
            Buffer.dense(n, self.dtype, (), Scope.REGISTER) for n in ("top", "total", "whole")
        )
        g = self.region.loop("g", self.groups)
        none = binary("==", load(top), self._number(MASKED))
        weight, shift = Var(self.dtype, 1, "weight"), Var(self.dtype, 1, "shift")
        empty = binary("==", load(total), self._number(0.0))
        inverse = select(empty, self._number(0.0), binary("/", self._number(1.0), load(total)))
        result = binary("*", load(value), inverse)
        self.access.keep(self.root.result, lambda _: result)
        index = (self.b, self.h, self.m, column)
        return block(
            *map(Alloc, (top, total, value)),
            Store(top, (), self._number(MASKED)),
            For("g", self.groups, Store(top, (), load(peaks, g), "max"), LoopKind.UNROLL),
            Let("shift", select(none, self._number(0.0), load(top))),
            Store(total, (), self._number(0.0)),
            Store(value, (), self._number(0.0)),
            For("g", self.groups, block(
                Let("weight", call("exp", binary("-", load(peaks, g), shift))),
                Store(total, (), binary("*", load(sums, g), weight), "+"),
                Store(value, (), binary("*", load(parts, g, column), weight), "+"),
            )),
            *(
                self.region.store(which, index, self.access.at(r, index))
                for which, r in enumerate(self.region.body.outputs)
            ),
        )  # fmt: skip
