"""Patterns of nodes: what a composite looks like, matched against the values of a graph.

    HALF_SQUARE = op("mul", op("mul", X, X), number(0.5))
    matched = match(HALF_SQUARE, value, rw)      # {"x": the value} or None

A name that occurs twice must be the same value. Operands of commutative ops match in either order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from graphopt.ir.graph import Value
from graphopt.rewrite import Rewriter
from graphopt_passes.recipes import splat


@dataclass(frozen=True)
class Any:
    """Any value, remembered by name."""

    name: str


@dataclass(frozen=True)
class Number:
    """A splat of this number. Not one rounded to float32: the gate would see the difference."""

    value: float


@dataclass(frozen=True)
class Op:
    """The result of a node of this op. `name`, where given, remembers the value."""

    op: str
    operands: tuple[Pattern, ...]
    name: str = ""


Pattern = Any | Number | Op
Matched = dict[str, Value]


def op(name: str, *operands: Pattern, bind: str = "") -> Op:
    return Op(name, operands, bind)


def match(pattern: Pattern, value: Value, rw: Rewriter) -> Matched | None:
    """The values of the pattern's names, for the first way in which it matches."""
    return next(_matches(pattern, value, rw, {}), None)


def _matches(pattern: Pattern, value: Value, rw: Rewriter, known: Matched) -> Iterator[Matched]:
    if isinstance(pattern, Any):
        yield from _bound(pattern.name, value, known)
    elif isinstance(pattern, Number):
        number = splat(rw, value)
        if number is not None and math.isclose(number, pattern.value, rel_tol=1e-10):
            yield known
    else:
        yield from _node_matches(pattern, value, rw, known)


def _node_matches(pattern: Op, value: Value, rw: Rewriter, known: Matched) -> Iterator[Matched]:
    node = value.producer
    if node is None or node.op.name != pattern.op or len(node.operands) != len(pattern.operands):
        return
    orders = permutations(node.operands) if node.op.commutative else iter((node.operands,))
    for bound in _bound(pattern.name, value, known):
        for operands in orders:
            yield from _all_match(pattern.operands, tuple(operands), rw, bound)


def _all_match(
    patterns: tuple[Pattern, ...], values: tuple[Value, ...], rw: Rewriter, known: Matched
) -> Iterator[Matched]:
    if not patterns:
        yield known
        return
    for bound in _matches(patterns[0], values[0], rw, known):
        yield from _all_match(patterns[1:], values[1:], rw, bound)


def _bound(name: str, value: Value, known: Matched) -> Iterator[Matched]:
    if not name:
        yield known
    elif known.get(name, value) is value:
        yield {**known, name: value}
