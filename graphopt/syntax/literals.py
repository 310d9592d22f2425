"""Literals of IR attributes and pass options: text ↔ raw values ↔ the types of dataclass fields."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from graphopt.syntax.lexer import PLAIN_WORD, Token, Tokens, quote

_MAX_DEPTH = 16  # of nested lists: attributes need 2, and a recursion must end before Python's


class Word(str):
    """A bare word: a dtype, `true`, `false`, `none`, or a string without its quotes."""

    __slots__ = ()


Raw = Any
"""int, float, str, Word, or a list of these: what a literal is before its type is known."""


class MismatchError(Exception):
    """A raw value does not fit a field's type; the message says what was expected."""


# Text to raw values ------------------------------------------------------------------------------


def parse_literal(tokens: Tokens, depth: int = 0) -> Raw:
    """Raises: ParseError."""
    token = tokens.next()
    if token.kind == "number":
        return tokens.number(token)
    if token.kind == "string":
        return tokens.string(token)
    if token.kind == "word":
        return Word(token.text)
    if token.text != "[":
        hint = 'write 3, 0.5, true, "text" or [..]'
        tokens.fail(f"expected a value, found {token}", token, hint=hint)
    if depth >= _MAX_DEPTH:
        tokens.fail(f"lists are nested deeper than {_MAX_DEPTH}", token)
    return _parse_list(tokens, depth)


def _parse_list(tokens: Tokens, depth: int) -> list[Raw]:
    out: list[Raw] = []
    while not tokens.accept("]"):
        if out:
            tokens.expect(",", hint="separate list elements by commas, close the list with ]")
        out.append(parse_literal(tokens, depth + 1))
    return out


def parse_fields(tokens: Tokens) -> dict[str, tuple[Token, Raw]]:
    """`{key=value, ...}` to raw values, each with the token of its key. Raises: ParseError."""
    tokens.expect("{")
    out: dict[str, tuple[Token, Raw]] = {}
    while not tokens.accept("}"):
        if out:
            tokens.expect(",", hint="separate entries by commas, close with }")
        key = tokens.expect_kind("word", "a name")
        if key.text in out:
            tokens.fail(f"{key.text} is given twice", key)
        tokens.expect("=")
        out[key.text] = key, parse_literal(tokens)
    return out


# Raw values to typed ones ------------------------------------------------------------------------


def field_types(cls: type) -> Mapping[str, Any]:
    """Name → type of a dataclass's fields, in order."""
    return _field_types(cls)


def required_fields(cls: type) -> tuple[str, ...]:
    """Names of the fields that have no default."""
    return _required_fields(cls)


def default_fields(cls: type) -> Mapping[str, Any]:
    """Name → value of the fields that have one by default."""
    return _default_fields(cls)


@cache
def _default_fields(cls: type) -> Mapping[str, Any]:
    missing = dataclasses.MISSING
    return {f.name: f.default for f in dataclasses.fields(cls) if f.default is not missing}


@cache
def _field_types(cls: type) -> Mapping[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


@cache
def _required_fields(cls: type) -> tuple[str, ...]:
    missing = dataclasses.MISSING
    return tuple(
        f.name
        for f in dataclasses.fields(cls)
        if f.init and f.default is missing and f.default_factory is missing
    )


def coerce(raw: Raw, hint: Any) -> Any:
    """The raw value as the type of a field. Raises: MismatchError."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _coerce_union(raw, args)
    if origin is Literal and str(raw) in args:
        return str(raw)
    if origin in (tuple, frozenset) and isinstance(raw, list):
        return origin(_coerce_elements(raw, hint))
    if hint is tuple and isinstance(raw, list):
        return tuple(_natural(r) for r in raw)
    return _coerce_scalar(raw, hint)


def _coerce_union(raw: Raw, args: tuple[Any, ...]) -> Any:
    if raw == "none" and isinstance(raw, Word) and type(None) in args:
        return None
    for arg in args:
        try:
            return coerce(raw, arg)
        except MismatchError:
            continue
    raise MismatchError(" or ".join(describe(a) for a in args))


def _coerce_elements(raw: list[Raw], hint: Any) -> list[Any]:
    args = get_args(hint)
    if get_origin(hint) is frozenset or args[-1:] == (...,):
        return [coerce(r, args[0]) for r in raw]
    if len(raw) != len(args):
        raise MismatchError(describe(hint))
    return [coerce(r, a) for r, a in zip(raw, args, strict=True)]


def _coerce_scalar(raw: Raw, hint: Any) -> Any:
    if hint is bool and raw in ("true", "false") and isinstance(raw, Word):
        return raw == "true"
    if hint is int and isinstance(raw, int):
        return raw
    if hint is float and isinstance(raw, int | float):
        return _as_float(raw)
    if hint is str and isinstance(raw, str):
        return str(raw)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        for member in hint:
            if isinstance(raw, str) and member.value == raw:
                return member
    raise MismatchError(describe(hint))


def _as_float(raw: float) -> float:
    try:
        return float(raw)
    except OverflowError as error:
        raise MismatchError("a number that a float can hold") from error


def _natural(raw: Raw) -> Any:
    """A raw value whose type nothing states."""
    if isinstance(raw, list):
        return tuple(_natural(r) for r in raw)
    named = {"true": True, "false": False, "none": None}
    return named.get(raw, str(raw)) if isinstance(raw, Word) else raw


def conforms(value: object, hint: Any) -> bool:
    """Whether a field's value is of the field's type: what prints and parses back as itself."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(conforms(value, a) for a in args)
    if origin is Literal:
        return value in args
    if origin in (tuple, frozenset):
        return isinstance(value, origin) and _elements_conform(tuple(value), hint)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def _elements_conform(values: tuple[object, ...], hint: Any) -> bool:
    args = get_args(hint)
    if get_origin(hint) is frozenset or args[-1:] == (...,):
        return all(conforms(v, args[0]) for v in values)
    return len(values) == len(args) and all(map(conforms, values, args))


def describe(hint: Any) -> str:
    """A field's type in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        return " or ".join(map(quote, args))
    if origin in (tuple, frozenset):
        if origin is frozenset or args[-1:] == (...,):
            return f"a list, each element {describe(args[0])}"
        return "a list of " + " and ".join(describe(a) for a in args)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"one of {', '.join(str(m.value) for m in hint)}"
    return _NOUNS.get(hint, str(getattr(hint, "__name__", hint)))


_NOUNS: dict[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a string",
    tuple: "a list", type(None): "none",
}  # fmt: skip


# Values to text ----------------------------------------------------------------------------------


def format_literal(value: object, *, bare: bool = False) -> str:
    """Text that `parse_literal` and `coerce` read back. `bare`: no quotes where none are needed."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, enum.Enum):
        return format_literal(value.value, bare=True)
    if isinstance(value, frozenset):
        value = tuple(sorted(value))
    if isinstance(value, tuple | list):
        return "[" + ",".join(format_literal(v, bare=bare) for v in value) + "]"
    return _format_string(str(value), bare)


def _format_string(text: str, bare: bool) -> str:
    plain = bare and PLAIN_WORD.fullmatch(text) and text not in ("true", "false", "none")
    return text if plain else quote(text)
