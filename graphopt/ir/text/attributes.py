"""Attributes in text: raw literals to an op's attribute class."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from graphopt.errors import IRError
from graphopt.ops.base import Attrs, OpDef
from graphopt.syntax.lexer import Token, Tokens
from graphopt.syntax.literals import MismatchError, Raw, coerce, field_types, required_fields


def parse_attributes(
    tokens: Tokens, op: OpDef, raw: Mapping[str, tuple[Token, Raw]], at: Token
) -> Attrs:
    """`raw` as the attributes of `op`, whose name stands at `at`. Raises: ParseError."""
    known = field_types(op.attrs)
    for name, (key, _) in raw.items():
        if name not in known:
            tokens.fail(f"{op.name} has no attribute {name!r}", key, hint=_hint(op, name, known))
    for name in required_fields(op.attrs):
        if name not in raw:
            tokens.fail(f"{op.name} needs the attribute {name!r}", at, hint=_usage(op, known))
    values = {}
    for name, (key, value) in raw.items():
        try:
            values[name] = coerce(value, known[name])
        except MismatchError as expected:
            tokens.fail(f"attribute {name} of {op.name} must be {expected}", key)
    try:
        return op.attrs(**values)
    except (IRError, ValueError) as error:
        tokens.fail(f"{op.name}: {error}", at)


def _hint(op: OpDef, name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else _usage(op, known)


def _usage(op: OpDef, known: Mapping[str, object]) -> str:
    if not known:
        return f"{op.name} takes no attributes"
    return f"its attributes are {', '.join(known)}"
