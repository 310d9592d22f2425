"""Expressions as C text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from graphopt.errors import InternalError, IRError
from graphopt.ir.types import DType
from graphopt.kernel.affine import Linear, bounds, linear, simplify_index
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
)
from graphopt_backends.cpu.emit.ctypes import (
    C_TYPE,
    HALF,
    literal,
    mask_dtype,
    register_dtype,
    register_lanes,
)
from graphopt_backends.cpu.emit.lanes import near_steps, shuffled
from graphopt_backends.cpu.emit.prelude import Prelude
from graphopt_backends.cpu.emit.registers import RegisterFile, constant_range, position


class Text(NamedTuple):
    """C text and how tightly its outermost operator binds."""

    text: str
    binds: int = 100

    def at(self, level: int) -> str:
        """In parentheses where it binds less than `level`."""
        return self.text if self.binds >= level else f"({self.text})"


_PRIMARY, _UNARY, _TERNARY = 100, 90, 20
_BINDS = {
    "*": 80, "/": 80, "%": 80, "+": 70, "-": 70, "<<": 60, ">>": 60, "<": 50, "<=": 50, ">": 50,
    ">=": 50, "==": 45, "!=": 45, "&": 40, "^": 39, "|": 38,
}  # fmt: skip
_C_OPERATOR = {"and": "&", "or": "|", "xor": "^"}
_NARROW = frozenset({DType.I8, DType.I16, DType.U8})
_MIXES_WITH_SCALARS = frozenset({DType.F32, DType.F64, DType.I32, DType.I64})
"""Vectors of these take a scalar operand as it is; C would truncate an int for narrower ones."""


class Names:
    """What IR names mean at a place in the kernel: C names, loop ranges, register buffers."""

    def __init__(self) -> None:
        self.c: dict[str, str] = {}
        self.buffers: dict[str, str] = {}
        self.ranges: dict[str, int] = {}
        self.registers: dict[str, RegisterFile] = {}
        self._taken: dict[str, int] = dict.fromkeys(_RESERVED, 1)

    @contextmanager
    def inner(self) -> Iterator[None]:
        """A scope: what it declares is forgotten after it."""
        saved = (
            dict(self.c), dict(self.buffers), dict(self.ranges), dict(self.registers),
            dict(self._taken),
        )  # fmt: skip
        yield
        self.c, self.buffers, self.ranges, self.registers, self._taken = saved

    def declare(self, name: str) -> str:
        """A C name for an IR name, distinct from all visible ones."""
        self.c[name] = c = self.fresh(name)
        self.ranges.pop(name, None)
        return c

    def declare_buffer(self, name: str) -> str:
        """As `declare`; a buffer and a variable may share an IR name."""
        self.buffers[name] = c = self.fresh(name)
        return c

    def fresh(self, name: str) -> str:
        """A C name distinct from all visible ones."""
        base = "".join(ch if ch.isalnum() else "_" for ch in name) or "v"
        candidate = base if not base[0].isdigit() else f"v{base}"
        while candidate in self._taken:
            self._taken[base] = self._taken.get(base, 0) + 1
            candidate = f"{base}_{self._taken[base]}"
        self._taken[candidate] = 1
        return candidate


_RESERVED = """
    auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while begin end scratch lane main
    exp log sin cos tan pow floor ceil sqrt erf tanh y0 y1 yn j0 j1 jn gamma index
""".split()  # noqa: SIM905


class ExpressionPrinter:
    """Prints expressions; `prelude` learns what they use, `names` says what names mean."""

    def __init__(self, prelude: Prelude, names: Names) -> None:
        self.prelude, self.names = prelude, names

    # Values ------------------------------------------------------------------------------------

    def value(self, e: Expr) -> Text:
        """A value in its register dtype; BOOL vectors as 32-bit lane masks, BOOL scalars as int."""
        if e.dtype is DType.BOOL and e.lanes > 1:
            return self.mask(e, DType.I32)
        if e.dtype is INDEX and e.lanes == 1 and isinstance(e, (Var, Const, Binary)):
            return self.index(e)
        if isinstance(e, Const):
            scalar = Text(literal(e.value, e.dtype), _literal_binds(e.value))
            return scalar if e.lanes == 1 else self._splat(scalar, e.dtype, e.lanes)
        if isinstance(e, Var):
            return Text(self._name(e.name))
        if isinstance(e, Broadcast):
            return self._splat(self.value(e.a), e.dtype, e.lanes)
        if isinstance(e, Binary):
            return self._rounded(self._binary(e), e)
        if isinstance(e, Ramp):
            step = literal(e.stride, INDEX)
            return self._helper("ramp", INDEX, e.lanes, self.index(e.base).text, step)
        if isinstance(e, Load):
            return self._load(e)
        if isinstance(e, Select):
            return self._select(e)
        if isinstance(e, Cast):
            return self._cast(e)
        if isinstance(e, Call):
            return self._call(e)
        raise InternalError(f"the C emitter does not know {type(e).__name__}")

    def _name(self, name: str) -> str:
        if name not in self.names.c:
            raise IRError(f"kernel variable {name!r} is not bound here")
        return self.names.c[name]

    def _pointer(self, buffer: Buffer) -> str:
        if buffer.name not in self.names.buffers:
            raise IRError(f"kernel buffer {buffer.name!r} is not declared here")
        return self.names.buffers[buffer.name]

    def _helper(self, name: str, dtype: DType, lanes: int, *arguments: str) -> Text:
        return Text(f"{self.prelude.helper(name, dtype, lanes)}({', '.join(arguments)})")

    def _splat(self, scalar: Text, dtype: DType, lanes: int) -> Text:
        return self._helper("splat", register_dtype(dtype), lanes, scalar.text)

    def _operand(self, e: Expr) -> Text:
        """As a vector's partner: a scalar stays one where C allows."""
        if e.lanes > 1 and register_dtype(e.dtype) in _MIXES_WITH_SCALARS:
            if isinstance(e, Const):
                return Text(literal(e.value, e.dtype), _literal_binds(e.value))
            if isinstance(e, Broadcast):
                return self.value(e.a)
        return self.value(e)

    def _operands(self, a: Expr, b: Expr) -> tuple[Text, Text]:
        """Partners of which at least one is a vector, if the result is."""
        left = self._operand(a)
        if a.lanes > 1 and all(isinstance(x, (Const, Broadcast)) for x in (a, b)):
            left = self.value(a)
        return left, self._operand(b)

    def _rounded(self, text: Text, e: Expr) -> Text:
        """Halves are rounded after each operation, narrow scalars wrap."""
        if e.dtype in HALF:
            return self._helper(f"round_{e.dtype}", DType.F32, e.lanes, text.text)
        if e.lanes == 1 and e.dtype in _NARROW:
            return Text(f"({C_TYPE[e.dtype]}){text.at(_UNARY)}", _UNARY)
        return text

    def _infix(self, operator: str, left: Text, right: Text) -> Text:
        binds = _BINDS[operator]
        # C's & | ^ bind less than comparisons: always in parentheses, for readers and -Wparentheses
        own = binds if binds > 40 else 85
        return Text(f"{left.at(own)} {operator} {right.at(max(own, binds + 1))}", binds)

    def _binary(self, e: Binary) -> Text:
        if e.op in ("min", "max"):
            return self._extreme(e)
        if e.op in ("//", "%"):
            return self._division(e)
        if e.dtype is DType.BOOL and e.op in COMPARISONS and e.a.dtype is INDEX and e.lanes == 1:
            return self._infix(e.op, self.index(e.a), self.index(e.b))
        left, right = self._operands(e.a, e.b)
        return self._infix(_C_OPERATOR.get(e.op, e.op), left, right)

    def _extreme(self, e: Binary) -> Text:
        dtype = register_dtype(e.dtype)
        for x, c in ((e.a, e.b), (e.b, e.a)):
            bound = c.a if isinstance(c, Broadcast) else c
            if dtype.is_float and isinstance(bound, Const) and bound.value == bound.value:
                name = "at_least" if e.op == "max" else "at_most"
                texts = self.value(x).text, self.value(c).text
                return self._helper(name, dtype, e.lanes, *texts)
        return self._helper(e.op, dtype, e.lanes, self.value(e.a).text, self.value(e.b).text)

    def _division(self, e: Binary) -> Text:
        """Floor division: C's / and % where nothing is negative."""
        if e.dtype.is_float:
            left, right = self._operands(e.a, e.b)
            quotient = self._infix("/", left, right)
            floor = self._helper("floor", register_dtype(e.dtype), e.lanes, quotient.text)
            return (
                floor if e.op == "//" else (self._infix("-", left, self._infix("*", floor, right)))
            )
        c = e.b.a if isinstance(e.b, Broadcast) else e.b
        if isinstance(c, Const) and c.value > 0:
            span = bounds(e.a, self.names.ranges) if e.dtype is INDEX else None
            left, right = self._operands(e.a, e.b)
            if e.dtype is DType.U8 or (span is not None and span[0] >= 0):
                return self._infix("/" if e.op == "//" else "%", left, right)
            if not int(c.value) & (int(c.value) - 1):
                return self._by_power_of_two(e, left, int(c.value))
        name = "floor_div" if e.op == "//" else "floor_mod"
        return self._helper(name, e.dtype, e.lanes, self.value(e.a).text, self.value(e.b).text)

    def _by_power_of_two(self, e: Binary, left: Text, divisor: int) -> Text:
        """Arithmetic shift and mask round down, as // and % do."""
        amount = divisor.bit_length() - 1 if e.op == "//" else divisor - 1
        return self._infix(">>" if e.op == "//" else "&", left, Text(str(amount)))

    def _select(self, e: Select) -> Text:
        if e.lanes == 1:
            parts = self.value(e.condition).at(_TERNARY + 1), self.value(e.then).at(_TERNARY + 1)
            return Text(f"{parts[0]} ? {parts[1]} : {self.value(e.otherwise).at(_TERNARY + 1)}",
                        _TERNARY)  # fmt: skip
        dtype = register_dtype(e.dtype)
        condition = self.mask(e.condition, mask_dtype(dtype))
        return self._helper(
            "sel", dtype, e.lanes,
            condition.text, self.value(e.then).text, self.value(e.otherwise).text,
        )  # fmt: skip

    def _cast(self, e: Cast) -> Text:
        source, target = register_dtype(e.a.dtype), register_dtype(e.dtype)
        if e.a.dtype is DType.BOOL and e.lanes > 1:
            bits = self._infix("&", self.mask(e.a, mask_dtype(target)), Text("1"))
            return self._convert(bits, mask_dtype(target), target, e.lanes)
        if e.dtype is DType.BOOL:
            return self._infix("!=", self._operand(e.a), Text("0"))
        if e.dtype in HALF and source is DType.F64 and e.lanes > 1:
            converted = self._helper("to_single", source, e.lanes, self.value(e.a).text)
        else:
            converted = self._convert(self.value(e.a), source, target, e.lanes)
        return (
            self._helper(f"round_{e.dtype}", DType.F32, e.lanes, converted.text)
            if (e.dtype in HALF)
            else converted
        )

    def _convert(self, a: Text, source: DType, target: DType, lanes: int) -> Text:
        if source is target:
            return a
        name = self.prelude.type(target, lanes)
        if lanes == 1:
            return Text(f"({name}){a.at(_UNARY)}", _UNARY)
        return Text(f"__builtin_convertvector({a.text}, {name})")

    def _call(self, e: Call) -> Text:
        if e.name == "fma":
            product = self._infix("*", *self._operands(e.args[0], e.args[1]))
            return self._rounded(self._infix("+", product, self._operand(e.args[2])), e)
        (first, *_) = e.args
        if e.name.startswith("reduce_"):
            return self._reduce(e, first)
        texts = [self.value(a).text for a in e.args]
        return self._rounded(self._helper(e.name, register_dtype(first.dtype), e.lanes, *texts), e)

    def _reduce(self, e: Call, a: Expr) -> Text:
        if a.lanes == 1:
            return self.value(a)
        name = {"reduce_any": "reduce_or", "reduce_all": "reduce_and"}.get(e.name, e.name)
        if a.dtype is DType.BOOL:
            name = {"reduce_max": "reduce_or", "reduce_min": "reduce_and"}.get(name, name)
        text = self._helper(name, register_dtype(a.dtype), a.lanes, self.value(a).text)
        return (
            self._infix("!=", text, Text("0"))
            if a.dtype is DType.BOOL
            else (self._rounded(text, e))
        )

    # Masks -------------------------------------------------------------------------------------

    def mask(self, e: Expr, width: DType) -> Text:
        """A BOOL vector as lanes of 0 or -1, integers of `width`."""
        if isinstance(e, Const):
            return self._splat(Text("-1" if e.value else "0"), width, e.lanes)
        if isinstance(e, Broadcast):
            return self._splat(Text(f"-{self.value(e.a).at(_UNARY)}"), width, e.lanes)
        if isinstance(e, Binary) and e.a.dtype is DType.BOOL:
            operator = {"==": "^", "!=": "^"}.get(e.op) or _C_OPERATOR.get(e.op)
            if operator is None:
                raise InternalError(f"the C emitter has no {e.op} of booleans")
            text = self._infix(operator, self.mask(e.a, width), self.mask(e.b, width))
            return Text(f"~{text.at(_UNARY)}", _UNARY) if e.op == "==" else text
        if isinstance(e, Select):
            parts = [self.mask(x, width).text for x in (e.condition, e.then, e.otherwise)]
            return self._helper("sel", width, e.lanes, *parts)
        return self._natural_mask(e, width)

    def _natural_mask(self, e: Expr, width: DType) -> Text:
        """Masks that come in a width of their own."""
        if isinstance(e, Load) and e.buffer.scope is not Scope.REGISTER:
            bytes_ = self._convert(
                self.memory(e.buffer, e.index, e.lanes), DType.U8, width, e.lanes
            )
            return self._infix("!=", bytes_, Text("0"))
        if isinstance(e, Binary):
            natural, text = mask_dtype(e.a.dtype), self._binary(e)
        elif isinstance(e, Cast):
            natural, text = mask_dtype(e.a.dtype), self._cast(e)
        elif isinstance(e, Call):
            natural = mask_dtype(e.args[0].dtype)
            dtype = register_dtype(e.args[0].dtype)
            text = self._helper(e.name, dtype, e.lanes, *(self.value(a).text for a in e.args))
        else:
            natural = DType.I32
            text = Text(self._name(e.name)) if isinstance(e, Var) else self._load(_as_load(e))
        return self._convert(text, natural, width, e.lanes)

    # Memory ------------------------------------------------------------------------------------

    def _load(self, e: Load) -> Text:
        if e.buffer.scope is Scope.REGISTER:
            return self.register(e.buffer, e.index)
        raw = self.memory(e.buffer, e.index, e.lanes)
        if e.dtype in HALF:
            return self._helper(f"load_{e.dtype}", DType.F32, e.lanes, raw.text)
        return self._infix("!=", raw, Text("0")) if e.dtype is DType.BOOL else raw

    def register(self, buffer: Buffer, index: tuple[Expr, ...]) -> Text:
        """A register buffer's variable, or lanes of it."""
        start, lanes = constant_range(buffer, index)
        part, lane = self.names.registers[buffer.name].find(start, lanes)
        if part.lanes == lanes:
            return Text(part.name)
        if lanes == 1:
            return Text(f"{part.name}[{lane}]")
        order = shuffled(range(lane, lane + lanes), lanes)
        return Text(f"__builtin_shufflevector({part.name}, {part.name}, {order})")

    def place(self, buffer: Buffer, index: tuple[Expr, ...]) -> Expr:
        """An index in elements from the buffer's pointer."""
        return simplify_index(position(buffer, index), self.names.ranges)

    def memory(self, buffer: Buffer, index: tuple[Expr, ...], lanes: int) -> Text:
        """The bits at an index: an element, a vector, or a gather."""
        at = self.place(buffer, index)
        if lanes == 1:
            return self.element(buffer, at)
        if isinstance(at, Ramp) and at.stride == 1:
            return self.vector(buffer, at, store=False)
        if isinstance(at, Broadcast):
            return self._helper("splat", buffer.dtype, lanes, self.element(buffer, at.a).text)
        if isinstance(at, Ramp) and at.stride == -1:
            first = Ramp(INDEX, lanes, simplify_index(_plus(at.base, 1 - lanes), {}), 1)
            forward = self.vector(buffer, first, store=False)
            return self._helper("reverse", buffer.dtype, lanes, forward.text)
        if isinstance(at, Ramp):
            pointer = self.address(buffer, at.base).text
            if at.stride in near_steps(lanes):
                return self._helper(f"gather_every{at.stride}", buffer.dtype, lanes, pointer)
            step = literal(at.stride, INDEX)
            return self._helper("gather_step", buffer.dtype, lanes, pointer, step)
        name = self._pointer(buffer)
        return self._helper("gather", buffer.dtype, lanes, name, self.value(at).text)

    def source(self, e: Expr) -> str | None:
        """The address of a contiguous vector that is only read from memory."""
        if not isinstance(e, Load) or e.buffer.scope is Scope.REGISTER:
            return None
        at = self.place(e.buffer, e.index)
        if not isinstance(at, Ramp) or at.stride != 1:
            return None
        return self.address(e.buffer, at.base).text

    def element(self, buffer: Buffer, at: Expr) -> Text:
        return Text(f"{self._pointer(buffer)}[{self.index(at).text}]")

    def vector(self, buffer: Buffer, at: Ramp, *, store: bool) -> Text:
        """A contiguous vector in memory, as a value or, if it fills its register, something to
        assign to."""
        if fills_no_register(at):
            start = self.address(buffer, at.base).text
            return self._helper("load_part", buffer.dtype, at.lanes, start)
        loose = self.prelude.unaligned(buffer.dtype, at.lanes)
        const = "" if store else "const "
        pointer = self.address(buffer, at.base).at(_UNARY)
        return Text(f"*({const}{loose} *){pointer}", _UNARY)

    def address(self, buffer: Buffer, at: Expr) -> Text:
        form = linear(at, self.names.ranges)
        name = self._pointer(buffer)
        if form.is_constant and form.constant == 0:
            return Text(name)
        return Text(f"{name} + {self._linear(form).at(70)}".replace("+ -", "- "), 70)

    # Indices -----------------------------------------------------------------------------------

    def index(self, e: Expr) -> Text:
        """A scalar I64 as a compact sum of products, largest stride first."""
        return self._linear(linear(e, self.names.ranges))

    def _linear(self, form: Linear) -> Text:
        text = ""
        for atom, coefficient in form.terms:
            inner = self._atom(atom)
            size = abs(coefficient)
            if size == 1:
                term = inner.at(80 if text else 70)
            else:
                term = f"{literal(size, INDEX)} * {inner.at(81)}"
            sign = "-" if coefficient < 0 else "+"
            text = f"{text} {sign} {term}" if text else ("-" if coefficient < 0 else "") + term
        if not text:
            return Text(literal(form.constant, INDEX), _literal_binds(form.constant))
        if form.constant:
            sign = "-" if form.constant < 0 else "+"
            text += f" {sign} {literal(abs(form.constant), INDEX)}"
        single = len(form.terms) == 1 and not form.constant
        coefficient = form.terms[0][1]
        if not single:
            return Text(text, 70)
        return Text(text, 80) if coefficient != 1 else self._atom(form.terms[0][0])

    def _atom(self, e: Expr) -> Text:
        """A part of an index that is not linear; value() would come back here."""
        if isinstance(e, Var):
            return Text(self._name(e.name))
        return self._binary(e) if isinstance(e, Binary) else self.value(e)


def fills_no_register(at: Expr) -> bool:
    """Whether a vector leaves lanes of its register over."""
    return at.lanes != register_lanes(at.lanes)


def _literal_binds(value: float) -> int:
    return _PRIMARY if value >= 0 or value != value else _UNARY


def _plus(e: Expr, n: int) -> Expr:
    return Binary(INDEX, e.lanes, "+", e, Const(INDEX, e.lanes, n))


def _as_load(e: Expr) -> Load:
    if not isinstance(e, Load):
        raise InternalError(f"the C emitter has no mask for {type(e).__name__}")
    return e
