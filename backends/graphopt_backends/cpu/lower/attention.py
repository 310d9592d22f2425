"""Attention without scores in memory: a few query rows at a time, their scores in cache.

For every batch and head K is packed once so that scores are vectors along the keys, and V where it
is read often; then, for each block of query rows: scores, softmax, product with V. Any sequence
length: a block's scores are `rows * keys` elements of per-thread scratch. Panels of keys that no
row of a block sees, because attention is causal or has a window, are left out of all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    For,
    If,
    Kernel,
    LoopKind,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    const,
    index_const,
    load,
)
from graphopt.lower.access import Source
from graphopt.lower.attention import masked, where_seen
from graphopt.lower.region import Lowered, Region
from graphopt.ops import AttentionAttrs
from graphopt.target import Target
from graphopt.tune.space import Point, Space
from graphopt_backends.cpu.lower.dots import Dots, are_faster, in_registers, lie_by_rows
from graphopt_backends.cpu.lower.packing import column, pack, packed_at
from graphopt_backends.cpu.lower.softmax import RowSoftmax, Run, whole_rows
from graphopt_backends.cpu.lower.spaces import register_space
from graphopt_backends.cpu.lower.tiles import (
    Panel,
    Shape,
    Tile,
    candidates,
    choose_tile,
    cycles,
    panels_of,
)

_FEW = 16
"""Queries of heads that share their keys, for which those are read once."""
_OFTEN = 8
"""Tiles of queries that V is packed for."""


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

    @property
    def shared(self) -> int:
        """Heads whose queries are rows of one block: those of the same keys, where all their
        queries are few, and threads have other keys to read."""
        several, alike = self.batch * self.kv_heads > 1, self.heads // self.kv_heads
        return alike if several and self.queries * alike <= _FEW else 1

    @property
    def rows(self) -> int:
        return self.queries * self.shared

    @property
    def nests(self) -> int:
        """What threads share first: a batch of heads."""
        return self.batch * self.heads // self.shared


class _Attention:
    def __init__(self, region: Region, root: Node) -> None:
        assert isinstance(root.attrs, AttentionAttrs)
        self.region, self.root, self.access = region, root, region.access
        self.attrs = root.attrs
        q, k, v = root.operands[:3]
        self.q, self.k, self.v = q, k, v
        (b, h, m, d), (_, hk, t, _), e = q.type.dims, k.type.dims, v.type.dims[-1]
        self.size = _Sizes(b, h, hk, m, t, d, e)
        self.dtype = q.type.dtype
        self.lanes = region.target.lanes_f32
        self.shape: Shape = ((self.size.rows,), min(t, e), d)
        self.tile = self._chosen_tile()
        self.keys = Buffer.dense("keys", self.dtype, (t * d,), Scope.SCRATCH)
        self.values = Buffer.dense("values", self.dtype, (t * e,), Scope.SCRATCH)
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")

    def _chosen_tile(self) -> Tile:
        """Where queries do not see all keys, wide panels and tall blocks compute much that no one
        sees."""
        target, z = self.region.target, self.size
        if self._sees_all:
            return choose_tile(self.shape, target)

        def cost(tile: Tile) -> float:
            computed = self.attrs.scores(z.queries, z.keys, tile.rows, tile.vectors * self.lanes)
            return cycles(self.shape, tile, target) * computed

        return min(candidates(self.shape, target), key=cost)

    def lowered(self) -> Lowered:
        k = self.region.kernel("attention", self._body())
        steps: list[tuple[str, Kernel]] = [("naive", k)]

        def step(name: str, kernel: Kernel) -> None:
            steps.append((name, kernel))

        if self._sums_along_features:
            k = in_registers(k)
            step("sum scores along the features", k)
        k = s.expand_accumulator(k, "acc", ("mi", "jr", "jl"))
        step("accumulate in registers", k)
        k = s.vectorize(k, "jl")
        step("vectorize", k)
        k = s.prefetch_epilogue(k, "acc", beyond=self.region.target.l2_bytes)
        step("prefetch masks", k)
        for var in ("jr", "mi"):
            k = s.unroll(k, var)
        k = s.simplify(k)
        step("unroll", k)
        return Lowered(k, {}, tuple(steps))

    def _body(self) -> Stmt:
        z = self.size
        bh, heads = self.region.loop("bh", z.nests), z.heads // z.shared
        self.b = binary("//", bh, index_const(heads))
        self.h = binary("%", bh, index_const(heads))
        self.hk = binary("//", self.h, index_const(heads // z.kv_heads))
        parts: list[Stmt] = []
        if not self._sums_along_features:
            parts += [Alloc(self.keys), self._pack_keys()]
        if self._packs_values:
            parts += [Alloc(self.values), self._pack_values()]
        return For("bh", z.nests, block(*parts, self._blocks()), LoopKind.PARALLEL)

    @property
    def _sums_along_features(self) -> bool:
        """Whether there are too few queries for K to be packed."""
        z = self.size
        few = are_faster(z.rows, z.depth, self.lanes)
        return few and lie_by_rows(self.region, self._key, z.keys, z.depth)

    @property
    def _packs_values(self) -> bool:
        """Whether V is packed, too: where it is read often, and beyond the level 1 cache, of which
        lines of a head that lie rows apart fill a part alone."""
        z = self.size
        often = z.rows >= _OFTEN * self.tile.rows
        return often and self.dtype.size_bytes * z.keys * z.width > self.region.target.l1_bytes

    def _pack_keys(self) -> Stmt:
        """keys[panel][d][column] = k[t, d]."""
        panels, depth = self._panels(self.size.keys), self.size.depth
        return pack(self.region, self.keys, panels, depth, self._key)

    def _pack_values(self) -> Stmt:
        """values[panel][t][column] = v[t, e]."""
        panels, keys = self._panels(self.size.width), self.size.keys

        def value(e: Expr, t: Expr) -> Expr:
            return self.access.at(self.v, (self.b, self.hk, t, e))

        return pack(self.region, self.values, panels, keys, value)

    def _blocks(self) -> Stmt:
        """All blocks of rows, which threads share; the last one may have fewer rows."""
        whole = self.size.rows
        rows = -(-whole // -(-whole // self.tile.rows))
        count = -(-whole // rows)
        mo, last = self.region.loop("mo", count), whole - (count - 1) * rows
        first = binary("*", mo, index_const(rows))
        body = self._block(first, rows)
        if last < rows and count == 2:
            return block(self._block(index_const(0), rows), self._block(index_const(rows), last))
        if last < rows:
            body = If(binary("<", mo, index_const(count - 1)), body, self._block(first, last))
        return For("mo", count, body, LoopKind.PARALLEL) if count > 1 else body

    def _block(self, first: Expr, rows: int) -> Stmt:
        """The `rows` rows from `first`: queries of a head, or of those that share keys."""
        scores = Buffer.dense("scores", self.dtype, (rows, self.size.keys), Scope.SCRATCH)
        sums = Buffer.dense("sums", self.dtype, (rows,), Scope.STACK)
        return block(
            Alloc(scores),
            Alloc(sums),
            *self._scores(scores, first, rows),
            self._softmax(scores, sums, first, rows),
            *self._weighted(scores, sums, first, rows),
        )

    def _where_seen(self, first: Expr, rows: int, start: Expr, keys: int, body: Stmt) -> Stmt:
        """`body` where one of `rows` rows from `first` sees one of the `keys` from `start`."""
        queries = first, binary("+", first, index_const(rows - 1))
        if self.size.shared > 1:
            queries = index_const(0), index_const(self.size.queries - 1)
        within = start, binary("+", start, index_const(keys - 1))
        return where_seen(self.access, self.root, queries, within, body)

    def _at(self, row: Expr, last: Expr) -> tuple[Expr, Expr, Expr, Expr]:
        """Batch, head and query of a row, and a key or a feature."""
        z = self.size
        if z.shared == 1:
            return self.b, self.h, row, last
        head, query = (binary(op, row, index_const(z.queries)) for op in ("//", "%"))
        head = binary("+", binary("*", self.h, index_const(z.shared)), head)
        return self.b, self.access.simplify(head), self.access.simplify(query), last

    # Scores ------------------------------------------------------------------------------------

    def _scores(self, scores: Buffer, first: Expr, rows: int) -> list[Stmt]:
        if self._sums_along_features:
            return self._sums(scores, first).nests(rows, self.size.keys, self.size.depth)
        out = []
        for p in self._panels(self.size.keys):
            jb, j, mi = self._tile_loops(p, rows)
            m, t = binary("+", first, mi), column(p, jb, j)
            d = self.region.loop("k", self.size.depth)
            acc = Buffer.dense("acc", self.dtype, (), Scope.REGISTER)
            q = self.access.at(self.q, self._at(m, d))
            at = packed_at(p, jb, d, j, self.size.depth)
            k = load(self.keys, self.access.simplify(at))
            value = masked(self.access, self.root, self._scaled(load(acc)), self._at(m, t))
            stored = Store(scores, (mi, self.access.simplify(t)), value)
            term = Store(acc, (), binary("*", q, k), reduce="+")
            tile = self._tile(p, rows, acc, [_along("k", self.size.depth, term)], [stored])
            start = column(p, jb, index_const(0))
            out.append(_along("jb", p.count, self._where_seen(first, rows, start, p.width, tile)))
        return out

    def _key(self, t: Expr, d: Expr) -> Expr:
        return self.access.at(self.k, (self.b, self.hk, t, d))

    def _sums(self, scores: Buffer, first: Expr) -> Dots:
        """Scores of the rows from `first`."""

        def stored(i: Expr, t: Expr, total: Expr) -> Stmt:
            at = self._at(binary("+", first, i), t)
            return Store(scores, (i, t), masked(self.access, self.root, self._scaled(total), at))

        def query(i: Expr, d: Expr) -> Expr:
            return self.access.at(self.q, self._at(binary("+", first, i), d))

        return Dots(self.region, query, self._key, stored)

    def _scaled(self, e: Expr) -> Expr:
        return binary("*", e, const(self.attrs.scale, self.dtype))

    # Softmax -----------------------------------------------------------------------------------

    def _softmax(self, scores: Buffer, sums: Buffer, first: Expr, rows: int) -> Stmt:
        """Of the scores that were computed."""
        panels = self._panels(self.size.keys)
        runs = [Run(p.start, p.lanes, p.width // p.lanes, p.count) for p in panels]
        if self._sees_all:
            runs = whole_rows(self.size.keys, self.lanes)

        def within(run: Run, start: Expr, body: Stmt) -> Stmt:
            return self._where_seen(first, rows, start, run.width, body)

        return RowSoftmax(self.region, scores, runs, within).into(sums)

    # Weighted sum of V -------------------------------------------------------------------------

    def _weighted(self, scores: Buffer, sums: Buffer, first: Expr, rows: int) -> list[Stmt]:
        out = []
        for p in self._panels(self.size.width):
            jb, j, mi = self._tile_loops(p, rows)
            m, e = binary("+", first, mi), column(p, jb, j)
            acc = Buffer.dense("acc", self.dtype, (), Scope.REGISTER)
            value = binary("*", load(acc), load(sums, mi))
            self.access.keep(self.root.result, _always(value))
            index = self._at(m, e)
            stored = [
                self.region.store(which, index, self.access.at(result, index))
                for which, result in enumerate(self.region.body.outputs)
            ]

            parts = []
            for keys in self._key_panels():
                kb, k = self.region.loop("kb", keys.count), self.region.loop("k", keys.width)
                t = self.access.simplify(column(keys, kb, k))
                right = self._value(p, (jb, j), t, e)
                term = Store(acc, (), binary("*", load(scores, mi, t), right), reduce="+")
                start = column(keys, kb, index_const(0))
                part = _along("k", keys.width, term)
                part = self._where_seen(first, rows, start, keys.width, part)
                parts.append(_along("kb", keys.count, part))
            out.append(_along("jb", p.count, self._tile(p, rows, acc, parts, stored)))
        return out

    def _value(self, p: Panel, at: tuple[Expr, Expr], t: Expr, e: Expr) -> Expr:
        """V at key `t` and feature `e`, which is `at` that column of a panel."""
        if not self._packs_values:
            return self.access.at(self.v, (self.b, self.hk, t, e))
        jb, j = at
        packed = packed_at(p, jb, t, j, self.size.keys)
        return load(self.values, self.access.simplify(packed))

    # Shared structure --------------------------------------------------------------------------

    @property
    def _sees_all(self) -> bool:
        return not (self.attrs.causal or self.attrs.window)

    def _panels(self, extent: int) -> list[Panel]:
        return panels_of(extent, self.tile, self.lanes)

    def _key_panels(self) -> list[Panel]:
        """What a block of queries takes or leaves of the keys."""
        keys = self.size.keys
        return [Panel(0, keys, 1, 1)] if self._sees_all else self._panels(keys)

    def _tile_loops(self, p: Panel, rows: int) -> tuple[Expr, Expr, Expr]:
        jr = self.region.loop("jr", p.width // p.lanes)
        jl = self.region.loop("jl", p.lanes)
        j = binary("+", binary("*", jr, index_const(p.lanes)), jl)
        return self.region.loop("jb", p.count), j, self.region.loop("mi", rows)

    def _tile(
        self, p: Panel, rows: int, acc: Buffer, sums: Sequence[Stmt], after: Sequence[Stmt]
    ) -> Stmt:
        """`rows` by the columns of a panel, each with an accumulator."""
        body: Stmt = block(Alloc(acc), Store(acc, (), const(0.0, self.dtype)), *sums, *after)
        for name, extent in (("jl", p.lanes), ("jr", p.width // p.lanes), ("mi", rows)):
            body = For(name, extent, body)
        return body


def _along(name: str, extent: int, body: Stmt) -> Stmt:
    return For(name, extent, body) if extent > 1 else body


def _always(value: Expr) -> Source:
    """The same expression at every index."""
    return lambda _: value
