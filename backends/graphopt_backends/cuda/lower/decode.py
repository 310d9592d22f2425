"""Attention of a query or a few to many keys: decoding. Keys and values pass by once, from memory
to registers.

A block takes the queries of the heads that share keys, as many as its registers hold, and a part of
those keys. In it a group of neighbouring lanes takes a key at a time, 16 bytes of it each, and
keeps an online softmax of its own for every query: maximum, sum, and weighted sum of V. In the end
the groups' sums are brought to the largest maximum and added up; where keys are cut into parts, a
second grid does the same with those of the parts.
"""

from __future__ import annotations

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
from graphopt.lower.attention import MASKED, masked
from graphopt_backends.cuda.lower.decode_shape import Shape
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


class Decode(Shape):
    """What the blocks do."""

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
        return unrolled("u", self.in_flight, body)

    def _rows(self, body: Stmt) -> Stmt:
        """For each of the block's queries."""
        return unrolled("r", self.rows, body)

    def _key(self) -> Expr:
        """The key's number."""
        e, u = self.region.loop("e", self.steps), self.region.loop("u", self.in_flight)
        at = binary("+", binary("*", e, index_const(self.in_flight)), u)
        at = binary("+", binary("*", at, index_const(self.groups)), self._group())
        return self.access.simplify(binary("+", self._first_key(), at))

    def _first_key(self) -> Expr:
        part = binary("%", self.part_number, index_const(self.parts))
        return self.access.simplify(binary("*", part, index_const(self.part_keys)))

    def _inside(self, key: Expr) -> Expr | None:
        """Whether the part has such a key; None where it always has."""
        reached = self.steps * self.in_flight * self.groups
        end = binary("+", self._first_key(), index_const(self.part_keys))
        own = binary("<", key, end) if self.parts > 1 and reached > self.part_keys else None
        return both(own, below(key, self.keys, (self.parts - 1) * self.part_keys + reached))

    # Statements ----------------------------------------------------------------------------------

    def _block(self) -> Stmt:
        query, out = self._of_rows("query", self.lanes), self._of_rows("out", self.lanes)
        value = self._registers("value", self.in_flight, self.lanes)
        own, score = (self._of_rows(n, self.in_flight) for n in ("own", "score"))
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
        lane, u = self._lane(), self.region.loop("u", self.in_flight)
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
        t, u = self._thread(), self.region.loop("u", self.in_flight)
        group = binary("*", binary("//", t, index_const(self.share)), index_const(self.share))
        row = self._at()[1:]
        neighbours = load(own, Ramp(INDEX, self.share, group, 1), *row, u)
        whole: Expr = load(own, t, *row, u)
        if self.share > 1:
            whole = Call(self.dtype, 1, "reduce_add", (neighbours,))
        number = self._key()
        at = self.b, *self._query(self._row()), number
        e = masked(self.access, self.root, whole, at, beyond=True)
        inside = self._inside(number)
        if inside is not None:
            e = select(inside, e, self._number(MASKED))
        return Store(score, (t, *row, u), e)

    def _weigh(
        self, score: Buffer, value: Buffer, peak: Buffer, total: Buffer, out: Buffer
    ) -> Stmt:
        """Add keys, scaled to the new peak. Where all are masked, that is -inf: the shift is 0."""
        at, lane, u = self._at(), self._lane(), self.region.loop("u", self.in_flight)
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
