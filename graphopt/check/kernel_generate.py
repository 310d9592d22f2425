"""Random kernels: what a kernel pass may meet. Every one verifies, and reads nothing unwritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from graphopt.check.generate import Chooser, Drawn, Seeded
from graphopt.ir.types import DType
from graphopt.kernel.intrinsics import INTRINSICS
from graphopt.kernel.ir import (
    COMPARISONS,
    INDEX,
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Kernel,
    Let,
    LoopKind,
    Prefetch,
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

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

T = TypeVar("T")
_LANES = (1, 1, 2, 4, 8)
_TAME = ("exp", "tanh", "sigmoid", "logistic_cdf", "erf", "abs", "floor", "sin", "cos")
_ARITHMETIC = ("+", "-", "*", "min", "max")
_SMALL = 89  # integers stay below: products of them overflow nothing


def random_kernel(seed: int, *, floats: bool = True, size: int = 4) -> Kernel:
    """The same seed gives the same kernel. `floats`: f32 and f64 besides integers and bool; `size`:
    how many nests, and how deep they are."""
    return _Builder(Seeded(seed), floats, size).kernel()


def kernels(*, floats: bool = True, size: int = 4) -> SearchStrategy[Kernel]:
    """A hypothesis strategy of such kernels."""
    from hypothesis import strategies as st

    @st.composite
    def build(draw: DrawFn) -> Kernel:
        return _Builder(Drawn(draw), floats, size).kernel()

    return build()


@dataclass
class _Builder:
    """Draws statements inside `loops` (name → extent) over `buffers`."""

    chooser: Chooser
    floats: bool
    size: int
    loops: dict[str, int] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    lets: list[Var] = field(default_factory=list)
    names: int = 0

    # Choosing ----------------------------------------------------------------------------------

    def choice(self, options: Sequence[T]) -> T:
        return options[self.chooser.integer(0, len(options) - 1)]

    def chance(self, percent: int) -> bool:
        return self.chooser.integer(0, 99) >= 100 - percent

    # Structure ---------------------------------------------------------------------------------

    def kernel(self) -> Kernel:
        inputs = [self._buffer(f"in{i}") for i in range(self.chooser.integer(1, 3))]
        self.outputs = [self._buffer(f"out{i}") for i in range(self.chooser.integer(1, 2))]
        self.buffers = inputs
        first = [self._fill(b) for b in self.outputs]
        count = self.chooser.integer(1, self.size)
        nests = [self._nest(self.chooser.integer(1, 3)) for _ in range(count)]
        params = (*inputs, *self.outputs)
        return Kernel("random", params, tuple(b.name for b in self.outputs), block(*first, *nests))

    def _name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def _dtype(self) -> DType:
        whole = (DType.I32, DType.I64, DType.BOOL)
        return self.choice((DType.F32, DType.F32, DType.F64, *whole) if self.floats else whole)

    def _buffer(self, name: str, scope: Scope = Scope.PARAM) -> Buffer:
        shape = [self.chooser.integer(1, 12) for _ in range(self.chooser.integer(1, 2))]
        return Buffer.dense(name, self._dtype(), shape, scope)

    def _fill(self, b: Buffer) -> Stmt:
        """Every element of a buffer gets a value."""
        names = [self._name("c") for _ in b.shape]
        value = self._constant(b.dtype)
        body: Stmt = Store(b, tuple(map(index_var, names)), value)
        for name, extent in reversed(list(zip(names, b.shape, strict=True))):
            body = For(name, extent, body)
        return body

    def _nest(self, depth: int) -> Stmt:
        if depth == 0:
            return self._simple()
        var, extent = self._name("i"), self.chooser.integer(1, 5)
        saved = dict(self.loops), list(self.buffers), list(self.outputs), list(self.lets)
        self.loops[var] = extent
        body = self._body(depth - 1)
        self.loops, self.buffers, self.outputs, self.lets = saved
        kinds = (LoopKind.SERIAL, LoopKind.SERIAL, LoopKind.UNROLL)
        return For(var, extent, body, self.choice(kinds))

    def _body(self, depth: int) -> Stmt:
        parts: list[Stmt] = []
        if self.chance(30):
            scope = self.choice((Scope.STACK, Scope.SCRATCH))
            local = self._buffer(self._name("local"), scope)
            parts += [Alloc(local), self._fill(local)]
            self.buffers, self.outputs = [*self.buffers, local], [*self.outputs, local]
        for _ in range(self.chooser.integer(1, 2)):
            parts.append(self._nest(depth))
        return block(*parts)

    def _simple(self) -> Stmt:
        draw = self.chooser.integer(0, 99)
        if draw >= 85:
            return self._let()
        if draw >= 75:
            other = self._store() if self.chance(50) else None
            return If(self.expr(DType.BOOL, 1, 1), self._store(), other)
        if draw >= 70:
            b = self.choice(self.buffers)
            index = tuple(self.index(n, 1) for n in b.shape)
            return Prefetch(b, index, self.choice((1, 2)))
        return self._store()

    def _let(self) -> Stmt:
        dtype, lanes = self._dtype(), self.choice(_LANES)
        name, value = self._name("v"), self.expr(dtype, lanes, 2)
        self.lets = [*self.lets, Var(dtype, lanes, name)]
        return Let(name, value)

    def _store(self) -> Stmt:
        b = self.choice(self.outputs)
        lanes = self.choice([n for n in _LANES if n <= b.shape[-1]])
        index = [self.index(n, 1) for n in b.shape[:-1]] + [self.index(b.shape[-1], lanes)]
        reduce = "" if b.dtype is DType.BOOL else self.choice(("", "", "+", "min", "max"))
        # Sums over all iterations must not overflow, and lanes of one store must not meet.
        value = self.expr(b.dtype, lanes, 3)
        return Store(b, tuple(index), value, reduce)

    # Indices -----------------------------------------------------------------------------------

    def index(self, extent: int, lanes: int) -> Expr:
        """An index in [0, extent)."""
        if lanes > 1:
            stride = self.choice([s for s in (1, 1, 2) if s * (lanes - 1) < extent])
            base = self.index(extent - stride * (lanes - 1), 1)
            return Ramp(INDEX, lanes, base, stride)
        e = self._affine()
        if self.chance(20):
            return binary("max", binary("min", e, index_const(extent - 1)), index_const(0))
        return binary("%", e, index_const(extent)) if extent > 1 else index_const(0)

    def _affine(self) -> Expr:
        e: Expr = index_const(self.chooser.integer(0, 3))
        for name in self.loops:
            if self.chance(70):
                c = index_const(self.choice((1, 1, 2, 4, -1)))
                e = binary("+", e, binary("*", index_var(name), c))
        return e

    # Expressions -------------------------------------------------------------------------------

    def expr(self, dtype: DType, lanes: int, depth: int) -> Expr:
        if depth == 0 or self.chance(20):
            return self._leaf(dtype, lanes)
        if self.chance(15):
            parts = self.expr(dtype, lanes, depth - 1), self.expr(dtype, lanes, depth - 1)
            return select(self.expr(DType.BOOL, lanes, depth - 1), *parts)
        if self.chance(15):
            source = self._dtype()
            return self._cast(self.expr(source, lanes, depth - 1), dtype)
        return self._operation(dtype, lanes, depth - 1)

    def _operation(self, dtype: DType, lanes: int, depth: int) -> Expr:
        if dtype is DType.BOOL:
            return self._condition(lanes, depth)
        if lanes == 1 and self.chance(15):
            wide = self.expr(dtype, 4, depth)
            return Call(dtype, 1, self.choice(("reduce_add", "reduce_max")), (wide,))
        if dtype.is_float and self.chance(30):
            name = self.choice(_TAME)
            assert name in INTRINSICS
            return call(name, self.expr(dtype, lanes, depth))
        a, b = self.expr(dtype, lanes, depth), self.expr(dtype, lanes, depth)
        e = binary(self.choice(_ARITHMETIC), a, b)
        return e if dtype.is_float else binary("%", e, const(_SMALL, dtype, lanes))

    def _condition(self, lanes: int, depth: int) -> Expr:
        if self.chance(30):
            a, b = self.expr(DType.BOOL, lanes, depth), self.expr(DType.BOOL, lanes, depth)
            return binary(self.choice(("and", "or", "xor")), a, b)
        dtype = self.choice((DType.I32, DType.I64))
        a, b = self.expr(dtype, lanes, depth), self.expr(dtype, lanes, depth)
        return binary(self.choice(sorted(COMPARISONS)), a, b)

    def _cast(self, e: Expr, dtype: DType) -> Expr:
        if e.dtype.is_float and not dtype.is_float:  # out of range is undefined in C
            limit = const(100.0, e.dtype, e.lanes)
            e = binary("max", binary("min", e, limit), binary("-", const(0.0, e.dtype), limit))
        if dtype is DType.BOOL and e.dtype is not DType.BOOL:
            return binary("!=", e, const(0 if e.dtype.is_integer else 0.0, e.dtype, e.lanes))
        return cast(e, dtype)

    def _leaf(self, dtype: DType, lanes: int) -> Expr:
        known: Sequence[Expr] = [v for v in self.lets if (v.dtype, v.lanes) == (dtype, lanes)]
        if known and self.chance(50):
            return self.choice(known)
        fitting = [b for b in self.buffers if b.dtype is dtype]
        if fitting and self.chance(80):
            return self._load(self.choice(fitting), lanes)
        if dtype is INDEX and lanes == 1 and self.loops:
            return index_var(self.choice(list(self.loops)))
        return broadcast(self._constant(dtype), lanes)

    def _load(self, b: Buffer, lanes: int) -> Expr:
        vector = lanes if lanes <= b.shape[-1] and self.chance(80) else 1
        index = [self.index(n, 1) for n in b.shape[:-1]] + [self.index(b.shape[-1], vector)]
        return broadcast(load(b, *index), lanes)

    def _constant(self, dtype: DType) -> Expr:
        if dtype is DType.BOOL:
            return const(self.chance(50), dtype)
        if dtype.is_float:
            return const(self.choice((0.0, 0.5, -1.25, 2.0)), dtype)
        return const(self.chooser.integer(-5, 9), dtype)
