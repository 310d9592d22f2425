"""Regions to kernel IR: one rule per region kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node
from graphopt.target import Target
from graphopt_backends.cpu.lower import attention, elementwise, products, rows, scan
from graphopt_backends.cpu.lower.region import Lowered

RULES: Mapping[str, Callable[[Node, Target], Lowered]] = {
    "pointwise": elementwise.lower,
    "movement": elementwise.lower,
    "contraction": products.lower,
    "depthwise": products.lower,
    "window": products.lower,
    "reduction": rows.lower,
    "attention": attention.lower,
    "opaque": scan.lower,
}


def lower_region(node: Node, target: Target) -> Lowered:
    """The kernel of a fused node. Raises: UnsupportedError for a kind without a rule."""
    kind: str = node.attrs.kind  # type: ignore[attr-defined]
    rule = RULES.get(kind)
    if rule is None:
        raise UnsupportedError(f"the CPU backend has no lowering for {kind} regions at {node.loc}")
    return rule(node, target)
