"""Matrix products and convolutions in f32 arithmetic: a tile of the result per block, a smaller one
in each thread's registers.

Slices of both factors pass through shared memory, twice two buffers of them: while a block
multiplies one pair, its threads already load the next from memory. A convolution is the product of
its windows with the filters (implicit GEMM): only how the left factor is addressed tells it apart.
The epilogue is applied to the registers. Halves become f32 on their way to shared memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    If,
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
from graphopt.kernel.visit import uses_var
from graphopt.lower.access import delinearized
from graphopt.lower.loops import fuse_axes
from graphopt.lower.products import Axes, Product
from graphopt.lower.region import Lowered, Packing
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.lower.epilogue import Epilogue
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
from graphopt_backends.cuda.lower.region import GpuRegion, widen
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import GpuTarget

Groups = tuple[tuple[str, ...], ...]

_VECTOR = 4
_DEPTH = 8
"""Steps of k of a slice."""
_PADDING = 4
"""Elements between rows of a slice, so that storing its columns meets different banks."""


@dataclass(frozen=True)
class Tile:
    """`rows` by `columns` of the result for a block, `height` by `width` of them for a thread."""

    rows: int
    columns: int
    height: int
    width: int

    @property
    def threads(self) -> int:
        return (self.rows // self.height) * (self.columns // self.width)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


TILES: tuple[tuple[Tile, float], ...] = (
    (Tile(128, 128, 8, 8), 1.0),
    (Tile(128, 64, 8, 4), 0.9),
    (Tile(64, 64, 4, 4), 0.75),
    (Tile(64, 32, 4, 4), 0.6),
    (Tile(32, 32, 2, 4), 0.45),
)
"""What a block may compute, and how much of the multiplying units' rate it reaches, about: a
thread of h by w reads h + w numbers for h * w products."""


def lower(region: GpuRegion, root: Node, product: Product, point: Point | None = None) -> Lowered:
    contraction = _Contraction(region, root, product)
    if point is not None:
        contraction.tile = next(t for t, _ in TILES if str(t) == point["tile"])
    parts = [contraction.part(), *contraction.epilogue.borders()]
    kernel = region.kernel("contraction", grid(region, parts))
    return Lowered(kernel, contraction.packings(), label=str(contraction.tile))


def space(region: GpuRegion, root: Node, product: Product) -> Space:
    tile = _Contraction(region, root, product).tile
    return Space((Parameter("tile", tuple(str(t) for t, _ in TILES), str(tile)),))


def choose_tile(batch: int, rows: int, columns: int, target: Target) -> Tile:
    """The tile of least time: waves of blocks over the device, each as long as its tile takes."""
    sms = target.sms if isinstance(target, GpuTarget) else 1

    def time(tile: Tile, rate: float) -> float:
        blocks = batch * ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns)
        return ceil_div(blocks, sms) * tile.rows * tile.columns / rate

    return min(TILES, key=lambda row: time(*row))[0]


@dataclass(frozen=True)
class Slice:
    """How the threads of a block bring a slice of one factor to shared memory.

    A slice is `extent` positions by `_DEPTH` steps of k, stored by k: [k][position]. A thread reads
    vectors of `lanes` along k (`along_k`) or along the positions: `read(position, k)` is an element
    or, where one of them is a ramp, a vector. Outside of `limits` (positions, k) there are zeros.
    """

    region: GpuRegion
    name: str
    dtype: DType
    extent: int
    lanes: int
    along_k: bool
    read: Callable[[Expr, Expr], Expr]
    limits: tuple[int, int]
    threads: int

    @property
    def vectors(self) -> int:
        return self.extent * _DEPTH // self.lanes

    @property
    def busy(self) -> int:
        """Threads that have vectors to bring."""
        return min(self.threads, self.vectors)

    @property
    def each(self) -> int:
        """Vectors of one of them."""
        return self.vectors // self.busy

    @property
    def staged(self) -> Buffer:
        shape = (self.threads, self.each, self.lanes)
        return Buffer.dense(f"{self.name}_next", self.dtype, shape, Scope.REGISTER)

    def shared(self, which: int) -> Buffer:
        shape = (_DEPTH, self.extent + _PADDING)
        return Buffer.dense(f"{self.name}{which}", self.dtype, shape, Scope.SHARED)

    def _place(self) -> tuple[Expr, Expr]:
        """Position and k, within the slice, of a thread's vector, the axis along which it lies
        counted in vectors."""
        u = self.region.loop("u", self.each)
        self.region.access.ranges[THREAD] = self.busy
        v = binary("+", binary("*", u, index_const(self.busy)), index_var(THREAD))
        per_row = (_DEPTH if self.along_k else self.extent) // self.lanes
        outer, inner = binary("//", v, index_const(per_row)), binary("%", v, index_const(per_row))
        position, k = (outer, inner) if self.along_k else (inner, outer)
        return self.region.access.simplify(position), self.region.access.simplify(k)

    def _vector(self, number: Expr) -> Expr:
        first = self.region.access.simplify(binary("*", number, index_const(self.lanes)))
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    def fetch(self, first: tuple[Expr, Expr], most: tuple[int, int]) -> Stmt:
        """Load the slice that begins at `first` (position, k) to registers. `most`: what positions
        and steps of k stay below."""
        p, k = self._place()
        at: list[Expr] = []
        lets: list[Stmt] = []
        within: list[Expr | None] = []
        for axis, (own, start) in enumerate(zip((p, k), first, strict=True)):
            lanes = self.lanes if self.along_k == (axis == 1) else 1
            name, limit = f"{self.name}_{'pk'[axis]}", self.limits[axis] // lanes
            begin = self.region.access.simplify(binary("//", start, index_const(lanes)))
            lets.append(Let(name, binary("+", begin, own)))
            self.region.access.ranges[name] = limit  # where it is used
            within.append(below(index_var(name), limit, most[axis] // lanes))
            at.append(self._vector(index_var(name)) if lanes > 1 else index_var(name))
        u, lane = self.region.loop("u", self.each), self._vector(index_const(0))
        where = (index_var(THREAD), u, lane)
        fetched = Store(self.staged, where, broadcast(self.read(at[0], at[1]), self.lanes))
        zero = Store(self.staged, where, const(0.0, self.dtype, self.lanes))
        condition = both(*within)
        body = block(*lets, fetched if condition is None else If(condition, fetched, zero))
        nest = unrolled("u", self.each, body)
        return threads(self.region, self.busy, lambda t: nest)

    def put(self, which: int) -> Stmt:
        """Store what was fetched to shared memory."""
        p, k = self._place()
        u, lane = self.region.loop("u", self.each), self.region.loop("l", self.lanes)
        staged, shared = self.staged, self.shared(which)
        if self.along_k:
            element = load(staged, index_var(THREAD), u, lane)
            row = binary("+", binary("*", k, index_const(self.lanes)), lane)
            at = self.region.access.simplify(row)
            body = unrolled("l", self.lanes, Store(shared, (at, p), element))
        else:
            vector = load(staged, index_var(THREAD), u, self._vector(index_const(0)))
            body = Store(shared, (k, self._vector(p)), vector)
        nest = unrolled("u", self.each, body)
        return threads(self.region, self.busy, lambda t: nest)


class _Contraction:
    def __init__(self, region: GpuRegion, root: Node, product: Product) -> None:
        self.region, self.root, self.product = region, root, product
        self.epilogue = Epilogue(region, root, product)
        self.dtype = root.result.type.dtype
        self.k_axes = [(n, e) for n, e in product.reduced if e > 1] or list(product.reduced[-1:])
        self.batch = [(n, e) for n, e in product.positions if e > 1 and self._is_batch(n)]
        names = {n for n, _ in self.batch}
        self.m_axes = [(n, e) for n, e in product.positions if e > 1 and n not in names]
        self.rows = math.prod(e for _, e in self.m_axes)
        self.depth = math.prod(e for _, e in self.k_axes)
        self.columns = product.channels
        self.m_groups, self.k_groups = self._fused()
        batch = math.prod(e for _, e in self.batch)
        self.tile = choose_tile(batch, self.rows, self.columns, region.target)

    def _is_batch(self, name: str) -> bool:
        """Whether the right factor depends on a position."""
        if self.product.weight is not None or self.product.right is None:
            return name == "g"
        m = {n: self.region.loop(n, e) for n, e in self.product.positions}
        k = {n: self.region.loop(n, e) for n, e in self.product.reduced}
        right = self.product.right(m, self.region.loop("column", self.product.channels), k)
        return uses_var(right, name)

    # Axes ----------------------------------------------------------------------------------------

    def _fused(self) -> tuple[Groups, Groups]:
        """Axes of positions and of k that lie adjacent in the left factor and the result."""
        extents = dict((*self.product.positions, *self.product.reduced))

        def touch(m_groups: Groups, k_groups: Groups) -> Stmt:
            m, k = self._zeros(), self._zeros()
            for axes, groups in ((m, m_groups), (k, k_groups)):
                for group in groups:
                    name = "_".join(group)
                    var = self.region.loop(name, math.prod(extents[a] for a in group))
                    parts = delinearized(var, [extents[a] for a in group])
                    axes.update(zip(group, parts, strict=True))
            n = self.region.loop("column", self.columns)
            return self.epilogue.stores(self.product.left(m, n, k), m, n)

        m_names, k_names = [n for n, _ in self.m_axes], [n for n, _ in self.k_axes]
        alone = tuple((k,) for k in k_names)
        m_groups = fuse_axes(m_names, lambda g: touch(g, alone))
        return m_groups, fuse_axes(k_names, lambda g: touch(m_groups, g))

    def _zeros(self) -> Axes:
        return {n: index_const(0) for n, _ in (*self.product.positions, *self.product.reduced)}

    def _axes(self, position: Expr, groups: Groups, axes: list[tuple[str, int]]) -> Axes:
        """Indices of the axes at a position that counts through all of them."""
        extents = dict(axes)
        sizes = [math.prod(extents[a] for a in g) for g in groups]
        out: Axes = {}
        for group, at in zip(groups, delinearized(position, sizes), strict=True):
            parts = delinearized(at, [extents[a] for a in group])
            out.update(zip(group, parts, strict=True))
        return out

    def _m(self, row: Expr) -> Axes:
        return {**self._zeros(), **self.batch_index, **self._axes(row, self.m_groups, self.m_axes)}

    def _k(self, k: Expr) -> Axes:
        return {**self._zeros(), **self._axes(k, self.k_groups, self.k_axes)}

    # Factors -------------------------------------------------------------------------------------

    def _left(self) -> Slice:
        def read(row: Expr, k: Expr) -> Expr:
            return self.product.left(self._m(row), index_const(0), self._k(k))

        limits = self.rows, self.depth
        lanes, along_k = self._direction(read, limits, k_first=True)
        return Slice(self.region, "left", self.dtype, self.tile.rows, lanes, along_k, read, limits,
                     self.tile.threads)  # fmt: skip

    def _right(self) -> Slice:
        limits = self.columns, self.depth
        if self.product.weight is not None:
            read, limits = self._packed, self._packed_shape()
            lanes, along_k = _VECTOR, False
        else:
            right = self.product.right
            assert right is not None

            def read(n: Expr, k: Expr) -> Expr:
                return right({**self._zeros(), **self.batch_index}, n, self._k(k))

            lanes, along_k = self._direction(read, limits, k_first=False)
        tile = self.tile
        return Slice(self.region, "right", self.dtype, tile.columns, lanes, along_k, read, limits,
                     tile.threads)  # fmt: skip

    def _direction(
        self, read: Callable[[Expr, Expr], Expr], limits: tuple[int, int], *, k_first: bool
    ) -> tuple[int, bool]:
        """Vectors along which axis lie contiguous, and of how many lanes; single elements along the
        likelier one where none do."""
        positions, depth = limits
        p, k = self.region.loop("p", positions), self.region.loop("k", depth)
        for along_k in (True, False):
            lanes = math.gcd(_VECTOR, depth if along_k else positions)
            ramp = Ramp(INDEX, lanes, binary("*", index_var("w"), index_const(lanes)), 1)
            self.region.access.ranges["w"] = (depth if along_k else positions) // lanes
            if lanes > 1 and is_contiguous(read(p, ramp) if along_k else read(ramp, k)):
                return lanes, along_k
        return 1, k_first

    def _packed_shape(self) -> tuple[int, int]:
        """Columns and k of the packed weights, filled up with zeros."""
        return (ceil_div(self.columns, _VECTOR) * _VECTOR, ceil_div(self.depth, _DEPTH) * _DEPTH)

    def _packed(self, n: Expr, k: Expr) -> Expr:
        """[group][k][n]."""
        assert self.product.weight is not None
        columns, depth = self._packed_shape()
        group = self.batch_index.get("g", index_const(0))
        at = binary("+", binary("*", group, index_const(depth)), k)
        at = binary("+", binary("*", at, index_const(columns)), n)
        buffer = self.region.inputs[self.product.weight.operand]
        return widen(load(buffer, self.region.access.simplify(at)))

    def packings(self) -> dict[int, Packing]:
        weight = self.product.weight
        if weight is None:
            return {}
        columns, depth = self._packed_shape()
        groups = dict(self.batch).get("g", 1)

        def pack(array: np.ndarray) -> np.ndarray:
            matrix = weight.matrix(array)
            matrix = matrix.reshape(groups, *matrix.shape[-2:])
            more = [(0, 0), (0, depth - matrix.shape[1]), (0, columns - matrix.shape[2])]
            return np.ascontiguousarray(np.pad(matrix, more))

        key = f"rows_{self.root.op.name}_{zlib.crc32(repr(self.root.attrs).encode()):08x}"
        return {weight.operand: Packing(key, groups * depth * columns, pack)}

    # Structure -----------------------------------------------------------------------------------

    def part(self) -> Part:
        tile = self.tile
        if self.product.weight is not None:
            self.region.resize(self.product.weight.operand, self._packed_size())
        down, right = ceil_div(self.rows, tile.rows), ceil_div(self.columns, tile.columns)
        extents = [e for _, e in self.batch]

        def body(b: Expr) -> Stmt:
            *outer, i, j = delinearized(b, [*extents, down, right])
            self.batch_index = {
                n: self.region.access.simplify(x)
                for (n, _), x in zip(self.batch, outer, strict=True)
            }
            self.first_row = self._times(i, tile.rows)
            self.first_column = self._times(j, tile.columns)
            return self._block()

        return Part(math.prod(extents) * down * right, body)

    def _packed_size(self) -> int:
        columns, depth = self._packed_shape()
        return dict(self.batch).get("g", 1) * columns * depth

    def _times(self, e: Expr, factor: int) -> Expr:
        return self.region.access.simplify(binary("*", e, index_const(factor)))

    def _block(self) -> Stmt:
        tile, t = self.tile, index_var(THREAD)
        shape = (tile.threads, tile.height, tile.width // _VECTOR, _VECTOR)
        self.acc = Buffer.dense("acc", self.dtype, shape, Scope.REGISTER)
        self.slices = a, b = self._left(), self._right()
        i, q = self._tile_loops()
        zero = Store(self.acc, (t, i, q, _lanes()), const(0.0, self.dtype, _VECTOR))
        count = ceil_div(self.depth, _DEPTH)
        s = self.region.loop("s", ceil_div(count, 2))
        first = [*self._fetch(index_const(0)), a.put(0), b.put(0)]
        steps = [self._step(s, 0), self._step(s, 1)]
        if count % 2:
            steps[1] = guarded(below(_next(s, 1), count, count + 1), steps[1])
        return block(
            *(Alloc(x.shared(which)) for x in self.slices for which in (0, 1)),
            Alloc(self.acc),
            *(Alloc(x.staged) for x in self.slices),
            threads(self.region, tile.threads, lambda t: self._over_tile(zero)),
            *first,
            For("s", ceil_div(count, 2), block(*steps)),
            threads(self.region, tile.threads, lambda t: self._results()),
        )

    def _step(self, s: Expr, which: int) -> Stmt:
        """Multiply one pair of slices while the next one is on its way."""
        a, b = self.slices
        after = binary("*", _next(s, which + 1), index_const(_DEPTH))
        count = self.tile.threads
        return block(
            *self._fetch(self.region.access.simplify(after)),
            threads(self.region, count, lambda t: self._multiply(a.shared(which), b.shared(which))),
            a.put(1 - which),
            b.put(1 - which),
        )

    def _fetch(self, start: Expr) -> list[Stmt]:
        a, b = self.slices
        tile = self.tile
        down, right = ceil_div(self.rows, tile.rows), ceil_div(self.columns, tile.columns)
        steps = (ceil_div(self.depth, _DEPTH) + 2) * _DEPTH
        if start == index_const(0):
            steps = _DEPTH
        return [
            a.fetch((self.first_row, start), (down * tile.rows, steps)),
            b.fetch((self.first_column, start), (right * tile.columns, steps)),
        ]

    # A thread's tile -----------------------------------------------------------------------------

    def _tile_loops(self) -> tuple[Expr, Expr]:
        q = self.region.loop("q", self.tile.width // _VECTOR)
        return self.region.loop("i", self.tile.height), q

    def _over_tile(self, body: Stmt) -> Stmt:
        inner = unrolled("q", self.tile.width // _VECTOR, body)
        return unrolled("i", self.tile.height, inner)

    def _row(self) -> Expr:
        """A thread's first row in the tile."""
        across = self.tile.columns // self.tile.width
        return self._times(binary("//", index_var(THREAD), index_const(across)), self.tile.height)

    def _column(self, q: Expr) -> Expr:
        """Where a thread's vector of columns begins; neighbours have neighbouring ones."""
        across = self.tile.columns // self.tile.width
        x = binary("*", binary("%", index_var(THREAD), index_const(across)), index_const(_VECTOR))
        return self.region.access.simplify(
            binary("+", binary("*", q, index_const(across * _VECTOR)), x)
        )

    def _multiply(self, a: Buffer, b: Buffer) -> Stmt:
        tile, t = self.tile, index_var(THREAD)
        kk = self.region.loop("kk", _DEPTH)
        i, q = self._tile_loops()
        width = min(tile.height, _VECTOR)
        h = self.region.loop("h", tile.height // width)
        left = Buffer.dense("x", self.dtype, (tile.height,), Scope.REGISTER)
        right = Buffer.dense("w", self.dtype, (tile.width // _VECTOR, _VECTOR), Scope.REGISTER)
        part = binary("*", h, index_const(width))
        rows = Ramp(INDEX, width, binary("+", self._row(), part), 1)
        columns = Ramp(INDEX, _VECTOR, self._column(q), 1)
        term = binary("*", broadcast(load(left, i), _VECTOR), load(right, q, _lanes()))
        body = block(
            Alloc(left),
            unrolled("h", tile.height // width,
                     Store(left, (Ramp(INDEX, width, part, 1),), load(a, kk, rows))),
            Alloc(right),
            unrolled("q", tile.width // _VECTOR,
                     Store(right, (q, _lanes()), load(b, kk, columns))),
            self._over_tile(Store(self.acc, (t, i, q, _lanes()), term, "+")),
        )  # fmt: skip
        return For("kk", _DEPTH, body, LoopKind.UNROLL)

    def _results(self) -> Stmt:
        """The epilogue on a thread's registers, in vectors where columns come in such."""
        tile, t = self.tile, index_var(THREAD)
        i, q = self._tile_loops()
        lanes = _VECTOR if self.columns % _VECTOR == 0 else 1
        single = self.region.loop("l", _VECTOR // lanes)
        row = binary("+", binary("+", self.first_row, self._row()), i)
        column = binary("+", binary("+", self.first_column, self._column(q)), single)
        down, right = ceil_div(self.rows, tile.rows), ceil_div(self.columns, tile.columns)
        limits = {"row": self.rows, "column": self.columns // lanes}  # counted in vectors
        self.region.access.ranges.update(limits)  # where they are used
        n: Expr = binary("*", index_var("column"), index_const(lanes))
        n = Ramp(INDEX, lanes, n, 1) if lanes > 1 else n
        value = load(self.acc, t, i, q, _lanes() if lanes > 1 else single)
        inside = both(
            below(index_var("row"), limits["row"], down * tile.rows),
            below(index_var("column"), limits["column"], right * tile.columns // lanes),
        )
        column = self.region.access.simplify(binary("//", column, index_const(lanes)))
        body = block(
            Let("row", row),
            Let("column", column),
            guarded(inside, self.epilogue.stores(value, self._m(index_var("row")), n)),
        )
        return self._over_tile(unrolled("l", _VECTOR // lanes, body))


def _lanes() -> Expr:
    return Ramp(INDEX, _VECTOR, index_const(0), 1)


def _next(s: Expr, more: int) -> Expr:
    """The number of a slice: two belong to every step of the loop."""
    return binary("+", binary("*", s, index_const(2)), index_const(more))
