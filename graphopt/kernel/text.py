"""Kernel IR as text: what a person reads and tests compare.

kernel go_scale(x: f32[64], out: f32[64] output) {
  parallel i in 0..4 {
    out[ramp(i*16, 1, 16)] = x[ramp(i*16, 1, 16)] * splat(2.0, 16)
  }
}
"""

from __future__ import annotations

from graphopt.ir.types import DType
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

_PRECEDENCE = {
    "or": 1, "xor": 1, "and": 2, "<": 3, "<=": 3, "==": 3, "!=": 3, ">": 3, ">=": 3,
    "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6,
}  # fmt: skip


def print_kernel(k: Kernel) -> str:
    """The whole kernel; `parse_kernel` reads it back."""
    params = ", ".join(_buffer(b) + (" output" if b.name in k.outputs else "") for b in k.params)
    return f"kernel {k.name}({params}) {{\n{_stmt(k.body, 1)}}}\n"


def print_expr(e: Expr) -> str:
    return _expr(e, 0)


def _buffer(b: Buffer) -> str:
    text = f"{b.name}: {b.dtype}[{', '.join(map(str, b.shape))}]"
    if b.strides != Buffer.dense("", b.dtype, b.shape).strides:
        text += f" strides[{', '.join(map(str, b.strides))}]"
    if b.offset:
        text += f" offset {b.offset}"
    if b.halo:
        text += " halo[" + ", ".join(f"{low}:{high}" for low, high in b.halo) + "]"
    return text if b.scope is Scope.PARAM else f"{text} {b.scope.value}"


def _stmt(s: Stmt, depth: int) -> str:
    pad = "  " * depth
    match s:
        case Block():
            return "".join(_stmt(c, depth) for c in s.body)
        case For():
            body = _stmt(s.body, depth + 1)
            return f"{pad}{s.kind.value} {s.var} in 0..{s.extent} {{\n{body}{pad}}}\n"
        case Store():
            op = {"": "=", "+": "+=", "*": "*="}.get(s.reduce, f"{s.reduce}=")
            tail = " nontemporal" if s.nontemporal else ""
            return f"{pad}{_access(s.buffer, s.index)} {op} {_expr(s.value, 0)}{tail}\n"
        case Let():
            return f"{pad}let {s.var} = {_expr(s.value, 0)}\n"
        case If():
            text = f"{pad}if {_expr(s.condition, 0)} {{\n{_stmt(s.then, depth + 1)}{pad}}}"
            if s.otherwise is not None:
                text += f" else {{\n{_stmt(s.otherwise, depth + 1)}{pad}}}"
            return text + "\n"
        case Alloc():
            return f"{pad}alloc {_buffer(s.buffer)}\n"
        case Prefetch():
            return f"{pad}prefetch {_access(s.buffer, s.index)}\n"
        case _:
            raise TypeError(type(s))


def _access(b: Buffer, index: tuple[Expr, ...]) -> str:
    return f"{b.name}[{', '.join(_expr(i, 0) for i in index)}]"


def _expr(e: Expr, outer: int) -> str:
    match e:
        case Const():
            return _const(e)
        case Var():
            default = e.dtype == INDEX and e.lanes == 1
            return e.name if default else f"{e.name}:{_type(e)}"
        case Binary() if e.op in _PRECEDENCE:
            p = _PRECEDENCE[e.op]
            text = f"{_expr(e.a, p)} {e.op} {_expr(e.b, p + 1)}"
            return f"({text})" if p < outer else text
        case Binary():
            return f"{e.op}({_expr(e.a, 0)}, {_expr(e.b, 0)})"
        case Call():
            result = "" if e.dtype == e.args[0].dtype else f":{e.dtype}"
            return f"{e.name}{result}({', '.join(_expr(a, 0) for a in e.args)})"
        case Select():
            parts = (e.condition, e.then, e.otherwise)
            return f"select({', '.join(_expr(p, 0) for p in parts)})"
        case Cast():
            return f"cast:{e.dtype}({_expr(e.a, 0)})"
        case Load():
            return _access(e.buffer, e.index)
        case Ramp():
            return f"ramp({_expr(e.base, 0)}, {e.stride}, {e.lanes})"
        case Broadcast():
            return f"splat({_expr(e.a, 0)}, {e.lanes})"
        case _:
            raise TypeError(type(e))


def _type(e: Expr) -> str:
    return str(e.dtype) if e.lanes == 1 else f"{e.dtype}x{e.lanes}"


def _const(e: Const) -> str:
    if e.dtype is DType.BOOL:
        text = "true" if e.value else "false"
    elif e.dtype is INDEX:
        text = str(int(e.value))
    elif e.dtype is DType.F32:
        text = repr(float(e.value))
    else:
        text = f"{e.value!r}:{e.dtype}"
    return text if e.lanes == 1 else f"splat({text}, {e.lanes})"
