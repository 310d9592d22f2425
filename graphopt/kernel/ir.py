"""Kernel IR: how a region is computed. Loops, buffers, vectors, intrinsics. Frozen trees.

Index expressions are I64; `Ramp` and `Broadcast` make vectors; a `Load` at a `Ramp` of stride 1 in
its last index is a contiguous vector load, at any other vector index a gather.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.ir.types import DType

# Expressions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expr:
    """A typed value; `lanes` > 1 is a vector."""

    dtype: DType
    lanes: int


@dataclass(frozen=True, slots=True)
class Const(Expr):
    value: float | int | bool


@dataclass(frozen=True, slots=True)
class Var(Expr):
    """A loop variable (I64) or a name bound by `Let`."""

    name: str


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """`op` is one of + - * / // % min max and or xor << >> or a comparison < <= == != > >=
    (result BOOL). // and % floor; / is for floats."""

    op: str
    a: Expr
    b: Expr


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """An intrinsic of `graphopt.kernel.intrinsics`: exp, erf, fma, sqrt, reduce_add, ..."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Select(Expr):
    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """Numeric conversion as in C: towards zero from float to integer."""

    a: Expr


@dataclass(frozen=True, slots=True)
class Load(Expr):
    buffer: Buffer
    index: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Ramp(Expr):
    """base, base + stride, ... `lanes` values."""

    base: Expr
    stride: int


@dataclass(frozen=True, slots=True)
class Broadcast(Expr):
    a: Expr


# Buffers and statements ------------------------------------------------------------------------


class Scope(enum.Enum):
    """Where a buffer lives. PARAM: a pointer argument; SCRATCH: per-thread workspace, any size, or
    before a GPU kernel's grids, memory in which one leaves results to later ones; STACK: a small C
    array; REGISTER: becomes named variables, every index constant after unrolling; SHARED: a GPU
    block's shared memory."""

    PARAM = "param"
    SCRATCH = "scratch"
    STACK = "stack"
    REGISTER = "register"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Buffer:
    """`shape` in elements with `strides` in elements (row-major when not given), starting `offset`
    elements after the pointer: a halo lies before index 0, so indices from -halo are legal."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scope: Scope = Scope.PARAM
    offset: int = 0
    halo: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def dense(name: str, dtype: DType, shape: Sequence[int], scope: Scope = Scope.PARAM) -> Buffer:
        """A row-major buffer without halo."""
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        return Buffer(name, dtype, tuple(shape), strides, scope)

    def bounds(self, axis: int) -> tuple[int, int]:
        """Legal indices [low, high) on an axis, halo included."""
        before, after = self.halo[axis] if self.halo else (0, 0)
        return -before, self.shape[axis] + after

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Stmt:
    """Base of statements."""


@dataclass(frozen=True, slots=True)
class Block(Stmt):
    body: tuple[Stmt, ...]


class LoopKind(enum.Enum):
    SERIAL = "for"
    PARALLEL = "parallel"
    UNROLL = "unroll"
    VECTOR = "vector"
    BLOCK = "block"
    THREAD = "thread"
    TENSOR = "tensor"


@dataclass(frozen=True, slots=True)
class For(Stmt):
    """`kind var in 0..extent`. Names need not be unique: an inner loop shadows, siblings may share
    one, and a schedule primitive given a name acts on every loop of that name."""

    var: str
    extent: int
    body: Stmt
    kind: LoopKind = LoopKind.SERIAL


def shared_within(loop: For) -> For | None:
    """The parallel loop that a parallel loop ends in, if it does."""
    last = loop.body.body[-1] if isinstance(loop.body, Block) and loop.body.body else loop.body
    both = isinstance(last, For) and loop.kind is last.kind is LoopKind.PARALLEL
    return last if both and isinstance(last, For) else None


@dataclass(frozen=True, slots=True)
class Store(Stmt):
    """`buffer[index] = value`; with `reduce` ("+", "*", "min", "max", "and", "or") it accumulates.
    `nontemporal` stores bypass the cache."""

    buffer: Buffer
    index: tuple[Expr, ...]
    value: Expr
    reduce: str = ""
    nontemporal: bool = False


@dataclass(frozen=True, slots=True)
class Let(Stmt):
    """Bind a name for the rest of the enclosing block."""

    var: str
    value: Expr


@dataclass(frozen=True, slots=True)
class If(Stmt):
    condition: Expr
    then: Stmt
    otherwise: Stmt | None = None


@dataclass(frozen=True, slots=True)
class Alloc(Stmt):
    """Declare a non-parameter buffer for the rest of the enclosing block."""

    buffer: Buffer


@dataclass(frozen=True, slots=True)
class Prefetch(Stmt):
    """Hint that the cache line of `buffer[index]`, which may lie out of bounds, is needed soon, in
    the cache of that `level`, 1 or 2."""

    buffer: Buffer
    index: tuple[Expr, ...]
    level: int = 1


@dataclass(frozen=True, slots=True)
class Kernel:
    """One function over its parameters. `outputs` names the parameters it writes.

    The outermost statement may be one PARALLEL loop: its range is what threads share. It may end in
    another: then they share pairs of iterations, and what stands before the inner loop is done by
    every thread that has a part of it.
    """

    name: str
    params: tuple[Buffer, ...]
    outputs: tuple[str, ...]
    body: Stmt


# Building --------------------------------------------------------------------------------------

INDEX = DType.I64
COMPARISONS = frozenset({"<", "<=", "==", "!=", ">", ">="})
IDENTITY: dict[str, float] = {
    "+": 0.0, "*": 1.0, "min": math.inf, "max": -math.inf, "and": 1, "or": 0,
}  # fmt: skip


def const(value: float | int | bool, dtype: DType, lanes: int = 1) -> Expr:
    return Const(dtype, lanes, value)


def index_const(value: int) -> Const:
    return Const(INDEX, 1, value)


def index_var(name: str) -> Var:
    return Var(INDEX, 1, name)


def broadcast(a: Expr, lanes: int) -> Expr:
    """`a` in every lane; vectors of that width and lanes = 1 pass through."""
    if a.lanes == lanes:
        return a
    if isinstance(a, Const):
        return Const(a.dtype, lanes, a.value)
    return Broadcast(a.dtype, lanes, a)


def contiguous(first: Expr, lanes: int) -> Expr:
    """The index of `lanes` neighbours from `first` on."""
    return Ramp(INDEX, lanes, first, 1) if lanes > 1 else first


def binary(op: str, a: Expr, b: Expr) -> Expr:
    """An operation on equal dtypes, scalars broadcast, integer constants folded."""
    lanes = max(a.lanes, b.lanes)
    dtype = DType.BOOL if op in COMPARISONS else a.dtype
    if isinstance(a, Const) and isinstance(b, Const) and a.dtype == INDEX:
        return Const(dtype, lanes, _FOLD[op](a.value, b.value))
    if a.dtype == INDEX and isinstance(b, Const):
        if (op in ("+", "-") and b.value == 0) or (op in ("*", "//") and b.value == 1):
            return a
        if (op == "*" and b.value == 0) or (op == "%" and b.value == 1):
            return Const(INDEX, lanes, 0)
    if a.dtype == INDEX and isinstance(a, Const):
        if op == "+" and a.value == 0:
            return b
        if op == "*" and a.value == 1:
            return b
        if op == "*" and a.value == 0:
            return Const(INDEX, lanes, 0)
    return Binary(dtype, lanes, op, broadcast(a, lanes), broadcast(b, lanes))


_FOLD: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b,
    ">>": lambda a, b: a >> b,
}


def call(name: str, *args: Expr, dtype: DType | None = None) -> Expr:
    lanes = max(a.lanes for a in args)
    return Call(dtype or args[0].dtype, lanes, name, tuple(broadcast(a, lanes) for a in args))


def select(condition: Expr, then: Expr, otherwise: Expr) -> Expr:
    lanes = max(condition.lanes, then.lanes, otherwise.lanes)
    return Select(
        then.dtype,
        lanes,
        broadcast(condition, lanes),
        broadcast(then, lanes),
        broadcast(otherwise, lanes),
    )


def cast(a: Expr, dtype: DType) -> Expr:
    return a if a.dtype == dtype else Cast(dtype, a.lanes, a)


def load(buffer: Buffer, *index: Expr) -> Expr:
    return Load(buffer.dtype, max((i.lanes for i in index), default=1), buffer, tuple(index))


def block(*body: Stmt) -> Stmt:
    """A flat block; a block of one statement is that statement."""
    flat: list[Stmt] = []
    for s in body:
        flat.extend(s.body if isinstance(s, Block) else (s,))
    return flat[0] if len(flat) == 1 else Block(tuple(flat))


def loops(names: Sequence[tuple[str, int]], body: Stmt) -> Stmt:
    """Nested serial loops, outermost first."""
    for name, extent in reversed(names):
        body = For(name, extent, body)
    return body
