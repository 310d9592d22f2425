"""Kernel IR as text: what a person reads and tests compare. `grammar` has the grammar.

kernel go_scale(x: f32[64], out: f32[64] output) {
  parallel i in 0..4 {
    out[ramp(i * 16, 1, 16)] = x[ramp(i * 16, 1, 16)] * 2.0
  }
}
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.types import DType
from graphopt.kernel.grammar import ASSIGN, FUNCTIONS, PRECEDENCE, name, type_text
from graphopt.kernel.intrinsics import INTRINSICS
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Broadcast,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    Prefetch,
    Ramp,
    Scope,
    Select,
    Stmt,
    Store,
    Var,
)
from graphopt.kernel.sharing import Dag, tree_size

_WIDTH = 100
_LARGE = 300
"""Expressions of a statement from which on what it repeats is written once. The longest of the
model zoo's but one has 106."""
_ASSIGN = {reduce: text for text, reduce in ASSIGN.items()}
Type = tuple[DType, int]


def print_kernel(k: Kernel) -> str:
    """The whole kernel; `parse_kernel` reads it back."""
    params = [_buffer(b) + (" output" if b.name in k.outputs else "") for b in k.params]
    head = f"kernel {name(k.name)}({', '.join(params)}) {{"
    if len(head) > _WIDTH:
        head = f"kernel {name(k.name)}(\n    " + ",\n    ".join(params) + "\n) {"
    printer = _Printer()
    printer.statement(k.body, 1)
    return "\n".join([head, *printer.lines, "}", ""])


def print_stmt(s: Stmt) -> str:
    """A statement alone, for messages."""
    printer = _Printer()
    printer.statement(s, 0)
    return "\n".join(printer.lines)


def print_expr(e: Expr) -> str:
    """An expression alone, for messages: variables state their type unless it is a scalar i64."""
    return _Printer().expr(e)


def _buffer(b: Buffer) -> str:
    text = f"{name(b.name)}: {b.dtype}[{', '.join(map(str, b.shape))}]"
    if b.strides != Buffer.dense("", b.dtype, b.shape).strides:
        text += f" strides[{', '.join(map(str, b.strides))}]"
    if b.offset:
        text += f" offset {b.offset}"
    if b.halo:
        text += " halo[" + ", ".join(f"{low}:{high}" for low, high in b.halo) + "]"
    return text if b.scope is Scope.PARAM else f"{text} {b.scope.value}"


class _Printer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.types: dict[str, Type] = {}
        self._sizes: dict[int, int] = {}
        self._dag: Dag | None = None
        self._abbreviated: dict[int, str] = {}
        self._count = 0

    # Statements --------------------------------------------------------------------------------

    def statement(self, s: Stmt, depth: int) -> None:
        match s:
            case Block():
                for c in s.body:
                    self.statement(c, depth)
            case For():
                self._line(depth, f"{s.kind.value} {name(s.var)} in 0..{s.extent} {{")
                self._inner(s.body, depth, {s.var: (INDEX, 1)})
                self._line(depth, "}")
            case Store():
                self._share((*s.index, s.value), depth)
                self._line(depth, self._store(s))
            case Let():
                self._share((s.value,), depth)
                self._line(depth, f"let {name(s.var)} = {self.expr(s.value)}")
                self.types[s.var] = s.value.dtype, s.value.lanes
            case If():
                self._share((s.condition,), depth)
                self._if(s, depth)
            case Alloc():
                self._line(depth, f"alloc {_buffer(s.buffer)}")
            case Prefetch():
                self._share(s.index, depth)
                cache = " l2" if s.level == 2 else ""
                self._line(depth, f"prefetch {self._access(s.buffer, s.index)}{cache}")
            case _:  # broken, but errors must be able to show it
                self._line(depth, f"?{type(s).__name__}")

    def _line(self, depth: int, text: str) -> None:
        self.lines.append("  " * depth + text)

    def _inner(self, s: Stmt, depth: int, bound: dict[str, Type] | None = None) -> None:
        saved = self.types
        self.types = {**saved, **(bound or {})}
        self.statement(s, depth + 1)
        self.types = saved

    def _if(self, s: If, depth: int) -> None:
        self._line(depth, f"if {self.expr(s.condition)} {{")
        self._inner(s.then, depth)
        if s.otherwise is not None:
            self._line(depth, "} else {")
            self._inner(s.otherwise, depth)
        self._line(depth, "}")

    def _store(self, s: Store) -> str:
        op = _ASSIGN.get(s.reduce, f"{s.reduce}=")
        vector = any(i.lanes > 1 for i in s.index)
        value = _literal(s.value) if vector and isinstance(s.value, Const) else self.expr(s.value)
        tail = " nontemporal" if s.nontemporal else ""
        return f"{self._access(s.buffer, s.index)} {op} {value}{tail}"

    def _share(self, roots: Sequence[Expr], depth: int) -> None:
        """Lines that say once what a large statement holds more than once."""
        self._dag = None
        if sum(tree_size(e, self._sizes) for e in roots) < _LARGE:
            return
        dag, self._abbreviated = Dag(), {}
        tops = [dag.intern(e) for e in roots]
        self._dag = dag
        for n, times in enumerate(dag.uses(tops, _is_short)):
            if times > 1 and not _is_short(dag.nodes[n]):
                text, self._count = f"${self._count}", self._count + 1
                self._line(depth, f"{text} = {self.expr(dag.nodes[n])}")
                self._abbreviated[n] = text

    # Expressions -------------------------------------------------------------------------------

    def expr(self, e: Expr, outer: int = 0) -> str:
        if self._dag is not None:
            known = self._abbreviated.get(self._dag.intern(e))
            if known is not None:
                return known
        match e:
            case Const():
                return _literal(e) if e.lanes == 1 else f"splat({_literal(e)}, {e.lanes})"
            case Var():
                plain = self.types.get(e.name, (INDEX, 1)) == (e.dtype, e.lanes)
                return name(e.name) + ("" if plain else f":{type_text(e.dtype, e.lanes)}")
            case Binary():
                return self._binary(e, outer)
            case Call():
                return f"{e.name}{_result(e)}({self._arguments(e.args)})"
            case Select():
                return f"select({self._arguments((e.condition, e.then, e.otherwise))})"
            case Cast():
                return f"cast:{e.dtype}({self.expr(e.a)})"
            case Load():
                return self._access(e.buffer, e.index)
            case Ramp():
                return f"ramp({self.expr(e.base)}, {e.stride}, {e.lanes})"
            case Broadcast():
                return f"splat({self.expr(e.a)}, {e.lanes})"
            case _:
                return f"?{type(e).__name__}"

    def _binary(self, e: Binary, outer: int) -> str:
        if e.op in FUNCTIONS or e.op not in PRECEDENCE:
            return f"{e.op}({self._arguments((e.a, e.b))})"
        p = PRECEDENCE[e.op]
        a, b = self._beside((e.a, e.b), (p, p + 1))
        return f"({a} {e.op} {b})" if p < outer else f"{a} {e.op} {b}"

    def _access(self, b: Buffer, index: tuple[Expr, ...]) -> str:
        return f"{name(b.name)}[{', '.join(self.expr(i) for i in index)}]"

    def _arguments(self, parts: Sequence[Expr]) -> str:
        return ", ".join(self._beside(parts, (0,) * len(parts)))

    def _beside(self, parts: Sequence[Expr], levels: Sequence[int]) -> list[str]:
        """Vector constants need no `splat` beside another vector."""
        bare = any(p.lanes > 1 and not isinstance(p, Const) for p in parts)
        return [
            _literal(p) if bare and isinstance(p, Const) else self.expr(p, level)
            for p, level in zip(parts, levels, strict=True)
        ]


def _is_short(e: Expr) -> bool:
    return isinstance(e, (Var, Const))


def _result(e: Call) -> str:
    """The result type where the table of intrinsics does not give it."""
    row = INTRINSICS.get(e.name)
    given = row.result_dtype(e.args[0].dtype) if row and e.args else None
    return "" if given is e.dtype else f":{e.dtype}"


def _literal(e: Const) -> str:
    """One lane of a constant."""
    if e.dtype is DType.BOOL:
        return "true" if e.value else "false"
    if not isinstance(e.value, (int, float)):  # broken, but errors must be able to show it
        return repr(e.value)
    text = repr(float(e.value)) if e.dtype.is_float else str(int(e.value))
    return text if e.dtype in (INDEX, DType.F32) else f"{text}:{e.dtype}"
