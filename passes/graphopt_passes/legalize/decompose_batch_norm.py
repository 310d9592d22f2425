"""decompose-batch-norm: what fold-batchnorm could not fold becomes a scale and a shift.

%y = batch_norm %x, %w, %b, %mean, %var   →   %m = mul %x, %scale
                                              %y = add %m, %shift
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import BatchNormAttrs, FullAttrs, ReshapeAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class DecomposeBatchNorm(RewritePass):
    """Numerics: reassociates. Refuses: layouts that are chosen already."""

    name: ClassVar[str] = "decompose-batch-norm"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = BatchNormAttrs

    def plan(self, node: Node) -> Plan | Reject:
        return Plan(node)

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        arrays = [rw.array(p) for p in node.operands[1:]]
        return Plan(node, arrays=None if any(a is None for a in arrays) else arrays)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        assert isinstance(node.attrs, BatchNormAttrs)
        x = node.operands[0]
        shape = (x.type.dims[1], *(1,) * (x.type.rank - 2))
        if plan.arrays is None:
            a, b = (
                rw.emit("reshape", v, attrs=ReshapeAttrs(shape), loc=node.loc)
                for v in _computed(node, rw)
            )
        else:
            scale, shift = scale_and_shift(*plan.arrays, eps=node.attrs.eps)
            dtype = x.type.dtype.numpy
            a = rw.constant(scale.reshape(shape).astype(dtype), name="batch_norm.scale")
            b = rw.constant(shift.reshape(shape).astype(dtype), name="batch_norm.shift")
        scaled = rw.emit("mul", x, a, loc=node.loc)
        rw.replace(node.result, rw.emit("add", scaled, b, loc=node.loc))


def _computed(node: Node, rw: Rewriter) -> tuple[Value, Value]:
    """Scale and shift of a batch norm whose parameters are no constants."""
    assert isinstance(node.attrs, BatchNormAttrs)
    _, weight, bias, mean, var = node.operands

    def emit(op: str, *operands: Value) -> Value:
        return rw.emit(op, *operands, loc=node.loc)

    eps = rw.emit("full", attrs=FullAttrs(node.attrs.eps, (), var.type.dtype), loc=node.loc)
    scale = emit("mul", weight, emit("rsqrt", emit("add", var, eps)))
    return scale, emit("sub", bias, emit("mul", mean, scale))


def scale_and_shift(
    weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per channel, in float64: batch_norm(x) = x * scale + shift."""
    scale = weight.astype(np.float64) / np.sqrt(var.astype(np.float64) + eps)
    return scale, bias - mean * scale
