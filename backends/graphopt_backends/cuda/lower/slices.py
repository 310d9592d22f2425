"""Slices of a product's factors on their way from memory to shared memory: through registers where
they are turned or converted, else without a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Expr,
    If,
    Let,
    Load,
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
from graphopt_backends.cuda.lower.grid import THREAD, below, both, threads, unrolled
from graphopt_backends.cuda.lower.region import GpuRegion, narrow

_PADDING_BYTES = 16
"""Between rows of a slice, so that neighbouring rows begin in different banks."""


@dataclass(frozen=True)
class Slice:
    """How the threads of a block bring a slice of one factor to shared memory.

    A slice is `extent` positions by `depth` steps of k, stored as [k][position] (`by_k`) or as
    [position][k]. A thread reads vectors of `lanes` along k (`along_k`) or along the positions:
    `read(position, k)` is an element or, where one of them is a ramp, a vector. Outside of `limits`
    (positions, k) there are zeros.
    """

    region: GpuRegion
    name: str
    dtype: DType
    extent: int
    depth: int
    by_k: bool
    lanes: int
    along_k: bool
    read: Callable[[Expr, Expr], Expr]
    limits: tuple[int, int]
    threads: int

    @property
    def vectors(self) -> int:
        return self.extent * self.depth // self.lanes

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
        rows, columns = self.extent, self.depth
        if self.by_k:
            rows, columns = columns, rows
        shape = (rows, columns + _PADDING_BYTES // self.dtype.size_bytes)
        return Buffer.dense(f"{self.name}{which}", self.dtype, shape, Scope.SHARED)

    def _place(self) -> tuple[Expr, Expr]:
        """Position and k, within the slice, of a thread's vector, the axis along which it lies
        counted in vectors."""
        u = self.region.loop("u", self.each)
        self.region.access.ranges[THREAD] = self.busy
        v = binary("+", binary("*", u, index_const(self.busy)), index_var(THREAD))
        per_row = (self.depth if self.along_k else self.extent) // self.lanes
        outer, inner = binary("//", v, index_const(per_row)), binary("%", v, index_const(per_row))
        position, k = (outer, inner) if self.along_k else (inner, outer)
        return self.region.access.simplify(position), self.region.access.simplify(k)

    def _vector(self, number: Expr) -> Expr:
        first = self.region.access.simplify(binary("*", number, index_const(self.lanes)))
        return Ramp(INDEX, self.lanes, first, 1) if self.lanes > 1 else first

    @property
    def is_direct(self) -> bool:
        """Whether vectors go from memory to shared memory as they are."""
        if self.lanes == 1 or self.along_k == self.by_k:
            return False
        p, k = self.region.loop("p", self.limits[0]), self.region.loop("k", self.limits[1])
        ramp = self._vector(index_const(0))
        return isinstance(self._element(p, ramp) if self.along_k else self._element(ramp, k), Load)

    def _element(self, position: Expr, k: Expr) -> Expr:
        return narrow(self.read(position, k), self.dtype)

    def bring(self, first: tuple[Expr, Expr], most: tuple[int, int], which: int) -> Stmt:
        """Begin to bring the slice at `first` (position, k) to shared memory, `put` ends it.
        `most`: what positions and steps of k stay below."""
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
        fetched = self._to(which, broadcast(self._element(at[0], at[1]), self.lanes))
        zero = self._to(which, const(0.0, self.dtype, self.lanes))
        condition = both(*within)
        body = block(*lets, fetched if condition is None else If(condition, fetched, zero))
        nest = unrolled("u", self.each, body)
        return threads(self.region, self.busy, lambda t: nest)

    def _to(self, which: int, vector: Expr) -> Stmt:
        """A thread's vector to shared memory, or to its registers."""
        if self.is_direct:
            return Store(self.shared(which), self._row(*self._place()), vector)
        u, lane = self.region.loop("u", self.each), self._vector(index_const(0))
        return Store(self.staged, (index_var(THREAD), u, lane), vector)

    def _row(self, p: Expr, k: Expr) -> tuple[Expr, Expr]:
        """Where a vector lies that is stored along the axis it was read along."""
        return (p, self._vector(k)) if self.along_k else (k, self._vector(p))

    def put(self, which: int) -> Stmt:
        """Store what is in registers to shared memory."""
        if self.is_direct:
            return block()
        p, k = self._place()
        u, lane = self.region.loop("u", self.each), self.region.loop("l", self.lanes)
        staged, shared = self.staged, self.shared(which)
        if self.along_k == self.by_k:  # what was read along one axis is stored across it
            element = load(staged, index_var(THREAD), u, lane)
            along = binary("*", k if self.along_k else p, index_const(self.lanes))
            along = self.region.access.simplify(binary("+", along, lane))
            body = unrolled("l", self.lanes, Store(shared, (along, p if self.by_k else k), element))
        else:
            vector = load(staged, index_var(THREAD), u, self._vector(index_const(0)))
            body = Store(shared, self._row(p, k), vector)
        nest = unrolled("u", self.each, body)
        return threads(self.region, self.busy, lambda t: nest)
