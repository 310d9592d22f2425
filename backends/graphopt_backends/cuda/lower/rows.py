"""Reduction regions: softmax, norms, sums. A few threads share a row; what several stages need of
it stays in their registers, so that memory is read once.

Where rows lie along memory, neighbouring threads take neighbouring vectors of a row and reduce
across a warp by shuffles, across warps in shared memory. Where memory runs across rows (a sum over
pixels of channels-last images), every lane is a row of its own, and the threads that share it
reduce in shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Generator, Iterator
from dataclasses import dataclass

from graphopt.ir.graph import Node, Value
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
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
from graphopt.lower.access import Index, delinearized, linear_index
from graphopt.lower.decompose import decomposed
from graphopt.lower.region import Lowered, reads
from graphopt.lower.rows import (
    DEAR,
    REDUCTIONS,
    RowDomain,
    behind,
    identity,
    in_place,
    row_domain,
    row_only,
)
from graphopt.target import Target
from graphopt.tune.space import NOTHING, Parameter, Point, Space
from graphopt_backends.cuda.lower.grid import (
    THREAD,
    Part,
    below,
    both,
    ceil_div,
    grid,
    guarded,
    threads,
)
from graphopt_backends.cuda.lower.region import GpuRegion, widened
from graphopt_backends.cuda.targets import MOST_THREADS, WARP, GpuTarget

_THREADS = 128
_REGISTERS = 64
"""Elements of a row that a thread may hold."""
_UNROLLED = 16
_HORIZONTAL = {"+": "reduce_add", "max": "reduce_max", "min": "reduce_min", "*": "reduce_mul",
               "or": "reduce_or", "and": "reduce_and"}  # fmt: skip


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    rows = _rows(node, target, point)
    label = f"{rows.share.along}x{rows.share.across}"
    return Lowered(rows.region.kernel("rows", rows.grid()), label=label)


def space(node: Node, target: Target) -> Space:
    """How many threads share a row."""
    rows = _rows(node, target, None)
    if rows.domain.across or rows.chunks < 2:
        return NOTHING
    most = min(MOST_THREADS, 2 * _power(rows.chunks))
    choices = tuple(2**n for n in range(11) if 2**n <= most)
    return Space((Parameter("row_threads", choices, rows.share.along),))


def _rows(node: Node, target: Target, point: Point | None) -> _Rows:
    assert node.body is not None
    region = GpuRegion(node, target, decomposed(widened(node.body)))
    rows = _Rows(region)
    if point is not None and "row_threads" in point:
        rows.share = _Share(point.number("row_threads"), 1).filled()
    return rows


@dataclass(frozen=True)
class _Share:
    """`along` threads share a row; `across` neighbouring rows (vectors of rows, where memory runs
    across them) are a block's."""

    along: int
    across: int

    @property
    def threads(self) -> int:
        return self.along * self.across

    def filled(self) -> _Share:
        """As many rows as make a block of whole warps."""
        return _Share(self.along, max(1, _THREADS // self.along))


def _power(n: int) -> int:
    """The next power of two."""
    return 1 << max(0, n - 1).bit_length()


def _choose(domain: RowDomain, chunks: int, vectors: int, target: Target) -> _Share:
    """A warp for each row where there are many; more threads for few or long ones. `vectors` are
    those of rows side by side, where memory runs across them."""
    if domain.across:
        across = min(WARP, _power(vectors))
        along = min(_power(chunks), 2 * _THREADS // across)
        return _Share(along, max(across, WARP // along))
    rows = math.prod(domain.dims[a] for a in domain.kept)
    sms = target.sms if isinstance(target, GpuTarget) else 1
    if chunks <= 8 * WARP and (rows >= 4 * sms or chunks <= WARP):
        return _Share(min(WARP, _power(chunks)), 1).filled()
    return _Share(min(MOST_THREADS, max(WARP, _power(ceil_div(chunks, 4)))), 1).filled()


class _Rows:
    def __init__(self, region: GpuRegion) -> None:
        self.region, self.access, self.body = region, region.access, region.body
        self.reductions = [n for n in self.body.nodes if n.op.name in REDUCTIONS]
        self.domain = d = row_domain(self.body, self.reductions)
        self.in_place = in_place(self.body, self.reductions)
        narrowest = min(b.dtype.size_bytes for b in (*region.inputs, *region.outputs))
        self.lanes = math.gcd(16 // max(narrowest, 2), d.dims[d.vector])
        self.length = math.prod(d.dims[a] for a in d.reduced)
        self.chunks = self.length if d.across else self.length // self.lanes
        self.vectors = d.dims[d.vector] // self.lanes if d.across else 1
        self.share = _choose(d, self.chunks, self.vectors, region.target)
        self.kept_index: dict[int, Expr] = {}
        self.inside: Expr | None = None
        self.buffers = 0

    @property
    def steps(self) -> int:
        """How often a thread takes a chunk of its row."""
        return ceil_div(self.chunks, self.share.along)

    # Structure -----------------------------------------------------------------------------------

    def grid(self) -> Stmt:
        d = self.domain
        outer = [a for a in d.kept if not (d.across and a == d.vector)]
        dims = [d.dims[a] for a in outer]
        tiles = ceil_div(self.vectors, self.share.across)
        rows = math.prod(dims)
        blocks = rows * tiles if d.across else ceil_div(rows, self.share.across)

        def body(b: Expr) -> Stmt:
            self._place(b, outer, dims, tiles, rows, blocks)
            return block(*self._stages())

        return grid(self.region, [Part(blocks, body)])

    def _place(
        self, b: Expr, outer: list[int], dims: list[int], tiles: int, rows: int, blocks: int
    ) -> None:
        """Which row, or vector of rows, is the thread's; the last one where there are none left."""
        d, across = self.domain, self.share.across
        t = self._thread()
        side = self._side(t)
        if d.across:
            row = binary("//", b, index_const(tiles))
            vector = binary("%", b, index_const(tiles))
            vector = binary("+", binary("*", vector, index_const(across)), side)
            self.inside = below(vector, self.vectors, tiles * across)
            if self.inside is not None:
                vector = binary("min", vector, index_const(self.vectors - 1))
            first = self.access.simplify(binary("*", vector, index_const(self.lanes)))
            self.kept_index[d.vector] = self._ramp(first)
        else:
            row = binary("+", binary("*", b, index_const(across)), side)
            self.inside = below(row, rows, blocks * across)
            if self.inside is not None:
                row = binary("min", row, index_const(rows - 1))
        for axis, i in zip(outer, delinearized(row, dims), strict=True):
            self.kept_index[axis] = self.access.simplify(i)

    def _thread(self) -> Expr:
        self.access.ranges[THREAD] = self.share.threads
        return index_var(THREAD)

    def _side(self, t: Expr) -> Expr:
        """Which of the block's rows (vectors of rows) is a thread's."""
        if self.domain.across:
            return self.access.simplify(binary("%", t, index_const(self.share.across)))
        return self.access.simplify(binary("//", t, index_const(self.share.along)))

    def _own(self, t: Expr) -> Expr:
        """Which of the threads that share the row it is."""
        if self.domain.across:
            return self.access.simplify(binary("//", t, index_const(self.share.across)))
        return self.access.simplify(binary("%", t, index_const(self.share.along)))

    def _ramp(self, first: Expr) -> Expr:
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    def _stages(self) -> Iterator[Stmt]:
        for value in self._needed_again():
            yield from self._keep(value)
        for n, node in enumerate(self.reductions):
            for value in self._dear(n):
                yield from self._keep(value)
            yield from self._reduce(n, node)
        for which, result in enumerate(self.body.outputs):
            yield self._threads(lambda which=which, result=result: self._result(which, result))  # type: ignore[misc]

    def _threads(self, body: Callable[[], Stmt]) -> Stmt:
        return threads(self.region, self.share.threads, lambda t: body())

    # What stays in registers ---------------------------------------------------------------------

    def _keep(self, value: Value) -> Iterator[Stmt]:
        """A thread's part of a row, computed once."""
        if self._held(self.buffers + 1) > _REGISTERS or self.steps > _UNROLLED:
            return
        shape = (self.share.threads, self.steps, self.lanes)
        kept = Buffer.dense(f"row{self.buffers}", value.type.dtype, shape, Scope.REGISTER)
        self.buffers += 1
        t, e = self._thread(), self._step()

        def stored() -> Stmt:
            return self._over_row(
                lambda index: Store(kept, (t, e, self._lane()), self._wide(value, index)),
                store=False,
            )

        yield Alloc(kept)
        yield self._threads(stored)
        self.access.keep(value, lambda index: load(kept, t, e, self._lane()))

    def _held(self, buffers: int) -> int:
        return buffers * self.steps * self.lanes

    def _lane(self) -> Expr:
        return self._ramp(index_const(0))

    def _wide(self, value: Value, index: Index) -> Expr:
        return broadcast(self.access.at(value, index), self.lanes)

    def _needed_again(self) -> list[Value]:
        """Values of the row that several stages read and no reduction decides: those of them that
        the others do not make of each other."""
        stages = [n.operands[0] for n in self.reductions] + list(self.body.outputs)
        decided = {r for n in self.reductions for r in n.results}
        read = [set(_closure(s, decided)) for s in stages]
        late = self._decided()
        again = [
            v for v in (*self.body.inputs, *(r for n in self.body.nodes for r in n.results))
            if self._is_kept(v) and v not in late
            and sum(v in r for r in read) > 1
        ]  # fmt: skip
        among = set(again)
        made = {o for v in again if v.producer for o in v.producer.operands}
        ends = {o for r in read for v in r if v.producer and v not in among
                for o in v.producer.operands}  # fmt: skip
        return [v for v in again if v not in made or v in ends or v in stages]

    def _decided(self) -> set[Value]:
        """Values that depend on a reduction."""
        out: set[Value] = set()
        for node in self.body.nodes:
            if node in self.reductions or any(o in out for o in node.operands):
                out.update(node.results)
        return out

    def _dear(self, n: int) -> list[Value]:
        """Values dear to compute that reduction `n` is the first of several to read."""
        (x,) = self.reductions[n].operands
        return [
            v for v in behind(x, self.access.sources)
            if v.producer and v.producer.op.name in DEAR and self._is_kept(v)
            and reads(v, self.body) > 1
        ]  # fmt: skip

    def _is_kept(self, value: Value) -> bool:
        """Whether a thread's part of a row can be: one that is read at its own place alone."""
        return value.type.dims == self.domain.dims and value in self.in_place

    # Stages --------------------------------------------------------------------------------------

    def _step(self) -> Expr:
        return self.region.loop("e", self.steps)

    def _over_row(self, body: Callable[[Index], Stmt], *, store: bool) -> Stmt:
        """`body(index)` for every chunk that a thread takes; `store` where it writes memory."""
        t, e = self._thread(), self._step()
        chunk = binary("+", binary("*", e, index_const(self.share.along)), self._own(t))
        inside = below(index_var("c"), self.chunks, self.steps * self.share.along)
        self.access.ranges["c"] = self.chunks
        step = block(
            Let("c", self.access.simplify(chunk)),
            guarded(both(inside, self.inside if store else None), body(self._index())),
        )
        kind = LoopKind.UNROLL if self.steps <= _UNROLLED else LoopKind.SERIAL
        return For("e", self.steps, step, kind) if self.steps > 1 else step

    def _index(self) -> Index:
        """The index of chunk `c` of the thread's row."""
        d, c = self.domain, index_var("c")
        dims = [d.dims[a] for a in d.reduced]
        if not d.across:
            dims[-1] //= self.lanes
        parts = dict(zip(d.reduced, delinearized(c, dims), strict=True))
        if not d.across:
            first = binary("*", parts[d.vector], index_const(self.lanes))
            parts[d.vector] = self._ramp(self.access.simplify(first))
        return self._full_index(parts)

    def _full_index(self, reduced: dict[int, Expr]) -> Index:
        both = {**self.kept_index, **reduced}
        return tuple(index_const(0) if d == 1 else both[a] for a, d in enumerate(self.domain.dims))

    def _reduce(self, n: int, node: Node) -> Iterator[Stmt]:
        """Every thread of a row ends up with what the row reduces to."""
        op, (x,), dtype = REDUCTIONS[node.op.name], node.operands, node.result.type.dtype
        name, count = f"{node.op.name}{n}", self.share.threads
        acc = Buffer.dense(f"{name}_part", dtype, (count, self.lanes), Scope.REGISTER)
        t, lane = self._thread(), self._lane()
        zero = const(identity(op, dtype), dtype, self.lanes)

        def accumulate() -> Stmt:
            return block(
                Store(acc, (t, lane), zero),
                self._over_row(
                    lambda index: Store(acc, (t, lane), self._wide(x, index), op), store=False
                ),
            )

        yield Alloc(acc)
        yield self._threads(accumulate)
        combined = self._across if self.domain.across else self._along
        total = yield from combined(name, op, acc)
        row = self._row_index(node.result)

        def of_row(index: Index) -> Expr:
            row_only(node, index, row)
            return load(total, t, lane) if self.domain.across else load(total, t)

        self.access.keep(node.result, of_row)

    def _along(self, name: str, op: str, acc: Buffer) -> Generator[Stmt, None, Buffer]:
        """Over a thread's lanes, its warp, and the warps of the row."""
        count, along, dtype = self.share.threads, self.share.along, acc.dtype
        t = self._thread()
        part, lane = load(acc, t, self._lane()), (t,)
        one = Buffer.dense(f"{name}_thread", dtype, (count,), Scope.REGISTER)
        yield Alloc(one)
        yield self._threads(lambda: Store(one, lane, _folded(op, part)))
        warp = min(along, WARP)
        if warp == 1:
            return one
        total = Buffer.dense(name, dtype, (count,), Scope.REGISTER)
        yield Alloc(total)
        yield self._threads(lambda: Store(total, lane, _over_neighbours(op, one, warp)))
        if along == warp:
            return total
        warps = along // WARP
        shared = Buffer.dense(f"{name}_warps", dtype, (count // WARP,), Scope.SHARED)
        yield Alloc(shared)
        first = binary("==", binary("%", t, index_const(WARP)), index_const(0))
        at = binary("//", t, index_const(WARP))
        yield self._threads(lambda: guarded(first, Store(shared, (at,), load(total, t))))
        place = binary("*", binary("//", t, index_const(along)), index_const(warps))
        place = binary("+", place, binary("%", t, index_const(warps)))
        place = self.access.simplify(place)
        whole = Buffer.dense(f"{name}_row", dtype, (count,), Scope.REGISTER)
        yield Alloc(whole)
        yield self._threads(lambda: Store(one, lane, load(shared, place)))
        yield self._threads(lambda: Store(whole, lane, _over_neighbours(op, one, warps)))
        return whole

    def _across(self, name: str, op: str, acc: Buffer) -> Generator[Stmt, None, Buffer]:
        """Over the threads that share a vector of rows, in shared memory."""
        along, across, lanes = self.share.along, self.share.across, self.lanes
        if along == 1:
            return acc
        t, lane = self._thread(), self._lane()
        shared = Buffer.dense(f"{name}_parts", acc.dtype, (along, across * lanes), Scope.SHARED)
        total = Buffer.dense(name, acc.dtype, (self.share.threads, lanes), Scope.REGISTER)
        column = self._ramp(self.access.simplify(binary("*", self._side(t), index_const(lanes))))
        own, y = self._own(t), self.region.loop("y", along)
        yield Alloc(shared)
        yield self._threads(lambda: Store(shared, (own, column), load(acc, t, lane)))
        yield Alloc(total)

        def combine() -> Stmt:
            zero = const(identity(op, acc.dtype), acc.dtype, lanes)
            step = Store(total, (t, lane), load(shared, y, column), op)
            return block(Store(total, (t, lane), zero), For("y", along, step, LoopKind.UNROLL))

        yield self._threads(combine)
        return total

    # Results -------------------------------------------------------------------------------------

    def _result(self, which: int, result: Value) -> Stmt:
        """One element per row, which the row's first thread writes, or the whole row."""
        if result.type.numel * self.length == math.prod(self.domain.dims):
            index = self._row_index(result)
            lanes = self.lanes if self.domain.across else 1
            element = broadcast(self.access.at(result, index), lanes)
            first = None
            if self.share.along > 1:
                first = binary("==", self._own(self._thread()), index_const(0))
            return guarded(both(first, self.inside), self.region.store(which, index, element))

        def stored(index: Index) -> Stmt:
            at = self._in_shape(index, result)
            return self.region.store(which, at, self._wide(result, at))

        return self._over_row(stored, store=True)

    def _row_index(self, result: Value) -> Index:
        """The index of a per-row result, whose axes are the kept ones (reduced ones 1 or gone)."""
        if result.type.rank == len(self.domain.dims):
            return self._full_index({a: index_const(0) for a in self.domain.reduced})
        kept = [self.kept_index.get(a, index_const(0)) for a in sorted(self.domain.kept)]
        dims = [self.domain.dims[a] for a in sorted(self.domain.kept)]
        if list(result.type.dims) == dims:
            return tuple(kept)
        return delinearized(linear_index(kept, dims), result.type.dims)

    def _in_shape(self, index: Index, result: Value) -> Index:
        if result.type.dims == self.domain.dims:
            return index
        return delinearized(linear_index(index, self.domain.dims), result.type.dims)


def _closure(root: Value, stop: Container[Value]) -> Iterator[Value]:
    """Everything that a value is made of, inputs included, up to `stop`."""
    seen: set[Value] = set()
    stack = [root]
    while stack:
        v = stack.pop()
        if v in seen or v in stop:
            continue
        seen.add(v)
        yield v
        if v.producer is not None:
            stack += v.producer.operands


def _folded(op: str, e: Expr) -> Expr:
    return e if e.lanes == 1 else Call(e.dtype, 1, _HORIZONTAL[op], (e,))


def _over_neighbours(op: str, registers: Buffer, width: int) -> Expr:
    """A thread's register, reduced with those of its neighbours."""
    t = index_var(THREAD)
    group = binary("*", binary("//", t, index_const(width)), index_const(width))
    return _folded(op, load(registers, Ramp(INDEX, width, group, 1)))
