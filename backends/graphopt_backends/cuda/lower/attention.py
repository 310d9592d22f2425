"""Attention without scores in memory: a block of query rows passes over the keys, tile by tile.

The softmax is computed online: a row keeps its maximum so far, its sum and its weighted sum of V,
and what came before is scaled down whenever the maximum grows. Half a warp shares a row. Tiles that
a causal mask hides are skipped. Halves become f32 on their way to shared memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    cast,
    const,
    index_const,
    index_var,
    load,
    select,
)
from graphopt.lower.access import Source, delinearized
from graphopt.lower.region import Lowered
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
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
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import GpuTarget

_THREADS = 128
_ACROSS = 16
"""Threads that share a row of scores."""
_DOWN = _THREADS // _ACROSS
_PADDING = 4
"""Elements between rows in shared memory, so that neighbouring rows begin in different banks."""
_MASKED = -math.inf


@dataclass(frozen=True)
class Tile:
    """`height` rows of scores for each thread, and `width` columns of them."""

    height: int
    width: int

    @property
    def rows(self) -> int:
        """Queries of a block."""
        return self.height * _DOWN

    @property
    def keys(self) -> int:
        return self.width * _ACROSS

    def __str__(self) -> str:
        return f"{self.rows}x{self.keys}"


_TILES = tuple(Tile(h, w) for h in (8, 4, 2, 1) for w in (4, 2))


@dataclass(frozen=True)
class _Sizes:
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    depth: int
    width: int


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    attention = _attention(node, target)
    if point is not None:
        attention.tile = next(t for t in _TILES if str(t) == point["tile"])
    region = attention.region
    return Lowered(
        region.kernel("attention", grid(region, [attention.part()])), label=str(attention.tile)
    )


def space(node: Node, target: Target) -> Space:
    attention = _attention(node, target)
    fitting = tuple(str(t) for t in _TILES if attention.fits(t))
    return Space((Parameter("tile", fitting, str(attention.tile)),))


def _attention(node: Node, target: Target) -> _Attention:
    region = GpuRegion(node, target)
    root = next(n for n in region.body.nodes if n.op.name == "attention")
    return _Attention(region, root)


class _Attention:
    def __init__(self, region: GpuRegion, root: Node) -> None:
        self.region, self.root, self.access = region, root, region.access
        self.q, self.k, self.v = root.operands[:3]
        self.mask = root.operands[3] if len(root.operands) > 3 else None
        (b, h, m, d), (_, hk, t, _) = self.q.type.dims, self.k.type.dims
        self.size = _Sizes(b, h, hk, m, t, d, self.v.type.dims[-1])
        self.dtype = root.result.type.dtype
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")
        self.lanes = next(n for n in (4, 2, 1) if self.size.width % (n * _ACROSS) == 0 or n == 1)
        self.chunks = ceil_div(self.size.width, self.lanes * _ACROSS)
        self.tile = self._usual()

    def _usual(self) -> Tile:
        """As many rows as there are, and as registers and shared memory hold."""
        most = 8 if self.chunks * self.lanes <= 4 else 4
        need = min(most, ceil_div(self.size.queries, _DOWN))
        heights = [h for h in (8, 4, 2, 1) if h <= most and (h < 2 * need or h == 1)]
        return next(t for t in _TILES if t.height in heights and self.fits(t))

    def fits(self, tile: Tile) -> bool:
        limit = self.region.target.shared_bytes if isinstance(self.region.target, GpuTarget) else 0
        need = sum(b.numel for b in self._shared(tile)) * self.dtype.size_bytes
        return need <= limit or tile == _TILES[-1]

    # Memory --------------------------------------------------------------------------------------

    def _shared(self, tile: Tile) -> tuple[Buffer, Buffer, Buffer, Buffer]:
        """Queries, keys, values and weights, a row of each padded."""
        wide = self.chunks * self.lanes * _ACROSS
        shapes = {"q": (tile.rows, self.size.depth), "k": (tile.keys, self.size.depth),
                  "v": (tile.keys, wide), "p": (tile.rows, tile.keys)}  # fmt: skip
        q, k, v, p = (
            Buffer.dense(n, self.dtype, (rows, columns + _PADDING), Scope.SHARED)
            for n, (rows, columns) in shapes.items()
        )
        return q, k, v, p

    def _registers(self, name: str, *shape: int) -> Buffer:
        return Buffer.dense(name, self.dtype, (_THREADS, *shape), Scope.REGISTER)

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
        self.qs, self.ks, self.vs, self.ps = shared = self._shared(tile)
        self.scores = self._registers("score", tile.height, tile.width)
        self.out = self._registers("out", tile.height, self.chunks, self.lanes)
        rows = (self._registers(n, tile.height) for n in ("peak", "own", "top", "sum", "total"))
        self.peak, self.own, self.top, self.sum, self.total = rows
        registers = (self.scores, self.out, self.peak, self.own, self.top, self.sum, self.total)
        tiles = ceil_div(z.keys, tile.keys)
        n = self.region.loop("n", tiles)
        self.start = self.access.simplify(binary("*", n, index_const(tile.keys)))
        step = block(*self._step())
        total = self._put(self.total, self._over_row("reduce_add", self.sum))
        if self.root.attrs.causal and tiles > 1:  # type: ignore[attr-defined]
            last = binary("+", self.first, index_const(tile.rows - 1))
            step = If(binary("<=", self.start, last), step)
        return block(
            *map(Alloc, (*shared, *registers)),
            self._bring(self.qs, self.q, (self.b, self.h), self.first, z.queries, z.depth),
            self._all(self._initial()),
            For("n", tiles, step) if tiles > 1 else step,
            self._all(self._each_row(total)),
            self._all(self._results()),
        )

    def _step(self) -> list[Stmt]:
        """One tile of keys."""
        z, at = self.size, (self.b, self.hk)
        return [
            self._bring(self.ks, self.k, at, self.start, z.keys, z.depth),
            self._bring(self.vs, self.v, at, self.start, z.keys, z.width),
            self._all(self._multiply_keys()),
            self._all(self._each_row(self._finish_scores())),
            self._all(self._each_row(self._put(self.top, self._over_row("reduce_max", self.own)))),
            self._all(self._each_row(self._weigh())),
            self._all(self._multiply_values()),
        ]

    def _all(self, body: Stmt) -> Stmt:
        return threads(self.region, _THREADS, lambda t: body)

    def _bring(
        self, to: Buffer, value: Value, at: tuple[Expr, Expr], first: Expr, extent: int, width: int
    ) -> Stmt:
        """Rows of a factor to shared memory; zeros where there are none."""
        rows, wide = to.shape[0], to.shape[1] - _PADDING
        x = self.region.loop("x", extent)
        lanes = math.gcd(4, width)
        ramp = Ramp(INDEX, lanes, index_const(0), 1)
        if lanes > 1 and not is_contiguous(self.access.at(value, (*at, x, ramp))):
            lanes = 1
        per_row = ceil_div(wide, lanes)
        vectors = rows * per_row
        each = ceil_div(vectors, _THREADS)
        u = self.region.loop("u", each)
        self.access.ranges[THREAD] = _THREADS
        at_vector = binary("+", binary("*", u, index_const(_THREADS)), index_var(THREAD))
        self.access.ranges["i"] = vectors  # where it is used
        row = self.access.simplify(binary("//", index_var("i"), index_const(per_row)))
        column = binary("%", index_var("i"), index_const(per_row))
        column = self.access.simplify(binary("*", column, index_const(lanes)))
        self.access.ranges["x"] = extent  # where it is used
        place: Expr = Ramp(INDEX, lanes, column, 1) if lanes > 1 else column
        inside = both(
            below(index_var("x"), extent, ceil_div(extent, rows) * rows),
            below(column, width, wide),
        )
        element = broadcast(self.access.at(value, (*at, index_var("x"), place)), lanes)
        bring: Stmt = Store(to, (row, place), element)
        if inside is not None:
            bring = If(inside, bring, Store(to, (row, place), const(0.0, self.dtype, lanes)))
        body = block(Let("x", self.access.simplify(binary("+", first, row))), bring)
        within = below(index_var("i"), vectors, each * _THREADS)
        kind = LoopKind.UNROLL if each <= 8 else LoopKind.SERIAL
        step = block(Let("i", self.access.simplify(at_vector)), guarded(within, body))
        return self._all(For("u", each, step, kind) if each > 1 else step)

    # A thread's rows and columns -----------------------------------------------------------------

    def _i(self) -> Expr:
        return self.region.loop("i", self.tile.height)

    def _j(self) -> Expr:
        return self.region.loop("j", self.tile.width)

    def _c(self) -> Expr:
        return self.region.loop("c", self.chunks)

    def _thread(self) -> Expr:
        self.access.ranges[THREAD] = _THREADS
        return index_var(THREAD)

    def _row(self) -> Expr:
        """A row of the tile: neighbouring halves of warps have neighbouring ones."""
        down = binary("//", self._thread(), index_const(_ACROSS))
        return self.access.simplify(binary("+", binary("*", self._i(), index_const(_DOWN)), down))

    def _key(self) -> Expr:
        """A column of the tile's scores."""
        across = binary("%", self._thread(), index_const(_ACROSS))
        return self.access.simplify(
            binary("+", binary("*", self._j(), index_const(_ACROSS)), across)
        )

    def _column(self) -> Expr:
        """A vector of columns of V."""
        across = binary("%", self._thread(), index_const(_ACROSS))
        vector = binary("+", binary("*", self._c(), index_const(_ACROSS)), across)
        first = self.access.simplify(binary("*", vector, index_const(self.lanes)))
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    def _lane(self) -> Expr:
        return Ramp(INDEX, self.lanes, index_const(0), 1) if self.lanes > 1 else index_const(0)

    def _each_row(self, body: Stmt) -> Stmt:
        return unrolled("i", self.tile.height, body)

    def _each_column(self, body: Stmt) -> Stmt:
        return unrolled("c", self.chunks, body)

    def _put(self, registers: Buffer, value: Expr, reduce: str = "") -> Stmt:
        return Store(registers, (self._thread(), self._i()), value, reduce)

    def _get(self, registers: Buffer) -> Expr:
        return load(registers, self._thread(), self._i())

    def _over_row(self, name: str, registers: Buffer) -> Expr:
        """Reduced over the threads that share a row."""
        group = binary("//", self._thread(), index_const(_ACROSS))
        group = binary("*", group, index_const(_ACROSS))
        shared = load(registers, Ramp(INDEX, _ACROSS, group, 1), self._i())
        return Call(self.dtype, 1, name, (shared,))

    def _number(self, value: float, lanes: int = 1) -> Expr:
        return const(value, self.dtype, lanes)

    # Statements ----------------------------------------------------------------------------------

    def _initial(self) -> Stmt:
        at = (self._thread(), self._i(), self._c(), self._lane())
        return self._each_row(block(
            self._put(self.peak, self._number(_MASKED)),
            self._put(self.sum, self._number(0.0)),
            self._each_column(Store(self.out, at, self._number(0.0, self.lanes))),
        ))  # fmt: skip

    def _multiply_keys(self) -> Stmt:
        """score[i][j] = sum over d of q[row i][d] * k[key j][d]."""
        tile = self.tile
        lanes = math.gcd(4, self.size.depth)
        steps = self.size.depth // lanes
        d, lane = self.region.loop("d", steps), self.region.loop("l", lanes)
        first = self.access.simplify(binary("*", d, index_const(lanes)))
        along: Expr = Ramp(INDEX, lanes, first, 1) if lanes > 1 else first
        whole: Expr = Ramp(INDEX, lanes, index_const(0), 1) if lanes > 1 else index_const(0)
        x = Buffer.dense("x", self.dtype, (tile.height, lanes), Scope.REGISTER)
        w = Buffer.dense("w", self.dtype, (tile.width, lanes), Scope.REGISTER)
        i, j, t = self._i(), self._j(), self._thread()
        term = binary("*", load(x, i, lane), load(w, j, lane))
        body = block(
            Alloc(x),
            self._each_row(Store(x, (i, whole), load(self.qs, self._row(), along))),
            Alloc(w),
            unrolled("j", tile.width, Store(w, (j, whole), load(self.ks, self._key(), along))),
            self._each_row(unrolled("j", tile.width, unrolled(
                "l", lanes, Store(self.scores, (t, i, j), term, "+")))),
        )  # fmt: skip
        zero = Store(self.scores, (t, i, j), self._number(0.0))
        return block(
            self._each_row(unrolled("j", tile.width, zero)),
            For("d", steps, body) if steps > 1 else body,
        )

    def _finish_scores(self) -> Stmt:
        """Scale and masks; the largest of a thread's scores."""
        t, i, j = self._thread(), self._i(), self._j()
        m = self.access.simplify(binary("+", self.first, self._row()))
        key = self.access.simplify(binary("+", self.start, self._key()))
        scaled = binary("*", load(self.scores, t, i, j), self._number(self.root.attrs.scale))  # type: ignore[attr-defined]
        return block(
            self._put(self.own, self._number(_MASKED)),
            unrolled("j", self.tile.width, block(
                Store(self.scores, (t, i, j), self._masked(scaled, m, key)),
                self._put(self.own, load(self.scores, t, i, j), "max"),
            )),
        )  # fmt: skip

    def _masked(self, e: Expr, m: Expr, key: Expr) -> Expr:
        z, low = self.size, self._number(_MASKED)
        if self.mask is not None:
            at = (self.b, self.h, _at_most(m, z.queries - 1), _at_most(key, z.keys - 1))
            mask = self.access.broadcast_at(self.mask, at)
            if mask.dtype is DType.BOOL:
                e = select(mask, e, low)
            else:
                e = binary("+", e, cast(mask, self.dtype))
        if self.root.attrs.causal:  # type: ignore[attr-defined]
            e = select(binary("<=", key, m), e, low)
        if z.keys % self.tile.keys:
            e = select(binary("<", key, index_const(z.keys)), e, low)
        return e

    def _weigh(self) -> Stmt:
        """From scores to weights, exp(score - peak); what came before is scaled to the new peak.
        A row that is masked everywhere has the peak -inf: its shift is 0, and so are its weights.
        """
        t, i, j, c = self._thread(), self._i(), self._j(), self._c()
        peak, shift, scale = (Var(self.dtype, 1, n) for n in ("row_peak", "shift", "scale"))
        none = binary("==", peak, self._number(_MASKED))
        weight = call("exp", binary("-", load(self.scores, t, i, j), shift))
        out = (t, i, c, self._lane())
        scaled = binary("*", load(self.out, *out), broadcast(scale, self.lanes))
        return block(
            Let("row_peak", binary("max", self._get(self.peak), self._get(self.top))),
            Let("shift", select(none, self._number(0.0), peak)),
            Let("scale", call("exp", binary("-", self._get(self.peak), shift))),
            self._put(self.peak, peak),
            self._put(self.sum, scale, "*"),
            self._each_column(Store(self.out, out, scaled)),
            unrolled("j", self.tile.width, block(
                Let("weight", weight),
                self._put(self.sum, Var(self.dtype, 1, "weight"), "+"),
                Store(self.ps, (self._row(), self._key()), Var(self.dtype, 1, "weight")),
            )),
        )  # fmt: skip

    def _multiply_values(self) -> Stmt:
        """out[i][c] += weight[row i][key] * v[key][column c], four keys at a time."""
        tile, group = self.tile, 4
        keys, key = self.region.loop("key", tile.keys // group), self.region.loop("l", group)
        first = self.access.simplify(binary("*", keys, index_const(group)))
        i, c, t = self._i(), self._c(), self._thread()
        x = Buffer.dense("x", self.dtype, (tile.height, group), Scope.REGISTER)
        w = Buffer.dense("w", self.dtype, (self.lanes,), Scope.REGISTER)
        row = self.access.simplify(binary("+", first, key))
        term = binary("*", broadcast(load(x, i, key), self.lanes), load(w, self._lane()))
        whole = Ramp(INDEX, group, index_const(0), 1)
        body = block(
            Alloc(x),
            self._each_row(
                Store(x, (i, whole), load(self.ps, self._row(), Ramp(INDEX, group, first, 1)))
            ),
            unrolled("l", group, self._each_column(block(
                Alloc(w),
                Store(w, (self._lane(),), load(self.vs, row, self._column())),
                self._each_row(Store(self.out, (t, i, c, self._lane()), term, "+")),
            ))),
        )  # fmt: skip
        return For("key", tile.keys // group, body)

    def _results(self) -> Stmt:
        z, t, i, c = self.size, self._thread(), self._i(), self._c()
        total = Var(self.dtype, 1, "row_total")
        none = binary("==", total, self._number(0.0))
        inverse = select(none, self._number(0.0), binary("/", self._number(1.0), total))
        value = binary(
            "*", load(self.out, t, i, c, self._lane()),
            broadcast(Var(self.dtype, 1, "inverse"), self.lanes),
        )  # fmt: skip
        self.access.keep(self.root.result, _always(value))
        rows = ceil_div(z.queries, self.tile.rows) * self.tile.rows
        self.access.ranges["m"] = z.queries  # where it is used
        column = self._column()
        index = (self.b, self.h, index_var("m"), column)
        stores = [
            self.region.store(which, index, broadcast(self.access.at(result, index), self.lanes))
            for which, result in enumerate(self.region.body.outputs)
        ]
        first = column.base if isinstance(column, Ramp) else column
        wide = self.chunks * self.lanes * _ACROSS
        body = self._each_column(guarded(below(first, z.width, wide), block(*stores)))
        m = self.access.simplify(binary("+", self.first, self._row()))
        return self._each_row(block(
            Let("row_total", self._get(self.total)),
            Let("inverse", inverse),
            Let("m", m),
            guarded(below(index_var("m"), z.queries, rows), body),
        ))  # fmt: skip


def _at_most(i: Expr, last: int) -> Expr:
    return binary("min", i, index_const(last))


def _always(value: Expr) -> Source:
    """The same expression at every index."""
    return lambda _: value
