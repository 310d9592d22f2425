"""Regions to kernel IR: one rule per region kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node
from graphopt.lower.region import Lowered
from graphopt.target import Target
from graphopt.tune.space import NOTHING, Point, Space
from graphopt_backends.cpu.lower import attention, elementwise, products, reductions, scan, strips


@dataclass(frozen=True)
class Rule:
    """A lowering, and what it leaves open."""

    lower: Callable[[Node, Target, Point | None], Lowered]
    space: Callable[[Node, Target], Space] = lambda node, target: NOTHING


_ELEMENTWISE = Rule(lambda node, target, point: elementwise.lower(node, target))
_PRODUCTS = Rule(products.lower, products.space)

RULES: Mapping[str, Rule] = {
    "pointwise": _ELEMENTWISE,
    "movement": _ELEMENTWISE,
    "contraction": _PRODUCTS,
    "depthwise": _PRODUCTS,
    "window": _PRODUCTS,
    "strips": Rule(strips.lower, strips.space),
    "reduction": Rule(reductions.lower, reductions.space),
    "attention": Rule(attention.lower, attention.space),
    "opaque": Rule(lambda node, target, point: scan.lower(node, target)),
}


def lower_region(node: Node, target: Target, point: Point | None = None) -> Lowered:
    """The kernel of a fused node, by the cost model's schedule or by a `point` of its space.

    Raises: UnsupportedError for a kind without a rule.
    """
    return _rule(node).lower(node, target, point)


def region_space(node: Node, target: Target) -> Space:
    """The schedules that a fused node can be lowered with. Raises: UnsupportedError."""
    return _rule(node).space(node, target)


def _rule(node: Node) -> Rule:
    kind: str = node.attrs.kind  # type: ignore[attr-defined]
    rule = RULES.get(kind)
    if rule is None:
        raise UnsupportedError(f"the CPU backend has no lowering for {kind} regions at {node.loc}")
    return rule
