"""Attention without scores in memory: a few query rows at a time, their scores in cache.

For every batch and head K is packed once so that scores are vectors along the keys, and V where it
is read often; then, for each block of query rows: scores, softmax, product with V. Any sequence
length: a block's scores are `rows * keys` elements of per-thread scratch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    Kernel,
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
    cast,
    const,
    index_const,
    load,
    select,
)
from graphopt.lower.access import Source
from graphopt.lower.loops import chunks
from graphopt.lower.region import Lowered, Region
from graphopt.target import Target
from graphopt.tune.space import Point, Space
from graphopt_backends.cpu.lower.spaces import register_space
from graphopt_backends.cpu.lower.tiles import Panel, Shape, choose_tile, even_split, panels_of

_MASKED = -math.inf
_CHAINS = 4
"""Of maxima: each waits for the one before, for a comparison and a selection."""
_OFTEN = 8
"""Tiles of queries that V is packed for."""
_SEGMENTS = 4
"""Of the queries of causal attention: each is code of its own. Five eighths of the work is left of
what is half in the limit."""


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    attention = _attention(node, target)
    if point is not None:
        attention.tile = attention.tile.at(point)
    return attention.lowered()


def space(node: Node, target: Target) -> Space:
    attention = _attention(node, target)
    return register_space(attention.shape, target, attention.tile)


def _attention(node: Node, target: Target) -> _Attention:
    region = Region(node, target)
    root = next(n for n in region.body.nodes if n.op.name == "attention")
    return _Attention(region, root)


@dataclass(frozen=True)
class _Sizes:
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    depth: int
    width: int


class _Attention:
    def __init__(self, region: Region, root: Node) -> None:
        self.region, self.root, self.access = region, root, region.access
        q, k, v = root.operands[:3]
        self.q, self.k, self.v = q, k, v
        self.mask = root.operands[3] if len(root.operands) > 3 else None
        (b, h, m, d), (_, hk, t, _), e = q.type.dims, k.type.dims, v.type.dims[-1]
        self.size = _Sizes(b, h, hk, m, t, d, e)
        self.dtype = q.type.dtype
        self.lanes = region.target.lanes_f32
        self.shape: Shape = ((m,), min(t, e), d)
        self.tile = choose_tile(self.shape, region.target)
        self.keys = Buffer.dense("keys", self.dtype, (t * d,), Scope.SCRATCH)
        self.values = Buffer.dense("values", self.dtype, (t * e,), Scope.SCRATCH)
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")

    def lowered(self) -> Lowered:
        naive = self.region.kernel("attention", self._body())
        steps: list[tuple[str, Kernel]] = [("naive", naive)]
        k = s.expand_accumulator(naive, "acc", ("mi", "jr", "jl"))
        steps.append(("accumulate in registers", k))
        k = s.vectorize(k, "jl")
        steps.append(("vectorize", k))
        for var in ("jr", "mi"):
            k = s.unroll(k, var)
        k = s.simplify(k)
        steps.append(("unroll", k))
        return Lowered(k, {}, tuple(steps))

    def _body(self) -> Stmt:
        z = self.size
        bh = self.region.loop("bh", z.batch * z.heads)
        self.b = binary("//", bh, index_const(z.heads))
        self.h = binary("%", bh, index_const(z.heads))
        self.hk = binary("//", self.h, index_const(z.heads // z.kv_heads))
        parts = [Alloc(self.keys), self._pack_keys()]
        if self._packs_values:
            parts += [Alloc(self.values), self._pack_values()]
        for start, end, keys in self._segments():
            for rows, count in even_split(end - start, self.tile.rows):
                parts.append(self._blocks(start, rows, count, keys))
                start += rows * count
        return For("bh", z.batch * z.heads, block(*parts), LoopKind.PARALLEL)

    def _segments(self) -> list[tuple[int, int, int]]:
        """Queries [start, end) and the keys they look at: whole panels up to the last query's own
        where attention is causal, else all."""
        z, panel = self.size, self._panels(self.size.keys)[0].width
        if not self.root.attrs.causal:  # type: ignore[attr-defined]
            return [(0, z.queries, z.keys)]
        step = -(-z.queries // _SEGMENTS)
        starts = range(0, z.queries, step)
        ends = [min(start + step, z.queries) for start in starts]
        return [
            (s, e, min(z.keys, -(-e // panel) * panel)) for s, e in zip(starts, ends, strict=True)
        ]

    @property
    def _packs_values(self) -> bool:
        """Whether V is packed, too: where it is read often, and beyond the level 1 cache, of which
        lines of a head that lie rows apart fill a part alone."""
        z = self.size
        often = z.queries >= _OFTEN * self.tile.rows
        return often and self.dtype.size_bytes * z.keys * z.width > self.region.target.l1_bytes

    def _pack_keys(self) -> Stmt:
        """keys[panel][d][column] = k[t, d]."""
        return self._packed(
            self.keys, self.size.keys, self.size.depth,
            lambda t, d: self.access.at(self.k, (self.b, self.hk, t, d)),
        )  # fmt: skip

    def _pack_values(self) -> Stmt:
        """values[panel][t][column] = v[t, e]."""
        return self._packed(
            self.values, self.size.width, self.size.keys,
            lambda e, t: self.access.at(self.v, (self.b, self.hk, t, e)),
        )  # fmt: skip

    def _packed(
        self, packed: Buffer, columns: int, rows: int, element: Callable[[Expr, Expr], Expr]
    ) -> Stmt:
        """packed[panel][row][column] = element(column, row)."""
        nests: list[Stmt] = []
        for p in self._panels(columns):
            row = self.region.loop("d", rows)
            jb, j = self.region.loop("jb", p.count), self.region.loop("j", p.width)
            at = self._packed_at(p, jb, row, j, rows)
            body: Stmt = Store(packed, (at,), element(self._column(p, jb, j), row))
            for name, extent in (("j", p.width), ("d", rows), ("jb", p.count)):
                body = For(name, extent, body) if extent > 1 else body
            nests.append(body)
        return block(*nests)

    def _blocks(self, start: int, rows: int, count: int, keys: int) -> Stmt:
        """All blocks of `rows` queries from `start`, which look at the first `keys` keys."""
        mo = self.region.loop("mo", count)
        first = binary("+", binary("*", mo, index_const(rows)), index_const(start))
        scores = Buffer.dense("scores", self.dtype, (rows, keys), Scope.SCRATCH)
        sums = Buffer.dense("sums", self.dtype, (rows,), Scope.STACK)
        body = block(
            Alloc(scores),
            Alloc(sums),
            *self._scores(scores, first, rows),
            self._softmax(scores, sums, rows),
            *self._weighted(scores, sums, first, rows),
        )
        return For("mo", count, body) if count > 1 else body

    # Scores ------------------------------------------------------------------------------------

    def _scores(self, scores: Buffer, first: Expr, rows: int) -> list[Stmt]:
        out = []
        for p in self._first_panels(scores.shape[1]):
            jb, j, mi = self._tile_loops(p, rows)
            m, t = binary("+", first, mi), self._column(p, jb, j)
            d = self.region.loop("k", self.size.depth)
            acc = Buffer.dense("acc", self.dtype, (), Scope.REGISTER)
            q = self.access.at(self.q, (self.b, self.h, m, d))
            at = self._packed_at(p, jb, d, j, self.size.depth)
            k = load(self.keys, self.access.simplify(at))
            value = self._masked(self._scaled(load(acc)), m, t)
            stored = Store(scores, (mi, self.access.simplify(t)), value)
            body = self._accumulate(acc, binary("*", q, k), self.size.depth, [stored])
            out.append(self._in_tile(p, rows, body))
        return out

    def _scaled(self, e: Expr) -> Expr:
        return binary("*", e, const(self.root.attrs.scale, self.dtype))  # type: ignore[attr-defined]

    def _masked(self, e: Expr, m: Expr, t: Expr) -> Expr:
        low = const(_MASKED, self.dtype)
        if self.mask is not None:
            mask = self.access.broadcast_at(self.mask, (self.b, self.h, m, t))
            if mask.dtype is DType.BOOL:
                e = select(mask, e, low)
            else:
                e = binary("+", e, cast(mask, self.dtype))
        if self.root.attrs.causal:  # type: ignore[attr-defined]
            e = select(binary("<=", t, m), e, low)
        return e

    # Softmax -----------------------------------------------------------------------------------

    def _softmax(self, scores: Buffer, sums: Buffer, rows: int) -> Stmt:
        """Rows of exp(x - max), unnormalised; `sums` holds 1 / sum. A row that is masked
        everywhere has maximum -inf; its shift is 0, its sum 0 and its factor 0."""
        i = self.region.loop("i", rows)
        low = const(_MASKED, self.dtype)
        peak = Var(self.dtype, 1, "top")
        shift = Var(self.dtype, 1, "shift")
        zero = const(0.0, self.dtype)
        body = [
            *self._maximum(scores, i),
            Let("shift", select(binary("==", peak, low), zero, peak)),
            *self._exponentials(scores, i, shift),
        ]
        total = Var(self.dtype, 1, "total")
        inverse = select(
            binary("==", total, zero), zero, binary("/", const(1.0, self.dtype), total)
        )
        nest = block(*body, Store(sums, (i,), inverse))
        return For("i", rows, nest) if rows > 1 else nest

    def _exponentials(self, scores: Buffer, i: Expr, shift: Expr) -> list[Stmt]:
        """Each score's, in its place, and their `total`."""

        def part(acc: Buffer, lane: Expr, at: tuple[Expr, ...]) -> Stmt:
            shifted = binary("-", load(scores, *at), broadcast(shift, acc.numel))
            e = Var(self.dtype, acc.numel, "e")
            stored = Store(scores, at, e), Store(acc, (lane,), e, reduce="+")
            return block(Let("e", call("exp_flushed", shifted)), *stored)

        return self._reduced(scores, i, "+", "total", part)

    def _maximum(self, scores: Buffer, i: Expr) -> list[Stmt]:
        """`top`."""
        return self._reduced(
            scores, i, "max", "top",
            lambda acc, lane, at: Store(acc, (lane,), load(scores, *at), reduce="max"),
            chains=_CHAINS,
        )  # fmt: skip

    def _reduced(
        self,
        scores: Buffer,
        i: Expr,
        op: str,
        name: str,
        part: Callable[[Buffer, Expr, tuple[Expr, ...]], Stmt],
        chains: int = 1,
    ) -> list[Stmt]:
        """`part` accumulates a vector of scores, given the accumulator, its lanes, and where; in
        several `chains` where one would wait for itself."""
        out: list[Stmt] = []
        total: Expr | None = None
        for start, width, count in chunks(scores.shape[1], self.lanes):
            ways = chains if count >= 2 * chains else 1
            steps = count // ways
            lane: Expr = Ramp(INDEX, width, index_const(0), 1) if width > 1 else index_const(0)
            accs = [
                Buffer.dense(f"{name}{width}_{way}", self.dtype, (width,), Scope.REGISTER)
                for way in range(ways)
            ]
            initial = const(0.0 if op == "+" else _MASKED, self.dtype, width)
            for acc in accs:
                out += [Alloc(acc), Store(acc, (lane,), initial)]

            def vector(number: Expr, start: int = start, width: int = width) -> tuple[Expr, ...]:
                first = binary("+", binary("*", number, index_const(width)), index_const(start))
                return (i, Ramp(INDEX, width, first, 1) if width > 1 else first)

            x = binary("*", self.region.loop("x", steps), index_const(ways))
            body = block(*(
                part(acc, lane, vector(binary("+", x, index_const(way))))
                for way, acc in enumerate(accs)
            ))  # fmt: skip
            out.append(For("x", steps, body) if steps > 1 else body)
            left = enumerate(range(steps * ways, count))
            out += [part(accs[way], lane, vector(index_const(at))) for way, at in left]
            value = reduce(partial(binary, op), (load(acc, lane) for acc in accs))
            if width > 1:
                value = Call(self.dtype, 1, "reduce_add" if op == "+" else "reduce_max", (value,))
            total = value if total is None else binary(op, total, value)
        assert total is not None
        return [*out, Let(name, total)]

    # Weighted sum of V -------------------------------------------------------------------------

    def _weighted(self, scores: Buffer, sums: Buffer, first: Expr, rows: int) -> list[Stmt]:
        out, keys = [], scores.shape[1]
        for p in self._panels(self.size.width):
            jb, j, mi = self._tile_loops(p, rows)
            m, e = binary("+", first, mi), self._column(p, jb, j)
            t = self.region.loop("k", keys)
            acc = Buffer.dense("acc", self.dtype, (), Scope.REGISTER)
            if self._packs_values:
                at = self._packed_at(p, jb, t, j, self.size.keys)
                right = load(self.values, self.access.simplify(at))
            else:
                right = self.access.at(self.v, (self.b, self.hk, t, e))
            term = binary("*", load(scores, mi, t), right)
            value = binary("*", load(acc), load(sums, mi))
            self.access.keep(self.root.result, _always(value))
            index = (self.b, self.h, m, e)
            stored = [
                self.region.store(which, index, self.access.at(result, index))
                for which, result in enumerate(self.region.body.outputs)
            ]
            out.append(self._in_tile(p, rows, self._accumulate(acc, term, keys, stored)))
        return out

    # Shared structure --------------------------------------------------------------------------

    def _panels(self, extent: int) -> list[Panel]:
        return panels_of(extent, self.tile, self.lanes)

    def _first_panels(self, keys: int) -> list[Panel]:
        """The panels of the first `keys` keys, a whole number of them."""
        panels = self._panels(self.size.keys)
        if keys == self.size.keys:
            return panels
        return [replace(panels[0], count=keys // panels[0].width)]

    def _column(self, p: Panel, jb: Expr, j: Expr) -> Expr:
        return binary(
            "+", binary("+", binary("*", jb, index_const(p.width)), j), index_const(p.start)
        )

    def _packed_at(self, p: Panel, jb: Expr, row: Expr, j: Expr, rows: int) -> Expr:
        at = binary("+", binary("*", jb, index_const(rows)), row)
        at = binary("+", binary("*", at, index_const(p.width)), j)
        return binary("+", at, index_const(p.start * rows))

    def _tile_loops(self, p: Panel, rows: int) -> tuple[Expr, Expr, Expr]:
        jr = self.region.loop("jr", p.width // p.lanes)
        jl = self.region.loop("jl", p.lanes)
        j = binary("+", binary("*", jr, index_const(p.lanes)), jl)
        return self.region.loop("jb", p.count), j, self.region.loop("mi", rows)

    def _accumulate(self, acc: Buffer, term: Expr, depth: int, after: list[Stmt]) -> Stmt:
        inner: Stmt = Store(acc, (), term, reduce="+")
        if depth > 1:
            inner = For("k", depth, inner)
        return block(Alloc(acc), Store(acc, (), const(0.0, self.dtype)), inner, *after)

    def _in_tile(self, p: Panel, rows: int, body: Stmt) -> Stmt:
        for name, extent in (("jl", p.lanes), ("jr", p.width // p.lanes), ("mi", rows)):
            body = For(name, extent, body)
        return For("jb", p.count, body) if p.count > 1 else body


def _always(value: Expr) -> Source:
    """The same expression at every index."""
    return lambda _: value
