"""explicit-padding: the padding of convolutions and pools becomes a `pad` of their input.

  %y = conv %x, %w {padding=[[1,1],[1,1]]}   →   %p = pad %x {before=[0,0,1,1], after=[0,0,1,1]}
                                                 %y = conv %p, %w {padding=[[0,0],[0,0]]}

Fusion then writes the padded tensor where it is produced, border and all, so that no inner loop
tests for it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import AvgPoolAttrs, ConvAttrs, MaxPoolAttrs, PadAttrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class ExplicitPadding(RewritePass):
    """Numerics: exact. Refuses: nodes without padding; average pools whose divisor counts only
    elements inside (see decompose-pooling)."""

    name: ClassVar[str] = "explicit-padding"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar = (ConvAttrs, MaxPoolAttrs, AvgPoolAttrs)

    def plan(self, node: Node) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        attrs = node.attrs
        padding = attrs.padding  # type: ignore[attr-defined]
        if not any(map(any, padding)):
            return Reject("it has no padding")
        if isinstance(attrs, AvgPoolAttrs) and not attrs.count_include_pad:
            return Reject("its divisor counts only elements inside the input")
        return Plan(node, padding=padding, fill=_fill(node))

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        x, *rest = node.operands
        padded = pad(rw, x, plan.padding, plan.fill, node)
        none = tuple((0, 0) for _ in plan.padding)
        attrs = dataclasses.replace(node.attrs, padding=none)  # type: ignore[call-arg]
        rw.replace(node.result, rw.emit(node.op.name, padded, *rest, attrs=attrs, loc=node.loc))


def pad(
    rw: Rewriter, x: Value, padding: tuple[tuple[int, int], ...], fill: float, node: Node
) -> Value:
    """`x` with spatial padding (before, after); an equal pad that exists already is shared."""
    before = (0, 0, *(b for b, _ in padding))
    after = (0, 0, *(a for _, a in padding))
    attrs = PadAttrs(before, after, fill, "constant")
    for user in rw.users(x):
        if user.attrs == attrs:
            return user.result
    return rw.emit("pad", x, attrs=attrs, loc=node.loc)


def _fill(node: Node) -> float:
    if not isinstance(node.attrs, MaxPoolAttrs):
        return 0.0
    dtype = node.operands[0].type.dtype
    return -math.inf if dtype.is_float else float(np.iinfo(dtype.numpy).min)
