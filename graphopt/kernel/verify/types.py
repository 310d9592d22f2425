"""Types and lanes of kernel expressions."""

from __future__ import annotations

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.grammar import FUNCTIONS, PRECEDENCE, type_text
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
from graphopt.kernel.text import print_expr
from graphopt.kernel.visit import children

_OPERATORS = frozenset({*PRECEDENCE, *FUNCTIONS})
_LOGIC = frozenset({"and", "or", "xor"})
_SHIFTS = frozenset({"<<", ">>"})
_SHOWN = 100  # characters of an expression in a message


class ExprChecker:
    """Checks expressions against the names and buffers in scope, shared parts once."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[DType, int]] = {}
        self.buffers: dict[str, Buffer] = {}
        self._done: dict[int, Expr] = {}  # by id; the values keep the ids alive

    def forget(self) -> None:
        """The scope has changed: what was right may no longer be."""
        self._done.clear()

    def bind(self, name: str, dtype: DType, lanes: int) -> None:
        self.names[name] = dtype, lanes
        self.forget()

    def declare(self, buffer: Buffer) -> None:
        self.buffers[buffer.name] = buffer
        self.forget()

    def expect(self, e: Expr, dtype: DType, lanes: int, what: str) -> None:
        """Raises: IRError unless the expression has this type."""
        if (e.dtype, e.lanes) != (dtype, lanes):
            raise IRError(
                f"{what} is {_type(e)}, not {type_text(dtype, lanes)}: {_text(e)}",
                hint=_hint(e, dtype, lanes),
            )

    def access(self, buffer: Buffer, index: tuple[Expr, ...]) -> int:
        """Check an access; returns its lanes."""
        known = self.buffers.get(buffer.name)
        if known is None:
            hint = "allocate it in a block around this statement"
            raise IRError(f"there is no buffer {buffer.name!r} here", hint=hint)
        if known != buffer:
            raise IRError(
                f"{buffer.name!r} is another buffer here than the statement says",
                hint="rename one of the two",
            )
        if len(index) != len(buffer.shape):
            what = f"{buffer.name!r} has {len(buffer.shape)} axes, not {len(index)}"
            raise IRError(what, hint="give one index for each axis")
        lanes = max((i.lanes for i in index), default=1)
        for i in index:
            self.expr(i)
            self.expect(i, INDEX, i.lanes, f"an index of {buffer.name!r}")
            if i.lanes not in (1, lanes):
                what = f"indices of {buffer.name!r} have {i.lanes} and {lanes} lanes"
                raise IRError(what, hint="vector indices of one access are of one width")
        return lanes

    def expr(self, e: Expr) -> None:
        """Check an expression and all its parts. Raises: IRError."""
        if id(e) in self._done:
            return
        for part in children(e):
            if isinstance(part, Expr):
                self.expr(part)
        if e.lanes < 1:
            what = f"{e.lanes} lanes are no vector: {_text(e)}"
            raise IRError(what, hint="a vector has one lane or more")
        self._one(e)
        self._done[id(e)] = e

    def _one(self, e: Expr) -> None:
        match e:
            case Const():
                _constant(e)
            case Var():
                self._var(e)
            case Binary():
                self._binary(e)
            case Call():
                self._call(e)
            case Select():
                self.expect(e.condition, DType.BOOL, e.lanes, "the condition of a select")
                self.expect(e.then, e.dtype, e.lanes, "the first choice of a select")
                self.expect(e.otherwise, e.dtype, e.lanes, "the second choice of a select")
            case Cast():
                self.expect(e.a, e.a.dtype, e.lanes, "what is cast")
            case Load():
                lanes = self.access(e.buffer, e.index)
                if (e.dtype, e.lanes) != (e.buffer.dtype, lanes):
                    raise IRError(f"{_text(e)} says it is {_type(e)}")
            case Ramp():
                self.expect(e.base, INDEX, 1, "the start of a ramp")
                _vector(e)
            case Broadcast():
                self.expect(e.a, e.dtype, 1, "what is splat")
                _vector(e)
            case _:
                raise IRError(f"{type(e).__name__} is no expression")

    def _var(self, e: Var) -> None:
        known = self.names.get(e.name)
        if known is None:
            hint = f"bound here: {', '.join(self.names) or 'nothing'}"
            raise IRError(f"{e.name!r} is not bound", hint=hint)
        if known != (e.dtype, e.lanes):
            raise IRError(
                f"{e.name!r} is used as {_type(e)} but bound as {type_text(*known)}",
                hint="a variable has the type of its loop or let",
            )

    def _binary(self, e: Binary) -> None:
        if e.op not in _OPERATORS:
            raise IRError(f"there is no operator {e.op!r}")
        for part in (e.a, e.b):
            self.expect(part, e.a.dtype, e.lanes, f"an operand of {e.op}")
        result = DType.BOOL if e.op in COMPARISONS else e.a.dtype
        if e.dtype is not result:
            raise IRError(f"{_text(e)} is {result}, but says {e.dtype}")
        d = e.a.dtype
        wrong = (
            (e.op == "/" and not d.is_float)
            or (e.op in _LOGIC and d.is_float)
            or (e.op in _SHIFTS and not d.is_integer)
            or (d is DType.BOOL and e.op not in _LOGIC | COMPARISONS | set(FUNCTIONS))
        )
        if wrong:
            raise IRError(f"{e.op} of {d}: {_text(e)}", hint="cast the operands, or use // for /")

    def _call(self, e: Call) -> None:
        row = intrinsic(e.name)
        if len(e.args) != row.arity:
            raise IRError(f"{e.name} takes {row.arity} arguments, not {len(e.args)}")
        first = e.args[0]
        lanes = first.lanes if row.across_lanes else e.lanes
        for a in e.args:
            self.expect(a, first.dtype, lanes, f"an argument of {e.name}")
        if first.dtype not in row.dtypes:
            names = ", ".join(sorted(d.value for d in row.dtypes))
            raise IRError(f"{e.name} of {first.dtype}: {_text(e)}", hint=f"it takes {names}")
        result = row.result_dtype(first.dtype)
        if (e.dtype, e.lanes) != (result, 1 if row.across_lanes else lanes):
            raise IRError(f"{_text(e)} says it is {_type(e)}", hint=f"it is {result}")


def _constant(e: Const) -> None:
    if e.dtype.is_float:
        fits = isinstance(e.value, (int, float))
    elif e.dtype is DType.BOOL:
        fits = e.value in (0, 1)
    else:
        info = np.iinfo(e.dtype.numpy)
        fits = isinstance(e.value, int) and info.min <= e.value <= info.max
    if not fits:
        raise IRError(f"{e.value!r} is no constant of {e.dtype}")


def _vector(e: Expr) -> None:
    if e.lanes < 2:
        raise IRError(f"{_text(e)} has one lane", hint="use the scalar itself")


def _hint(e: Expr, dtype: DType, lanes: int) -> str:
    if e.dtype is not dtype:
        return f"cast it: cast:{dtype}(..)"
    return f"write splat(.., {lanes})" if e.lanes == 1 else "reduce it across its lanes"


def _type(e: Expr) -> str:
    return type_text(e.dtype, e.lanes)


def _text(e: Expr) -> str:
    text = print_expr(e)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + ".."
