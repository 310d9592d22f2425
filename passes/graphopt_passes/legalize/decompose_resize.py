"""decompose-resize: one axis at a time, a weighted sum of gathers at constant positions.

All of it is index arithmetic and pointwise work, so it fuses into one kernel and follows whatever
layout its input has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import GatherAttrs, ResizeAttrs
from graphopt.ops.window import resize_taps
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class DecomposeResize(RewritePass):
    """Numerics: reassociates. Refuses: nothing."""

    name: ClassVar[str] = "decompose-resize"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = ResizeAttrs

    def plan(self, node: Node) -> Plan | Reject:
        return Reject(LAID_OUT) if laid_out(node) else Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        assert isinstance(node.attrs, ResizeAttrs)
        x = node.operands[0]
        for i in range(len(node.attrs.size)):
            x = _axis(rw, x, node, node.attrs, i)
        rw.replace(node.result, x)


def _axis(rw: Rewriter, x: Value, node: Node, attrs: ResizeAttrs, i: int) -> Value:
    axis, size = 2 + i, attrs.size[i]
    total: Value | None = None
    for at, weight in resize_taps(x.type.dims[axis], size, attrs, i):
        index = rw.constant(at.astype(np.int32), name="resize.index")
        tap = rw.emit("gather", x, index, attrs=GatherAttrs(axis), loc=node.loc)
        if attrs.mode != "nearest":
            shape = [1] * x.type.rank
            shape[axis] = size
            w = rw.constant(weight.reshape(shape).astype(x.type.dtype.numpy), name="resize.weight")
            tap = rw.emit("mul", tap, w, loc=node.loc)
        total = tap if total is None else rw.emit("add", total, tap, loc=node.loc)
    assert total is not None
    return total
