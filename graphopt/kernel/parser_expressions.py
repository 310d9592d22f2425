"""Expressions of kernel text, by precedence climbing."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.grammar import DTYPES, FUNCTIONS, PRECEDENCE, RESERVED
from graphopt.kernel.intrinsics import INTRINSICS, intrinsic
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
from graphopt.syntax.lexer import Token, Tokens

_MAX_DEPTH = 100  # of nested expressions: a recursion must end before Python's
_TYPE = re.compile(r"([a-z]+[0-9]*)x([0-9]{1,4})")
_CONSTANTS: dict[str, tuple[DType, float | bool]] = {
    "true": (DType.BOOL, True), "false": (DType.BOOL, False), "inf": (DType.F32, math.inf),
    "nan": (DType.F32, math.nan),
}  # fmt: skip


class Names:
    """What names mean at a place in the text."""

    def __init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}
        self.types: dict[str, tuple[DType, int]] = {}
        self.abbreviations: dict[str, Expr] = {}

    @contextmanager
    def inner(self) -> Iterator[None]:
        """A scope: what it declares is forgotten after it."""
        saved = dict(self.buffers), dict(self.types)
        yield
        self.buffers, self.types = saved


def filled(e: Expr, lanes: int) -> Expr:
    """A constant beside vectors stands for all their lanes."""
    return replace(e, lanes=lanes) if isinstance(e, Const) and e.lanes == 1 else e


class ExpressionParser:
    def __init__(self, tokens: Tokens, names: Names) -> None:
        self.tokens, self.names = tokens, names
        self.depth = 0

    def parse(self, level: int = 0) -> Expr:
        """An expression of operators that bind at least as tightly as `level`."""
        t = self.tokens
        if self.depth >= _MAX_DEPTH:
            t.fail(f"expressions are nested deeper than {_MAX_DEPTH}")
        self.depth += 1
        left = self._primary()
        while t.peek.kind in ("word", "punct"):
            precedence = PRECEDENCE.get(t.peek.text, -1)
            if precedence < max(level, 1):
                break
            op = t.next().text
            left = _binary(op, left, self.parse(precedence + 1))
        self.depth -= 1
        return left

    def abbreviation(self) -> None:
        """`$0 = expr`: from here on $0 stands for the expression."""
        token = self.tokens.next()
        self.tokens.expect("=")
        self.names.abbreviations[token.text] = self.parse()

    def index(self) -> tuple[Expr, ...]:
        out: list[Expr] = []
        self.tokens.expect("[")
        while not self.tokens.accept("]"):
            if out:
                self.tokens.expect(",", hint="separate indices by commas, close with ]")
            out.append(self.parse())
        return tuple(out)

    def buffer(self) -> Buffer:
        """The buffer of a name. Raises: ParseError naming the nearest one."""
        token = self.tokens.peek
        name = self.name("a buffer")
        found = self.names.buffers.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.names.buffers, n=1)
            known = ", ".join(self.names.buffers) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"the buffers here are {known}"
            self.tokens.fail(f"there is no buffer {name!r} here", token, hint=hint)
        return found

    # Words and numbers -------------------------------------------------------------------------

    def name(self, noun: str) -> str:
        token = self.tokens.next()
        if token.kind == "string":
            return self.tokens.string(token)
        if token.kind != "word":
            self.tokens.fail(f"expected {noun}, found {token}", token)
        if token.text in RESERVED:
            hint = f'write "{token.text}" in quotes to use it as a name'
            self.tokens.fail(f"expected {noun}, found the keyword {token}", token, hint=hint)
        return token.text

    def integer(self, noun: str) -> int:
        sign = -1 if self.tokens.accept("-") else 1
        return sign * self.tokens.integer(noun)

    def dtype(self) -> DType:
        token = self.tokens.expect_kind("word", "a dtype")
        if token.text not in DTYPES:
            self._unknown_type(token)
        return DTYPES[token.text]

    def _type(self) -> tuple[DType, int]:
        """`f32` or `f32x16`."""
        token = self.tokens.expect_kind("word", "a type")
        vector = _TYPE.fullmatch(token.text)
        dtype = DTYPES.get(vector[1] if vector else token.text)
        if dtype is None:
            self._unknown_type(token)
        return dtype, int(vector[2]) if vector else 1

    def _unknown_type(self, token: Token) -> NoReturn:
        hint = f"dtypes are {', '.join(DTYPES)}"
        self.tokens.fail(f"{token} is no type", token, hint=hint)

    # Primaries ---------------------------------------------------------------------------------

    def _primary(self) -> Expr:
        t, token = self.tokens, self.tokens.peek
        if token.kind == "number" or token.text in _CONSTANTS or t.at("-"):
            return self._constant()
        if token.kind == "value":
            return self._abbreviated()
        if t.accept("("):
            inner = self.parse()
            t.expect(")")
            return inner
        if token.kind not in ("word", "string"):
            t.fail(f"expected an expression, found {token}")
        if token.kind == "word" and t.ahead(1).text in ("(", ":"):
            special = self._special(token)
            if special is not None:
                return special
        if t.ahead(1).text == "[":
            buffer = self.buffer()
            return _load(buffer, self.index())
        return self._variable()

    def _constant(self) -> Expr:
        t = self.tokens
        sign = -1 if t.accept("-") else 1
        token = t.next()
        if token.kind == "number":
            number = t.number(token)
            dtype, value = (INDEX if isinstance(number, int) else DType.F32), number
        elif token.kind == "word" and token.text in ("inf", "nan"):
            dtype, value = _CONSTANTS[token.text]
        elif token.kind == "word" and token.text in _CONSTANTS and sign > 0:
            dtype, value = _CONSTANTS[token.text]
            return Const(dtype, 1, value)
        else:
            t.fail(f"expected a number, found {token}", token)
        if t.accept(":"):
            dtype = self.dtype()
        return Const(dtype, 1, self._fitting(token, value if sign > 0 else -value, dtype))

    def _fitting(self, token: Token, value: float, dtype: DType) -> float | int:
        if dtype.is_float:
            return value if value != value else float(value)  # the one NaN equals itself
        info = np.iinfo(dtype.numpy) if dtype.is_integer else None
        if info is None or not isinstance(value, int) or not info.min <= value <= info.max:
            self.tokens.fail(f"{value} does not fit {dtype}", token)
        return value

    def _abbreviated(self) -> Expr:
        token = self.tokens.next()
        found = self.names.abbreviations.get(token.text)
        if found is None:
            self.tokens.fail(f"{token.text} is not defined above", token)
        return found

    def _variable(self) -> Expr:
        name = self.name("an expression")
        dtype, lanes = self.names.types.get(name, (INDEX, 1))
        if self.tokens.accept(":"):
            dtype, lanes = self._type()
        return Var(dtype, lanes, name)

    def _special(self, token: Token) -> Expr | None:
        """What is written as a call; None for a typed variable `x:f32`."""
        called = self.tokens.ahead(1).text == "(" or self.tokens.ahead(3).text == "("
        if not called or (token.text in RESERVED and token.text not in _SPECIAL):
            return None
        self.tokens.next()
        result = self.dtype() if self.tokens.accept(":") else None
        if token.text == "ramp":
            return self._ramp()
        if token.text == "splat":
            return self._splat()
        args = self._arguments()
        return self._call(token, result, args)

    def _arguments(self) -> tuple[Expr, ...]:
        out: list[Expr] = []
        self.tokens.expect("(")
        while not self.tokens.accept(")"):
            if out:
                self.tokens.expect(",", hint="separate arguments by commas, close with )")
            out.append(self.parse())
        lanes = max((e.lanes for e in out), default=1)
        return tuple(filled(e, lanes) for e in out)

    def _ramp(self) -> Expr:
        self.tokens.expect("(")
        base = self.parse()
        self.tokens.expect(",")
        stride = self.integer("a stride")
        self.tokens.expect(",")
        lanes = self._lanes()
        self.tokens.expect(")")
        return Ramp(INDEX, lanes, base, stride)

    def _splat(self) -> Expr:
        self.tokens.expect("(")
        a = self.parse()
        self.tokens.expect(",")
        lanes = self._lanes()
        self.tokens.expect(")")
        return filled(a, lanes) if isinstance(a, Const) else Broadcast(a.dtype, lanes, a)

    def _lanes(self) -> int:
        token = self.tokens.peek
        lanes = self.integer("a number of lanes")
        if not 2 <= lanes <= 4096:
            self.tokens.fail(f"{lanes} is no number of lanes", token, hint="2 to 4096")
        return lanes

    def _call(self, token: Token, result: DType | None, args: tuple[Expr, ...]) -> Expr:
        name = token.text
        arity = {**dict.fromkeys(FUNCTIONS, 2), "select": 3, "cast": 1}.get(name)
        if arity is None:
            arity = self._intrinsic_arity(token)
        if len(args) != arity:
            self.tokens.fail(f"{name} takes {arity} arguments, not {len(args)}", token)
        if name == "cast":
            if result is None:
                self.tokens.fail("cast needs a dtype", token, hint="write cast:f32(x)")
            return Cast(result, args[0].lanes, args[0])
        if name in FUNCTIONS:
            return _binary(name, *args)
        if name == "select":
            lanes = max(a.lanes for a in args)
            return Select(args[1].dtype, lanes, *args)
        row = INTRINSICS[name]
        lanes = 1 if row.across_lanes else max(a.lanes for a in args)
        return Call(result or row.result_dtype(args[0].dtype), lanes, name, args)

    def _intrinsic_arity(self, token: Token) -> int:
        try:
            return intrinsic(token.text).arity
        except IRError as error:
            self.tokens.fail(error.message, token, hint=error.hint)


_SPECIAL = frozenset({*FUNCTIONS, "select", "cast", "ramp", "splat"})


def _binary(op: str, a: Expr, b: Expr) -> Expr:
    lanes = max(a.lanes, b.lanes)
    dtype = DType.BOOL if op in COMPARISONS else a.dtype
    return Binary(dtype, lanes, op, filled(a, lanes), filled(b, lanes))


def _load(buffer: Buffer, index: tuple[Expr, ...]) -> Expr:
    return Load(buffer.dtype, max((i.lanes for i in index), default=1), buffer, index)
