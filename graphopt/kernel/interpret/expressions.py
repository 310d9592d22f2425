"""Expressions as functions from a state to a value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.interpret.access import Place, place
from graphopt.kernel.interpret.state import State, Types, Value
from graphopt.kernel.intrinsics import intrinsic
from graphopt.kernel.ir import (
    COMPARISONS,
    INDEX,
    Binary,
    Broadcast,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    Load,
    Ramp,
    Select,
    Var,
)
from graphopt.kernel.visit import children

Run = Callable[[State], Value]


def _both_int(a: Value, b: Value) -> bool:
    return not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray)


def _minimum(a: Value, b: Value) -> Value:
    return min(a, b) if _both_int(a, b) else np.minimum(a, b)


def _maximum(a: Value, b: Value) -> Value:
    return max(a, b) if _both_int(a, b) else np.maximum(a, b)


def _floor_div(a: Value, b: Value) -> Value:
    """x // 0 is 0 for integers, as numpy has it."""
    if _both_int(a, b):
        return a // b if b else 0
    quotient = np.floor_divide(a, b)
    return np.floor(np.true_divide(a, b)) if quotient.dtype.kind == "f" else quotient


def _modulo(a: Value, b: Value) -> Value:
    if _both_int(a, b):
        return a % b if b else 0
    if np.result_type(a, b).kind == "f":
        return a - _floor_div(a, b) * b
    return np.mod(a, b)


OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": _floor_div, "%": _modulo, "min": _minimum, "max": _maximum, "and": operator.and_,
    "or": operator.or_, "xor": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


class ExprCompiler:
    """Compiles the expressions of one statement; parts that it shares are computed once.

    `names` and `buffers` give the slots of what is in scope.
    """

    def __init__(
        self, roots: Sequence[Expr], types: Types, names: dict[str, int], buffers: dict[str, int]
    ) -> None:
        self.types, self.names, self.buffers = types, names, buffers
        self.shared: dict[int, int] = {}
        self._done: dict[int, Run] = {}
        seen: set[int] = set()
        for root in roots:
            self._count(root, seen)

    def _count(self, e: Expr, seen: set[int]) -> None:
        if id(e) in seen:
            if not isinstance(e, (Const, Var)):
                self.shared.setdefault(id(e), len(self.shared))
            return
        seen.add(id(e))
        for part in children(e):
            if isinstance(part, Expr):
                self._count(part, seen)

    def __call__(self, e: Expr) -> Run:
        known = self._done.get(id(e))
        if known is None:
            known = self._compile(e)
            if id(e) in self.shared:
                known = _remembered(self.shared[id(e)], known)
            self._done[id(e)] = known
        return known

    def _compile(self, e: Expr) -> Run:
        match e:
            case Const():
                return self._const(e)
            case Var():
                slot = self.names[e.name]
                return lambda state: state.value(slot)
            case Binary():
                return self._binary(e)
            case Call():
                return self._call(e)
            case Select():
                return _selected(self(e.condition), self(e.then), self(e.otherwise))
            case Cast():
                return self._cast(e)
            case Load():
                return self.place(e.buffer, e.index, e.lanes).load
            case Ramp():
                base, steps = self(e.base), np.arange(e.lanes)[None, :] * e.stride
                return lambda state: base(state) + steps
            case Broadcast():
                return self(e.a)
            case _:
                raise IRError(f"{type(e).__name__} is no expression")

    def place(self, buffer: Buffer, index: Sequence[Expr], lanes: int) -> Place:
        """An element, a vector, or lanes anywhere, to be loaded or stored."""
        return place(buffer, self.buffers[buffer.name], index, lanes, self, self.types)

    def _const(self, e: Const) -> Run:
        if e.dtype is INDEX:
            number = int(e.value)
            return lambda state: number
        if e.dtype is DType.BOOL and e.lanes == 1:
            flag = bool(e.value)
            return lambda state: flag
        array = np.array([[e.value]]).astype(self.types.memory(e.dtype))
        array = array.astype(self.types.register(e.dtype))
        return lambda state: array

    def _binary(self, e: Binary) -> Run:
        a, b, op = self(e.a), self(e.b), OPERATORS[e.op]
        if e.op in COMPARISONS:
            return lambda state: op(a(state), b(state))
        return self._rounded(e.dtype, lambda state: op(a(state), b(state)))

    def _rounded(self, dtype: DType, run: Run) -> Run:
        if not self.types.rounds(dtype):
            return run
        half = dtype.numpy
        return lambda state: run(state).astype(half).astype(np.float32)

    def _call(self, e: Call) -> Run:
        row, args, wide = intrinsic(e.name), [self(a) for a in e.args], e.args[0].lanes
        meaning, kind = row.meaning, self.types.register(e.dtype)

        def run(state: State) -> Value:
            arrays = [_array(a(state)) for a in args]
            if row.across_lanes or row.moves_lanes:
                arrays = [np.broadcast_to(x, (x.shape[0], wide)) for x in arrays]
            return np.asarray(meaning(*arrays)).astype(kind, copy=False)

        return self._rounded(e.dtype, run)

    def _cast(self, e: Cast) -> Run:
        a = self(e.a)
        if e.dtype is DType.BOOL:
            return lambda state: a(state) != 0
        kind = self.types.register(e.dtype)
        return self._rounded(e.dtype, lambda state: _array(a(state)).astype(kind))


def _array(value: Value) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.array([[value]])


def _remembered(n: int, run: Run) -> Run:
    def shared(state: State) -> Value:
        value = state.shared[n]
        if value is None:
            state.shared[n] = value = run(state)
        return value

    return shared


def _selected(condition: Run, then: Run, otherwise: Run) -> Run:
    """Both sides are evaluated, as vectors do."""

    def run(state: State) -> Value:
        c, a, b = condition(state), then(state), otherwise(state)
        if not isinstance(c, np.ndarray):
            return a if c else b
        out: Any = np.where(c, a, b)
        return out

    return run
