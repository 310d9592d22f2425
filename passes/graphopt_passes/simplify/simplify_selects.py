"""simplify-selects: choices, comparisons and logic whose result does not depend on their operands.

where(true, x, y)    →  x                   and(p, true), or(p, false)   →  p
where(c, x, x)       →  x                   and(p, false), or(p, true)   →  false, true
where(not c, x, y)   →  where(c, y, x)      not(not p), and(p, p)        →  p
not(i < j)           →  i >= j              not(x == y)                  →  x != y
i == i, i <= i       →  true                x < x, x > x                 →  false
maximum(x, x)        →  x                   xor(p, true)                 →  not p
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, full_like, make, producer, splat

_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
_HOLDS_FOR_EQUALS = {"eq": True, "le": True, "ge": True, "ne": False, "lt": False, "gt": False}


def _where(node: Node, rw: Rewriter) -> Recipe | None:
    condition, x, y = node.operands
    known = splat(rw, condition)
    if known is not None:
        return x if known else y
    if x is y:
        return x
    negated = producer(condition, "logical_not")
    if negated is not None and negated.operands[0].type.dtype is DType.BOOL:
        return make("where", negated.operands[0], y, x)
    return None


def _compare(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    x, y = node.operands
    if x is not y:
        return None
    holds = _HOLDS_FOR_EQUALS[node.op.name]
    if x.type.dtype.is_float and node.op.name not in ("lt", "gt"):
        return Reject("nan differs from itself")
    return full_like(node.result.type, holds)


def _logical_not(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    inner = node.operands[0].producer
    if inner is None:
        return None
    if inner.op.name == "logical_not" and inner.operands[0].type.dtype is DType.BOOL:
        return inner.operands[0]
    opposite = _OPPOSITE.get(inner.op.name)
    if opposite is None:
        return None
    if inner.operands[0].type.dtype.is_float and opposite not in ("eq", "ne"):
        return Reject("with a nan, neither a comparison nor its opposite holds")
    return make(opposite, *inner.operands)


def _bitwise_not(node: Node, rw: Rewriter) -> Recipe | None:
    inner = producer(node.operands[0], "bitwise_not")
    if inner is not None:
        return inner.operands[0]
    (x,) = node.operands
    return make("logical_not", x) if x.type.dtype is DType.BOOL else None


def _and(node: Node, rw: Rewriter) -> Recipe | None:
    return _lattice(node, rw, neutral=True)


def _or(node: Node, rw: Rewriter) -> Recipe | None:
    return _lattice(node, rw, neutral=False)


def _lattice(node: Node, rw: Rewriter, *, neutral: bool) -> Recipe | None:
    """x with itself, and bools with the neutral or the absorbing constant."""
    if node.operands[0] is node.operands[1]:
        return node.operands[0]
    if node.result.type.dtype is not DType.BOOL:
        return None
    for x, y in (node.operands, node.operands[::-1]):
        known = splat(rw, y)
        if known is not None:
            return x if bool(known) is neutral else full_like(node.result.type, not neutral)
    return None


def _xor(node: Node, rw: Rewriter) -> Recipe | None:
    if node.operands[0] is node.operands[1]:
        return full_like(node.result.type, 0)
    if node.result.type.dtype is not DType.BOOL:
        return None
    for x, y in (node.operands, node.operands[::-1]):
        known = splat(rw, y)
        if known is not None:
            return make("logical_not", x) if known else x
    return None


def _extremum(node: Node, rw: Rewriter) -> Recipe | None:
    return node.operands[0] if node.operands[0] is node.operands[1] else None


RULES: Mapping[str, tuple[Rule, ...]] = {
    "where": (_where,), "logical_not": (_logical_not,), "bitwise_not": (_bitwise_not,),
    "and": (_and,), "or": (_or,), "xor": (_xor,),
    "maximum": (_extremum,), "minimum": (_extremum,),
    **dict.fromkeys(_OPPOSITE, (_compare,)),
}  # fmt: skip


@dataclass(frozen=True)
class SimplifySelects(RulePass):
    """Numerics: exact. Refuses: comparisons of floats that a nan would decide otherwise."""

    name: ClassVar[str] = "simplify-selects"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
