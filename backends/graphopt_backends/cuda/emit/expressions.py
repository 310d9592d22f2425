"""Expressions as C++ text: one spelling for scalars and vectors, which `go_kernel.h` overloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphopt.errors import InternalError
from graphopt.ir.types import DType
from graphopt.kernel.affine import Linear, linear, simplify_index
from graphopt.kernel.bounds import interval
from graphopt.kernel.gpu import shuffle_width
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
    Scope,
    Select,
    Var,
    binary,
    index_const,
)
from graphopt.kernel.visit import walk
from graphopt_backends.cuda.emit.ctypes import HALF, NARROW, integer, literal, register
from graphopt_backends.cuda.emit.names import Names


class Text(NamedTuple):
    """C++ text and how tightly its outermost operator binds."""

    text: str
    binds: int = 100

    def at(self, level: int) -> str:
        """In parentheses where it binds less than `level`."""
        return self.text if self.binds >= level else f"({self.text})"


_UNARY, _TERNARY = 90, 20
_BINDS = {
    "*": 80, "/": 80, "%": 80, "+": 70, "-": 70, "<<": 60, ">>": 60, "<": 50, "<=": 50, ">": 50,
    ">=": 50, "==": 45, "!=": 45, "&": 40, "^": 39, "|": 38, "&&": 30, "||": 29,
}  # fmt: skip
_OPERATOR = {"and": "&", "or": "|", "xor": "^"}
_LOGICAL = {"and": "&&", "or": "||", "xor": "!="}
_FOLDS = {"reduce_add": "add", "reduce_mul": "mul", "reduce_max": "most", "reduce_min": "least",
          "reduce_and": "all", "reduce_or": "any"}  # fmt: skip


class ExpressionPrinter:
    """`names` says what names mean; `read_only` are the buffers that the kernel does not write."""

    def __init__(self, names: Names, read_only: frozenset[str]) -> None:
        self.names, self.read_only = names, read_only

    # Values --------------------------------------------------------------------------------------

    def value(self, e: Expr) -> Text:
        """A value in its register type."""
        match e:
            case Const():
                return self._const(e)
            case Var():
                return Text(self.names.variable(e.name))
            case Broadcast():
                return self._splat(self.value(e.a), e)
            case Ramp():
                base = self.value(e.base).at(_UNARY)
                return Text(f"go::ramp<{e.lanes}>((int64_t){base}, INT64_C({e.stride}))")
            case Binary() if e.dtype is INDEX and e.lanes == 1:
                return self.index(e)
            case Binary():
                return self._rounded(self._binary(e), e)
            case Load():
                return self._load(e)
            case Select():
                return self._select(e)
            case Cast():
                return self._cast(e)
            case Call():
                return self._call(e)
            case _:
                raise InternalError(f"the CUDA emitter does not know {type(e).__name__}")

    def _const(self, e: Const) -> Text:
        text = Text(literal(e.value, e.dtype), 100 if _positive(e.value) else _UNARY)
        return text if e.lanes == 1 else self._splat(text, e)

    def _splat(self, a: Text, e: Expr) -> Text:
        said = a.text if e.dtype.is_float else f"({register(e.dtype)}){a.at(_UNARY)}"
        return Text(f"go::splat<{e.lanes}>({said})")

    def _operand(self, e: Expr, partner: Expr) -> Text:
        """As a vector's partner, whose type it has: a scalar stays one."""
        if e.lanes > 1 and not isinstance(partner, (Const, Broadcast)):
            if isinstance(e, Const) and e.dtype not in NARROW and e.dtype is not INDEX:
                return self._const(Const(e.dtype, 1, e.value))
            if isinstance(e, Broadcast) and e.dtype is not INDEX:
                return self.value(e.a)
        return self.value(e)

    def _rounded(self, text: Text, e: Expr) -> Text:
        """Halves are rounded after each operation, narrow scalars wrap."""
        if e.dtype in HALF:
            return Text(f"go::round_{e.dtype}({text.text})")
        if e.lanes == 1 and e.dtype in NARROW:
            return Text(f"({register(e.dtype)}){text.at(_UNARY)}", _UNARY)
        return text

    def _infix(self, operator: str, left: Text, right: Text) -> Text:
        binds = _BINDS[operator]
        # & | ^ bind less than comparisons: in parentheses, for readers and compilers' warnings
        own = {"&": 85, "^": 85, "|": 85, "||": 31}.get(operator, binds)
        return Text(f"{left.at(own)} {operator} {right.at(max(own, binds + 1))}", binds)

    def _binary(self, e: Binary) -> Text:
        if e.op in ("min", "max"):
            return self._function(e.op, e, (e.a, e.b))
        if e.op in ("//", "%"):
            return self._division(e)
        if e.op in COMPARISONS and e.a.dtype is INDEX and e.a.lanes == 1:
            return self._infix(e.op, self.index(e.a), self.index(e.b))
        left, right = self._operand(e.a, e.b), self._operand(e.b, e.a)
        if e.dtype is DType.BOOL and e.lanes == 1 and e.op in _LOGICAL:
            return self._infix(_LOGICAL[e.op], left, right)
        return self._infix(_OPERATOR.get(e.op, e.op), left, right)

    def _function(self, name: str, e: Expr, args: Sequence[Expr]) -> Text:
        """A call; the type is said where literals and variables may differ in theirs."""
        said = ""
        if e.lanes == 1 and not e.dtype.is_float:
            kind = register(e.dtype)
            if e.dtype is INDEX and self.names.small and not self._is_data(e):
                kind = "int"
            said = f"<{kind}>" if kind != "int" else ""
        return Text(f"go::{name}{said}({', '.join(self.value(a).text for a in args)})")

    def _is_data(self, e: Expr) -> bool:
        """Whether an index holds what is loaded, so that it may need 64 bits."""
        return any(
            isinstance(x, (Load, Cast, Call)) or (isinstance(x, Var) and x.name in self.names.wide)
            for x in walk(e)
        )

    def _division(self, e: Binary) -> Text:
        """Floor division: C++'s / and % where nothing is negative."""
        if e.dtype is INDEX and e.lanes == 1:
            divisor = interval(e.b, self.names.ranges)
            if interval(e.a, self.names.ranges)[0] >= 0 and divisor[0] > 0:
                return self._infix("/" if e.op == "//" else "%", self.index(e.a), self.index(e.b))
        return self._function("floor_div" if e.op == "//" else "floor_mod", e, (e.a, e.b))

    def _select(self, e: Select) -> Text:
        if e.lanes > 1:
            parts = ", ".join(self.value(x).text for x in (e.condition, e.then, e.otherwise))
            return Text(f"go::select({parts})")
        condition, then, other = (
            self.value(x).at(_TERNARY + 1) for x in (e.condition, e.then, e.otherwise)
        )
        return Text(f"{condition} ? {then} : {other}", _TERNARY)

    def _cast(self, e: Cast) -> Text:
        a = self.value(e.a)
        if e.dtype is DType.BOOL:
            zero = Const(e.a.dtype, 1, 0)
            return self._infix("!=", a, Text(literal(zero.value, zero.dtype)))
        source, target = register(e.a.dtype), register(e.dtype)
        if source != target:
            a = (
                Text(f"({target}){a.at(_UNARY)}", _UNARY)
                if e.lanes == 1
                else Text(f"go::cast<{target}>({a.text})")
            )
        return Text(f"go::round_{e.dtype}({a.text})") if e.dtype in HALF else a

    def _call(self, e: Call) -> Text:
        width = self._shuffle_width(e)
        if width:
            (a,) = e.args
            assert isinstance(a, Load)
            own = self.register(a.buffer, a.index)
            if width == 1:
                return own
            return self._rounded(
                Text(f"go::warp_reduce<go::{self._fold(e)}, {width}>({own.text})"), e
            )
        if e.name in _FOLDS:
            (a,) = e.args
            text = self.value(a)
            return text if a.lanes == 1 else (
                self._rounded(Text(f"go::reduce<go::{self._fold(e)}>({text.text})"), e)
            )  # fmt: skip
        return self._rounded(self._function(e.name, e, e.args), e)

    def _fold(self, e: Call) -> str:
        kind = e.args[0].dtype
        if kind is DType.BOOL:
            return {"reduce_max": "any", "reduce_min": "all"}.get(e.name, _FOLDS[e.name])
        return _FOLDS[e.name]

    def _shuffle_width(self, e: Call) -> int:
        thread = self.names.thread
        return 0 if thread is None else shuffle_width(e, self.names.per_thread, thread)

    # Memory --------------------------------------------------------------------------------------

    def _load(self, e: Load) -> Text:
        if e.buffer.scope is Scope.REGISTER:
            return self._registers(e)
        raw = self._memory(e)
        if e.dtype in HALF:
            return Text(f"go::to_float({raw.text})")
        return self._infix("!=", raw, Text("(uint8_t)0")) if e.dtype is DType.BOOL else raw

    def _registers(self, e: Load) -> Text:
        if e.lanes == 1 or e.buffer in self.names.vectors:
            return self.register(e.buffer, e.index)
        return Text(f"go::neighbours<{e.lanes}>({self.register_address(e.buffer, e.index)})")

    def raw(self, e: Load) -> Text:
        """What is loaded as it lies in memory, halves as 16 bits."""
        return self._registers(e) if e.buffer.scope is Scope.REGISTER else self._memory(e)

    def _memory(self, e: Load) -> Text:
        """The bits at an index: an element, a vector, or a gather."""
        at = simplify_index(position(e.buffer, e.index), self.names.ranges)
        if e.lanes == 1:
            return self.element(e.buffer, at)
        if isinstance(at, Broadcast):
            one = self.element(e.buffer, at.a)
            return Text(f"go::splat<{e.lanes}>({one.text})")
        if isinstance(at, Ramp) and at.stride == 1:
            how = "neighbours"
            if self.is_aligned(at):
                how = "load" if e.buffer.name in self.read_only else "read"
            return Text(f"go::{how}<{e.lanes}>({self.address(e.buffer, at.base)})")
        if isinstance(at, Ramp):
            return Text(f"go::strided<{e.lanes}>({self.address(e.buffer, at.base)}, {at.stride})")
        return Text(f"go::gather({self.names.buffer(e.buffer)}, {self.value(at).text})")

    def is_aligned(self, at: Ramp) -> bool:
        """Whether a vector begins at a multiple of its lanes."""
        form = linear(at.base, self.names.ranges)
        return form.constant % at.lanes == 0 and all(c % at.lanes == 0 for _, c in form.terms)

    def element(self, buffer: Buffer, at: Expr) -> Text:
        return Text(f"{self.names.buffer(buffer)}[{self.index(at).text}]")

    def address(self, buffer: Buffer, at: Expr) -> str:
        name, form = self.names.buffer(buffer), linear(at, self.names.ranges)
        if form.is_constant and form.constant == 0:
            return name
        return f"{name} + {self._linear(form).at(70)}".replace("+ -", "- ")

    def register(self, buffer: Buffer, index: Sequence[Expr]) -> Text:
        """An element of a thread's own array; a variable where it has one."""
        own = self.names.own_index(buffer, index)
        return Text(self.names.buffer(buffer) + "".join(f"[{self.index(i).text}]" for i in own))

    def register_address(self, buffer: Buffer, index: Sequence[Expr]) -> str:
        """Where a vector of registers begins: it runs along the last axis."""
        *outer, last = index
        if not isinstance(last, Ramp) or last.stride != 1:
            raise InternalError(f"registers {buffer.name!r} are read by a gather")
        return f"&{self.register(buffer, (*outer, last.base)).text}"

    # Indices -------------------------------------------------------------------------------------

    def index(self, e: Expr) -> Text:
        """A scalar I64 as a compact sum of products, largest stride first."""
        return self._linear(linear(e, self.names.ranges))

    def _linear(self, form: Linear) -> Text:
        text = ""
        for atom, coefficient in form.terms:
            inner = self._atom(atom)
            size = abs(coefficient)
            if size == 1:
                term = inner.at(80 if text or coefficient < 0 else 70)
            else:
                term = f"{inner.at(80)} * {integer(size, INDEX)}"
            sign = "-" if coefficient < 0 else "+"
            text = f"{text} {sign} {term}" if text else ("-" if coefficient < 0 else "") + term
        if not text:
            return Text(integer(form.constant, INDEX), 100 if form.constant >= 0 else _UNARY)
        if form.constant:
            sign = "-" if form.constant < 0 else "+"
            return Text(f"{text} {sign} {integer(abs(form.constant), INDEX)}", 70)
        if len(form.terms) > 1 or form.terms[0][1] < 0:
            return Text(text, 70)
        atom, coefficient = form.terms[0]
        return self._atom(atom) if coefficient == 1 else Text(text, 80)

    def _atom(self, e: Expr) -> Text:
        """A part of an index that is not linear; `value` would come back here."""
        return self._binary(e) if isinstance(e, Binary) else self.value(e)


def position(buffer: Buffer, index: Sequence[Expr]) -> Expr:
    """Elements from a buffer's pointer to an index; a vector where an index is one."""
    at: Expr = index_const(buffer.offset)
    for i, stride in zip(index, buffer.strides, strict=True):
        at = binary("+", at, binary("*", i, index_const(stride)))
    return at


def _positive(value: float) -> bool:
    return value >= 0 or value != value
