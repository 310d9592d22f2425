"""Attention of a query or a few to many keys: decoding. Keys and values pass by once, from memory
to registers.

A block takes the queries of the heads that share keys, as many as its registers hold, and a part of
those keys. In it a group of neighbouring lanes takes a key at a time, 16 bytes of it each, and
keeps an online softmax of its own for every query: maximum, sum, and weighted sum of V. In the end
the groups' sums are brought to the largest maximum and added up; where keys are cut into parts, a
second grid does the same with those of the parts.
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
from graphopt.tune.space import Point
from graphopt_backends.cuda.lower.grid import (
    THREAD,
    Part,
    below,
    both,
    ceil_div,
    grid,
    guarded,
    threads,
    unrolled,
)
from graphopt_backends.cuda.lower.partial import Partials, Sums
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.lower.scores import MASKED, masked
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import WARP, GpuTarget

MOST_QUERIES = 4
MOST_DEPTH = 256
THREADS = (128, 256, 512)
_IN_FLIGHT = 4
"""Keys that a group has on their way."""
_MOST_ROWS = 4
"""Queries of a block: with eight, ptxas spills 90 to 490 bytes of a thread."""
_PART_BYTES = 128 << 10
"""Of keys and values, for which it pays to launch a second grid."""
_PARTS = (1, 2, 4, 8, 16, 32, 64)
_LEAST_KEYS = 64
"""Of a part that is worth a trial."""


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
        and lanes & (lanes - 1) == 0
        and depth <= MOST_DEPTH
        and all(_lies_along(region, x, lanes) for x in (q, k, v))
    )


def vector(region: GpuRegion, root: Node) -> int:
    """Elements of a lane: 16 bytes, or as many as a warp needs for a whole key."""
    depth = root.operands[0].type.dims[-1]
    return max(16 // _element_bytes(region), ceil_div(depth, WARP))


def _element_bytes(region: GpuRegion) -> int:
    """Of what keys and values are in memory."""
    return max(2, min(b.dtype.size_bytes for b in region.inputs))


def _row(region: GpuRegion) -> GpuTarget:
    assert isinstance(region.target, GpuTarget)
    return region.target


def _lies_along(region: GpuRegion, value: Value, lanes: int) -> bool:
    index = [region.loop(f"x{a}", d) for a, d in enumerate(value.type.dims[:-1])]
    ramp = Ramp(INDEX, lanes, index_const(0), 1)
    return lanes == 1 or is_contiguous(region.access.at(value, (*index, ramp)))


class Decode:
    """A block of `threads` for every `rows` queries that share keys, and each of the `parts` into
    which these are cut."""

    def __init__(self, region: GpuRegion, root: Node, point: Point | None = None) -> None:
        self.region, self.root, self.access = region, root, region.access
        self.q, self.k, self.v = root.operands[:3]
        (self.batch, heads, self.queries, self.depth) = self.q.type.dims
        _, self.kv_heads, self.keys, _ = self.k.type.dims
        self.dtype = root.result.type.dtype
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")
        self.lanes = vector(region, root)
        self.share = self.depth // self.lanes
        self.heads = heads // self.kv_heads
        together = self.heads * self.queries
        self.rows = max(r for r in range(1, _MOST_ROWS + 1) if together % r == 0)
        self.tiles = together // self.rows
        chosen = {} if point is None else {name: point.number(name) for name in point}
        self.parts = chosen.get("parts", self._filling())
        self.threads = chosen.get("threads", self._occupied())

    @property
    def owners(self) -> int:
        """Blocks for each part of the keys."""
        return self.batch * self.kv_heads * self.tiles

    @property
    def label(self) -> str:
        cut = f"x{self.parts}" if self.parts > 1 else ""
        return f"decode{self.threads}{cut}"

    @property
    def groups(self) -> int:
        return self.threads // self.share

    @property
    def part_keys(self) -> int:
        return ceil_div(self.keys, self.parts)

    @property
    def steps(self) -> int:
        return ceil_div(self.part_keys, self.groups * _IN_FLIGHT)

    def _filling(self) -> int:
        """Parts of `_PART_BYTES` or more, as many as give each multiprocessor one block at most."""
        size = 2 * self.keys * self.depth * _element_bytes(self.region)
        return max(1, min(_row(self.region).sms // self.owners, size // _PART_BYTES))

    def _occupied(self) -> int:
        """Threads enough for a part's keys to be on their way at once."""
        busy = ceil_div(self.part_keys, _IN_FLIGHT) * self.share
        return next((t for t in self.counts() if t >= busy), self.counts()[-1])

    def divisions(self) -> tuple[int, ...]:
        """Numbers of parts worth a trial: the rule's, and powers of two."""
        most = max(1, self.keys // _LEAST_KEYS)
        return tuple(sorted({self.parts, *(n for n in _PARTS if n <= most)}))

    def counts(self) -> tuple[int, ...]:
        """Numbers of threads whose sums find room in shared memory."""
        most = _row(self.region).shared_bytes // (self.rows * (self.lanes + 2) * 4)
        return tuple(t for t in THREADS if t <= most)

    def grids(self) -> Stmt:
        """One grid, or where keys are cut into parts, that and one that adds these up."""
        if self.parts == 1:
            return grid(self.region, [self._part()])
        names = ("part_peaks", "part_sums", "part_values")
        shape = (self.owners * self.parts, self.rows)
        self.partials = Partials.of(names, self.dtype, shape, self.depth, Scope.SCRATCH)
        first, second = (grid(self.region, [p]) for p in (self._part(), self._whole()))
        return block(*self.partials.allocs, first, second)

    def _part(self) -> Part:
        """A block's own grid: its part of the keys."""

        def body(b: Expr) -> Stmt:
            self.part_number = b
            self._own(self.access.simplify(binary("//", b, index_const(self.parts))))
            return self._block()

        return Part(self.owners * self.parts, body)

    def _whole(self) -> Part:
        """A block for every query, which adds up what the parts' blocks have left."""

        def body(b: Expr) -> Stmt:
            owner, row = delinearized(b, (self.owners, self.rows))
            self._own(self.access.simplify(owner))
            row = self.access.simplify(row)
            start = self.access.simplify(binary("*", owner, index_const(self.parts)))

            def at(g: Expr) -> tuple[Expr, Expr]:
                return binary("+", start, g), row

            def column(t: Expr) -> Stmt:
                return self.partials.added(self.parts, at, t, lambda s: self._stored(row, t, s))

            return threads(self.region, self.depth, column)

        return Part(self.owners * self.rows, body)

    def _own(self, owner: Expr) -> None:
        at = delinearized(owner, (self.batch, self.kv_heads, self.tiles))
        self.b, self.hk, self.tile = (self.access.simplify(i) for i in at)

    # Places --------------------------------------------------------------------------------------

    def _registers(self, name: str, *shape: int) -> Buffer:
        return Buffer.dense(name, self.dtype, (self.threads, *shape), Scope.REGISTER)

    def _of_rows(self, name: str, *shape: int) -> Buffer:
        """Registers for each of a block's queries."""
        return self._registers(name, *((self.rows,) if self.rows > 1 else ()), *shape)

    def _row(self) -> Expr:
        return self.region.loop("r", self.rows)

    def _at(self) -> tuple[Expr, ...]:
        """The thread's own, of query `r` where there are several."""
        return (self._thread(), self._row()) if self.rows > 1 else (self._thread(),)

    def _query(self, row: Expr) -> tuple[Expr, Expr]:
        """Head and number of a block's query."""
        row = binary("+", binary("*", self.tile, index_const(self.rows)), row)
        head, query = delinearized(row, (self.heads, self.queries))
        head = binary("+", binary("*", self.hk, index_const(self.heads)), head)
        return self.access.simplify(head), self.access.simplify(query)

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

    def _rows(self, body: Stmt) -> Stmt:
        """For each of the block's queries."""
        return unrolled("r", self.rows, body)

    def _key(self) -> Expr:
        """The key's number."""
        e, u = self.region.loop("e", self.steps), self.region.loop("u", _IN_FLIGHT)
        at = binary("+", binary("*", e, index_const(_IN_FLIGHT)), u)
        at = binary("+", binary("*", at, index_const(self.groups)), self._group())
        return self.access.simplify(binary("+", self._first_key(), at))

    def _first_key(self) -> Expr:
        part = binary("%", self.part_number, index_const(self.parts))
        return self.access.simplify(binary("*", part, index_const(self.part_keys)))

    def _inside(self, key: Expr) -> Expr | None:
        """Whether the part has such a key; None where it always has."""
        reached = self.steps * _IN_FLIGHT * self.groups
        end = binary("+", self._first_key(), index_const(self.part_keys))
        own = binary("<", key, end) if self.parts > 1 and reached > self.part_keys else None
        return both(own, below(key, self.keys, (self.parts - 1) * self.part_keys + reached))

    # Statements ----------------------------------------------------------------------------------

    def _block(self) -> Stmt:
        query, out = self._of_rows("query", self.lanes), self._of_rows("out", self.lanes)
        value = self._registers("value", _IN_FLIGHT, self.lanes)
        own, score = (self._of_rows(n, _IN_FLIGHT) for n in ("own", "score"))
        peak, total = self._of_rows("peak"), self._of_rows("sum")
        step = block(
            self._all(self._each(self._fetch(query, value, own))),
            self._all(self._each(self._rows(self._score(own, score)))),
            self._all(self._rows(self._weigh(score, value, peak, total, out))),
        )
        return block(
            *map(Alloc, (query, out, value, own, score, peak, total)),
            self._all(self._rows(self._initial(query, out, peak, total))),
            For("e", self.steps, step) if self.steps > 1 else step,
            *self._added(peak, total, out),
        )

    def _initial(self, query: Buffer, out: Buffer, peak: Buffer, total: Buffer) -> Stmt:
        at, lane = self._at(), self._lane()
        q = self.access.at(self.q, (self.b, *self._query(self._row()), self._column()))
        scale = self._number(self.root.attrs.scale, self.lanes)  # type: ignore[attr-defined]
        return block(
            Store(query, (*at, lane), binary("*", broadcast(q, self.lanes), scale)),
            Store(out, (*at, lane), self._number(0.0, self.lanes)),
            Store(peak, at, self._number(MASKED)),
            Store(total, at, self._number(0.0)),
        )

    def _fetch(self, query: Buffer, value: Buffer, own: Buffer) -> Stmt:
        """A lane's part of each query's score, and of V for later."""
        lane, u = self._lane(), self.region.loop("u", _IN_FLIGHT)
        self.access.ranges["key"] = self.keys  # where it is used
        at = (self.b, self.hk, index_var("key"), self._column())
        k, v = (broadcast(self.access.at(x, at), self.lanes) for x in (self.k, self.v))
        read = Let("k", k) if self.rows > 1 else block()
        k = Var(k.dtype, k.lanes, "k") if self.rows > 1 else k
        products = binary("*", load(query, *self._at(), lane), k)
        score = Call(self.dtype, 1, "reduce_add", (products,)) if self.lanes > 1 else products
        number, v_at = (*self._at(), u), (self._thread(), u, lane)
        fetched = block(read, self._rows(Store(own, number, score)), Store(value, v_at, v))
        zero = block(
            self._rows(Store(own, number, self._number(0.0))),
            Store(value, v_at, self._number(0.0, self.lanes)),
        )
        inside = self._inside(index_var("key"))
        body = fetched if inside is None else If(inside, fetched, zero)
        return block(Let("key", self._key()), body)

    def _score(self, own: Buffer, score: Buffer) -> Stmt:
        """The score of a key, masked; -inf where there is none."""
        t, u = self._thread(), self.region.loop("u", _IN_FLIGHT)
        group = binary("*", binary("//", t, index_const(self.share)), index_const(self.share))
        row = self._at()[1:]
        neighbours = load(own, Ramp(INDEX, self.share, group, 1), *row, u)
        whole: Expr = load(own, t, *row, u)
        if self.share > 1:
            whole = Call(self.dtype, 1, "reduce_add", (neighbours,))
        number = self._key()
        e = masked(self.access, self.root, whole, (self.b, *self._query(self._row()), number))
        inside = self._inside(number)
        if inside is not None:
            e = select(inside, e, self._number(MASKED))
        return Store(score, (t, *row, u), e)

    def _weigh(
        self, score: Buffer, value: Buffer, peak: Buffer, total: Buffer, out: Buffer
    ) -> Stmt:
        """Add keys, scaled to the new peak. Where all are masked, that is -inf: the shift is 0."""
        at, lane, u = self._at(), self._lane(), self.region.loop("u", _IN_FLIGHT)
        top = Buffer.dense("top", self.dtype, (), Scope.REGISTER)
        shift, scale, weight = (Var(self.dtype, 1, n) for n in ("shift", "scale", "weight"))
        none = binary("==", load(top), self._number(MASKED))
        scaled = binary("*", load(out, *at, lane), broadcast(scale, self.lanes))
        own = load(value, self._thread(), u, lane)
        more = binary("*", own, broadcast(weight, self.lanes))
        return block(
            Alloc(top),
            Store(top, (), load(peak, *at)),
            self._each(Store(top, (), load(score, *at, u), "max")),
            Let("shift", select(none, self._number(0.0), load(top))),
            Let("scale", call("exp", binary("-", load(peak, *at), shift))),
            Store(peak, at, load(top)),
            Store(total, at, scale, "*"),
            Store(out, (*at, lane), scaled),
            self._each(block(
                Let("weight", call("exp", binary("-", load(score, *at, u), shift))),
                Store(total, at, weight, "+"),
                Store(out, (*at, lane), more, "+"),
            )),
        )  # fmt: skip

    def _added(self, peak: Buffer, total: Buffer, out: Buffer) -> list[Stmt]:
        """All groups' sums, in shared memory; then a thread for every column of every query."""
        row = self._at()[1:]
        shape = (self.rows, self.groups) if row else (self.groups,)
        names = ("peaks", "sums", "parts")
        inner = Partials.of(names, self.dtype, shape, self.depth, Scope.SHARED)
        at, place = self._at(), (*row, self._group())
        first = binary("==", binary("%", self._thread(), index_const(self.share)), index_const(0))
        one = block(
            Store(inner.peaks, place, load(peak, *at)), Store(inner.sums, place, load(total, *at))
        )
        wide = Store(inner.values, (*place, self._column()), load(out, *at, self._lane()))
        each = block(guarded(first if self.share > 1 else None, one), wide)
        count = min(self.threads, self.rows * self.depth)
        return [
            *inner.allocs,
            self._all(self._rows(each)),
            threads(self.region, count, lambda t: self._columns(inner, t, count)),
        ]

    def _columns(self, inner: Partials, t: Expr, count: int) -> Stmt:
        """The columns of the block's queries that a thread adds up."""
        size = self.rows * self.depth
        turns = ceil_div(size, count)
        at = binary("+", binary("*", self.region.loop("i", turns), index_const(count)), t)
        row, column = delinearized(self.access.simplify(at), (self.rows, self.depth))
        row, column = self.access.simplify(row), self.access.simplify(column)
        use = self._stored if self.parts == 1 else self._left
        place = (row,) if self.rows > 1 else ()
        sums = inner.added(
            self.groups, lambda g: (*place, g), column, lambda s: use(row, column, s)
        )
        body = guarded(below(at, size, turns * count), sums)
        return For("i", turns, body) if turns > 1 else body

    def _left(self, row: Expr, column: Expr, sums: Sums) -> Stmt:
        """What a part's block leaves of a query to the second grid."""
        at = (self.part_number, row)
        once = block(
            Store(self.partials.peaks, at, sums.peak), Store(self.partials.sums, at, sums.total)
        )
        return block(
            If(binary("==", column, index_const(0)), once),
            Store(self.partials.values, (*at, column), sums.value),
        )

    def _stored(self, row: Expr, column: Expr, sums: Sums) -> Stmt:
        """A query's results in a column."""
        self.access.keep(self.root.result, lambda _: sums.mean)
        index = (self.b, *self._query(row), column)
        return block(*(
            self.region.store(which, index, self.access.at(r, index))
            for which, r in enumerate(self.region.body.outputs)
        ))  # fmt: skip
