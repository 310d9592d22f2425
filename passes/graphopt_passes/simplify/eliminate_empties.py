"""eliminate-empties: nothing is computed for tensors of no elements, nor from them alone.

%y = add %x, %z : f32[0,3]              →   %y = full {value=0, shape=[0,3]}
%y = sum %x {axes=[1]}, x : f32[2,0]    →   %y = full {value=0, shape=[2]}
%y = linear %x, %w, %b, x : f32[2,0]    →   %y = expand %b {shape=[2,5]}
%y = concat %x, %z, x : f32[2,0]        →   %z
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import TensorType
from graphopt.ops import ReshapeAttrs
from graphopt.ops.base import Attrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import (
    LAID_OUT,
    Recipe,
    as_wide,
    constant,
    full,
    laid_out,
    make,
    realize,
    uniform,
)


def is_empty(type: TensorType) -> bool:
    return 0 in type.shape


def _concat(node: Node) -> Recipe:
    parts = [o for o in node.operands if not is_empty(o.type)]
    return parts[0] if len(parts) == 1 else make("concat", *parts, attrs=node.attrs)


def _zeros(node: Node) -> Recipe:
    """Sums of nothing."""
    return full(0, node.result.type.dims, node.result.type.dtype)


def _product(node: Node) -> Recipe:
    """Sums of nothing, and a bias."""
    if len(node.operands) < 3:
        return _zeros(node)
    bias, spatial = node.operands[2], node.result.type.rank - 2
    if node.op.name == "linear":
        return bias
    return make("reshape", bias, attrs=ReshapeAttrs((*bias.type.dims, *(1,) * spatial)))


def _scatter(node: Node) -> Recipe | None:
    x, _, updates = node.operands
    return x if is_empty(updates.type) else None


def _attention(node: Node) -> Recipe:
    """Without keys there is nothing to add up; without features every score is 0."""
    q, k, v, *mask = node.operands
    if is_empty(v.type):
        return _zeros(node)
    zeros = (full(0, (*x.type.dims[:3], 1), x.type.dtype) for x in (q, k))
    return make("attention", *zeros, v, *mask, attrs=node.attrs)


_RULES: Mapping[str, Callable[[Node], Recipe | None]] = {
    "concat": _concat, "linear": _product, "conv": _product, "conv_transpose": _product,
    "grouped_matmul": _zeros, "gathered_matmul": _zeros,
    "scatter_nd": _scatter, "scatter_along": _scatter, "attention": _attention,
}  # fmt: skip
"""What is left of a node that reads something empty and something else."""


def _of_nothing(node: Node) -> Recipe:
    """The result where every operand is empty: its op's meaning, which attributes alone decide."""
    empties = (np.empty(o.type.dims, o.type.dtype.numpy) for o in node.operands)
    array = np.asarray(node.op.reference(*empties, node.attrs))
    value = uniform(array)
    if value is None:
        return constant(array, node.op.name)
    return full(value, node.result.type.dims, node.result.type.dtype)


def _replaced(node: Node) -> Recipe | None:
    if all(is_empty(o.type) for o in node.operands):
        return _of_nothing(node)
    rule = _RULES.get(node.op.name)
    return None if rule is None else rule(node)


@dataclass(frozen=True)
class EliminateEmpties(RewritePass):
    """Numerics: exact. Refuses: sources, which compute nothing; symbolic dimensions; regions and
    layouts that are chosen already.
    """

    name: ClassVar[str] = "eliminate-empties"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[type[Attrs]] = Attrs

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        types = [v.type for v in (*node.operands, *node.results)]
        if not any(map(is_empty, types)):
            return Reject("nothing that it reads or makes is empty")
        if node.op.kind in ("source", "region"):
            return Reject(f"{node.op.name} is not computed from operands")
        if laid_out(node):
            return Reject(LAID_OUT)
        if not all(t.is_static for t in types):
            return Reject("a dimension is symbolic")
        if all(is_empty(r.type) for r in node.results):
            return Plan(node, recipes=[full(0, r.type.dims, r.type.dtype) for r in node.results])
        recipe = _replaced(node)
        if recipe is None:
            return Reject(f"{node.op.name} has a result without what is empty")
        return Plan(node, recipes=[as_wide(recipe, node.result.type)])

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        for result, recipe in zip(plan.node.results, plan.recipes, strict=True):
            rw.replace(result, realize(recipe, rw, plan.node.loc))
