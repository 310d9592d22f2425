"""What the printer and the parser of kernel text agree on.

    kernel    = "kernel" name "(" [buffer ["output"], ..] ")" "{" statement .. "}"
    buffer    = name ":" dtype "[" extent, .. "]" ["strides" "[" NUMBER, .. "]"] ["offset" NUMBER]
                ["halo" "[" before ":" after, .. "]"] [scope]
    statement = kind name "in" "0" ".." extent "{" statement .. "}"
              | access ("=" | "+=" | "*=" | ("min" | "max" | "and" | "or") "=") expr ["nontemporal"]
              | "let" name "=" expr
              | "if" expr "{" statement .. "}" ["else" "{" statement .. "}"]
              | "alloc" buffer
              | "prefetch" access ["l2"]
              | "$" NUMBER "=" expr
    access    = name "[" [expr, ..] "]"
    expr      = expr operator expr | "(" expr ")" | access | name [":" type] | "$" NUMBER
              | NUMBER [":" dtype] | "true" | "false" | "inf" | "nan"
              | ("min" | "max" | intrinsic) [":" dtype] "(" expr, .. ")"
              | "select" "(" expr "," expr "," expr ")" | "cast" ":" dtype "(" expr ")"
              | "ramp" "(" expr "," stride "," lanes ")" | "splat" "(" expr "," lanes ")"

A number is an f32 with a fraction and an i64 without; beside a vector a constant stands for all its
lanes. A variable has the type of the loop or `let` that binds it unless it says otherwise. `$0 = x`
says x once in the text for an expression that a statement holds many times; it has no meaning.
"""

from __future__ import annotations

import re

from graphopt.ir.types import DType
from graphopt.kernel.ir import LoopKind, Scope
from graphopt.syntax.lexer import quote

TOKEN = re.compile(
    r"""
      (?P<space>(?:[ \t\r\n]+|\#[^\n]*)+)
    | (?P<value>\$[0-9]+)
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<punct>\.\.|//|<<|>>|<=|>=|==|!=|\+=|\*=|[-+*/%<>=(){}\[\],:])
    """,
    re.VERBOSE,
)

PRECEDENCE = {
    "or": 1, "xor": 1, "and": 2, "<": 3, "<=": 3, "==": 3, "!=": 3, ">": 3, ">=": 3,
    "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6,
}  # fmt: skip
FUNCTIONS = ("min", "max")
"""Binary operations written as calls."""

ASSIGN = {"=": "", "+=": "+", "*=": "*"}
"""Text of a store → its reduction; the others are a word before `=`."""
ASSIGN_WORDS = ("min", "max", "and", "or")

LOOPS = {kind.value: kind for kind in LoopKind}
SCOPES = {scope.value: scope for scope in Scope if scope is not Scope.PARAM}
DTYPES = {dtype.value: dtype for dtype in DType}

RESERVED = frozenset({
    *LOOPS, *SCOPES, *FUNCTIONS, *ASSIGN_WORDS, "xor", "inf", "nan", "true", "false", "kernel",
    "let", "if", "else", "alloc", "prefetch", "select", "cast", "ramp", "splat", "in",
    "nontemporal", "l2", "output", "strides", "offset", "halo",
})  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def name(text: str) -> str:
    """A name as the text has it: quoted where it is no plain word."""
    return text if _PLAIN.fullmatch(text) and text not in RESERVED else quote(text)


def type_text(dtype: DType, lanes: int) -> str:
    return str(dtype) if lanes == 1 else f"{dtype}x{lanes}"
