"""compose-pads: pads that add nothing, or follow each other with one value.

pad(x, by 0)                    →  x
pad(pad(x, by p), by q)         →  pad(x, by p + q)     where both pad with the same constant
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import PadAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, producer


def _pad(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    outer = node.attrs
    assert isinstance(outer, PadAttrs)
    if not any((*outer.before, *outer.after)):
        return node.operands[0]
    inner = producer(node.operands[0], "pad")
    if inner is None:
        return Reject("its operand is not a pad")
    assert isinstance(inner.attrs, PadAttrs)
    if not _same_constant(inner.attrs, outer):
        return Reject("the two pad with different values")
    attrs = PadAttrs(
        _sum(inner.attrs.before, outer.before),
        _sum(inner.attrs.after, outer.after),
        outer.value,
        "constant",
    )
    return make("pad", inner.operands[0], attrs=attrs)


def _same_constant(a: PadAttrs, b: PadAttrs) -> bool:
    return a.mode == b.mode == "constant" and repr(a.value) == repr(b.value)  # 0.0 is not -0.0


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


RULES: Mapping[str, tuple[Rule, ...]] = {"pad": (_pad,)}


@dataclass(frozen=True)
class ComposePads(RulePass):
    """Numerics: exact. Refuses: reflecting and replicating pads, and two different values."""

    name: ClassVar[str] = "compose-pads"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
