"""Reduction regions: softmax, norms, sums. For every kept index one pass per reduction.

The body is written out as sums, maxima and pointwise ops. A value that is dear and read again
(the exponentials of a softmax) is kept in a row buffer; everything else is recomputed from a row
that stays in L1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    For,
    Let,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    broadcast,
    const,
    contiguous,
    index_const,
    load,
)
from graphopt.lower.access import Index, Source, delinearized, linear_index
from graphopt.lower.loops import chunks, in_parallel
from graphopt.lower.region import Region, reads
from graphopt.lower.rows import (
    DEAR,
    REDUCTIONS,
    behind,
    identity,
    in_place,
    row_domain,
    row_only,
)

Spans = Sequence[tuple[int, int, int]]
"""(start, width, count)."""

TOGETHER = (8, 4)
"""Vectors across memory that are reduced as one: of [1024, 1024], 8 take 0.39 and 4 0.64 of the
time that one takes."""
ACCUMULATORS = 4
"""Independent chains: enough to hide the latency of an add."""


class Rows:
    """The nest of a region. `kept_index` is where it is on the kept axes."""

    def __init__(self, region: Region) -> None:
        self.region, self.access = region, region.access
        body = region.body
        self.reductions = [n for n in body.nodes if n.op.name in REDUCTIONS]
        self.domain = row_domain(body, self.reductions)
        self.in_place = in_place(body, self.reductions)
        self.lanes = region.target.lanes_f32
        self.kept_index: dict[int, Expr] = {}
        self.row_buffers, self.accumulators = 0, ACCUMULATORS
        self.kept: list[Value] = []

    def build(self) -> Stmt:
        d = self.domain
        outer = [a for a in d.kept if not (d.across and a == d.vector)]
        for axis in outer:
            self.kept_index[axis] = self.region.loop(f"i{axis}", d.dims[axis])
        body = self._across() if d.across else self._row()
        for n, axis in reversed(list(enumerate(outer))):
            if d.dims[axis] > 1:
                body = For(f"i{axis}", d.dims[axis], body)
            del n
        return in_parallel(body)

    def _across(self) -> Stmt:
        """Lanes along a kept axis; the reduced axes are plain loops around vector accumulators."""
        d = self.domain

        def of(first: Expr, width: int) -> Stmt:
            self.kept_index[d.vector] = contiguous(first, width)
            self._reset()
            return self._row()

        return self._each("x", self._vectors_across(d.dims[d.vector]), of)

    def _each(self, var: str, spans: Spans, of: Callable[[Expr, int], Stmt]) -> Stmt:
        """`of(first, width)` for every one of `spans`, those of a width in a loop."""
        nests = []
        for start, width, count in spans:
            at = binary("*", self.region.loop(var, count), index_const(width))
            body = of(binary("+", at, index_const(start)), width)
            nests.append(For(var, count, body) if count > 1 else body)
        return block(*nests)

    def _vectors_across(self, extent: int) -> Spans:
        """As `chunks`; several vectors as one where their registers hold sums alone: additions
        overlap, and whole lines of memory are read one after the other."""
        dear = any(n.op.name in DEAR for n in self.region.body.nodes)
        out, start = list[tuple[int, int, int]](), 0
        for together in () if dear else TOGETHER:
            width = together * self.lanes
            if count := (extent - start) // width:
                out.append((start, width, count))
                start += width * count
        rest = chunks(extent - start, self.lanes)
        return [*out, *((start + first, width, count) for first, width, count in rest)]

    def _keep(self, value: Value, source: Source) -> None:
        self.access.keep(value, source)
        self.kept.append(value)

    def _reset(self) -> None:
        for value in self.kept:
            self.access.drop(value)
        self.kept.clear()

    def _row(self) -> Stmt:
        """All stages of one row: reductions in order, then the results."""
        stages: list[Stmt] = []
        for n, node in enumerate(self.reductions):
            for value in self._worth_keeping(n):
                stages.append(self._materialize(value))
            stages.append(self._reduce(n, node))
        return block(*stages, self._results())

    # Stages ------------------------------------------------------------------------------------

    def _reduce(self, n: int, node: Node) -> Stmt:
        """`name` becomes the reduction of a row; later reads of the node see it."""
        op, (x,) = REDUCTIONS[node.op.name], node.operands
        dtype = node.result.type.dtype
        width = self._row_width()
        name = f"{node.op.name}{n}" + (f"_{width}" if self.domain.across else "")
        if self.domain.across:
            stmt = self._reduce_across(name, op, x, dtype, width)
        else:
            stmt = self._reduce_along(name, op, x, dtype)
        bound = Var(dtype, width, name)
        row = self._result_index(node.result)

        def of_row(index: Index) -> Expr:
            row_only(node, index, row)
            return bound

        self._keep(node.result, of_row)
        return stmt

    def _reduce_across(self, name: str, op: str, x: Value, dtype: DType, width: int) -> Stmt:
        acc = Buffer.dense(f"acc_{name}", dtype, (width,), Scope.REGISTER)
        at = (contiguous(index_const(0), width),)
        element = broadcast(self.access.at(x, self._full_index(self._other_loops())), width)
        body = self._around_others(Store(acc, at, element, reduce=op))
        init = Store(acc, at, const(identity(op, dtype), dtype, width))
        return block(Alloc(acc), init, body, Let(name, load(acc, *at)))

    def _reduce_along(self, name: str, op: str, x: Value, dtype: DType) -> Stmt:
        """Vector accumulators over the row, then across their lanes; narrower ones for the rest."""
        out: list[Stmt] = []
        total: Expr | None = None
        for start, width, count in chunks(self.domain.dims[self.domain.vector], self.lanes):
            streams = math.gcd(count, self.accumulators)
            acc = Buffer.dense(f"acc{width}_{name}", dtype, (streams, width), Scope.REGISTER)
            initial = const(identity(op, dtype), dtype, width)
            out.append(Alloc(acc))
            out.extend(Store(acc, _lane(u, width), initial) for u in range(streams))
            out.append(self._accumulate(acc, op, x, start, count // streams))
            part = _across_lanes(acc, op)
            total = part if total is None else binary(op, total, part)
        assert total is not None
        return block(*out, Let(name, total))

    def _accumulate(self, acc: Buffer, op: str, x: Value, start: int, steps: int) -> Stmt:
        d, (streams, width) = self.domain, acc.shape
        k = self.region.loop("k", steps)
        others = self._other_loops()
        stores: list[Stmt] = []
        for u in range(streams):
            offset = index_const(start + u * width)
            first = binary("+", binary("*", k, index_const(streams * width)), offset)
            at: Expr = contiguous(first, width)
            element = self.access.at(x, self._full_index({**others, d.vector: at}))
            stores.append(Store(acc, _lane(u, width), broadcast(element, width), reduce=op))
        body: Stmt = block(*stores)
        return self._around_others(For("k", steps, body) if steps > 1 else body)

    def _materialize(self, value: Value) -> Stmt:
        """Compute a dear value once per row into a buffer."""
        d = self.domain
        shape = tuple(d.dims[a] for a in d.reduced)
        width = self._row_width()
        dims = (*shape, width) if d.across else shape
        buffer = Buffer.dense(
            f"row{self.row_buffers}_{width}", value.type.dtype, dims, Scope.SCRATCH
        )
        self.row_buffers += 1

        def at(index: Index) -> tuple[Expr, ...]:
            inner = tuple(index[a] for a in d.reduced)
            lane = (contiguous(index_const(0), width),)
            return (*inner, *lane) if d.across else inner

        def stored(index: Index, lanes: int) -> Stmt:
            return Store(buffer, at(index), broadcast(self.access.at(value, index), lanes))

        stmt = self._over_row(stored)
        self._keep(value, lambda index: load(buffer, *at(index)))
        return block(Alloc(buffer), stmt)

    def _results(self) -> Stmt:
        return block(*(self._result(n, r) for n, r in enumerate(self.region.body.outputs)))

    def _result(self, which: int, result: Value) -> Stmt:
        """Write a result: one element per row, or the whole row."""
        if self._is_of_row(result):
            index = self._result_index(result)
            element = broadcast(self.access.at(result, index), self._row_width())
            return self.region.store(which, index, element)
        target = result

        def stored(index: Index, lanes: int) -> Stmt:
            mapped = self._in_shape(index, target)
            return self.region.store(
                which, mapped, broadcast(self.access.at(target, mapped), lanes)
            )

        return self._over_row(stored)

    # Index helpers -----------------------------------------------------------------------------

    def _is_of_row(self, result: Value) -> bool:
        """Whether there is one element for a row."""
        reduced = math.prod(self.domain.dims[a] for a in self.domain.reduced)
        return result.type.numel * reduced == math.prod(self.domain.dims)

    def _row_width(self) -> int:
        if not self.domain.across:
            return 1
        return self.kept_index[self.domain.vector].lanes

    def _full_index(self, reduced: dict[int, Expr]) -> Index:
        both = {**self.kept_index, **reduced}
        return tuple(index_const(0) if d == 1 else both[a] for a, d in enumerate(self.domain.dims))

    def _result_index(self, result: Value) -> Index:
        """The index of a per-row result, whose axes are the kept ones (reduced ones 1 or gone)."""
        if result.type.rank == len(self.domain.dims):
            return self._full_index({a: index_const(0) for a in self.domain.reduced})
        kept = [self.kept_index.get(a, index_const(0)) for a in sorted(self.domain.kept)]
        return self._in_order(kept, result)

    def _in_order(self, kept: list[Expr], result: Value) -> Index:
        dims = [self.domain.dims[a] for a in sorted(self.domain.kept)]
        if list(result.type.dims) == dims:
            return tuple(kept)
        return delinearized(linear_index(kept, dims), result.type.dims)

    def _in_shape(self, index: Index, result: Value) -> Index:
        if result.type.dims == self.domain.dims:
            return index
        return delinearized(linear_index(index, self.domain.dims), result.type.dims)

    def _other_loops(self) -> dict[int, Expr]:
        """Of the reduced axes, but that of the lanes."""
        return {
            a: self.region.loop(f"r{a}", self.domain.dims[a])
            for a in self.domain.reduced
            if a != self.domain.vector
        }

    def _around_others(self, body: Stmt) -> Stmt:
        for a in reversed(self.domain.reduced):
            if a != self.domain.vector and self.domain.dims[a] > 1:
                body = For(f"r{a}", self.domain.dims[a], body)
        return body

    def _over_row(self, stored: Callable[[Index, int], Stmt]) -> Stmt:
        """`stored(index, lanes)` for every element of a row, in vectors where lanes run along."""
        d, others = self.domain, self._other_loops()
        if d.across:
            return self._around_others(stored(self._full_index(others), self._row_width()))

        def of(first: Expr, width: int) -> Stmt:
            at = contiguous(first, width)
            return stored(self._full_index({**others, d.vector: at}), width)

        return self._around_others(self._each("x", chunks(d.dims[d.vector], self.lanes), of))

    def _worth_keeping(self, n: int) -> list[Value]:
        """Dear values that reduction `n` is the first of several to read."""
        body, out = self.region.body, []
        (x,) = self.reductions[n].operands
        for value in behind(x, self.access.sources):
            node = value.producer
            full = value.type.dims == self.domain.dims and value in self.in_place
            if node and node.op.name in DEAR and full and reads(value, body) > 1:
                out.append(value)
        return out


def _lane(u: int, width: int) -> tuple[Expr, ...]:
    return index_const(u), contiguous(index_const(0), width)


def _across_lanes(acc: Buffer, op: str) -> Expr:
    streams, width = acc.shape
    total = load(acc, *_lane(0, width))
    for u in range(1, streams):
        total = binary(op, total, load(acc, *_lane(u, width)))
    return _horizontal(op, total)


_HORIZONTAL = {"+": "reduce_add", "max": "reduce_max", "min": "reduce_min", "*": "reduce_mul",
               "or": "reduce_or", "and": "reduce_and"}  # fmt: skip


def _horizontal(op: str, e: Expr) -> Expr:
    if e.lanes == 1:
        return e
    from graphopt.kernel.ir import Call

    return Call(e.dtype, 1, _HORIZONTAL[op], (e,))
