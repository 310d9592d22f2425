"""fold-batchnorm: a batch norm behind a convolution goes into its weights.

%y = conv %x, %w, %b                          %y = conv %x, %w', %b'
%z = batch_norm %y, %g, %s, %mean, %var   →
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import BatchNormAttrs, ConvAttrs, ConvTransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.fold.channels import scaled
from graphopt_passes.legalize.decompose_batch_norm import scale_and_shift
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class FoldBatchnorm(RewritePass):
    """Numerics: reassociates. Refuses: a producer that is no convolution or is read elsewhere;
    weights or statistics computed at run time."""

    name: ClassVar[str] = "fold-batchnorm"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = BatchNormAttrs

    def plan(self, node: Node) -> Plan | Reject:
        conv = node.operands[0].producer
        if conv is None or not isinstance(conv.attrs, (ConvAttrs, ConvTransposeAttrs)):
            return Reject("its operand is not a convolution")
        return Plan(node, conv=conv)

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        plan = self.plan(node)
        if isinstance(plan, Reject):
            return plan
        if not rw.has_one_use(plan.conv.result):
            return Reject("the convolution is read elsewhere too")
        statistics = [rw.array(p) for p in node.operands[1:]]
        parameters = [rw.array(p) for p in plan.conv.operands[1:]]
        if any(a is None for a in (*statistics, *parameters)):
            return Reject("weights or statistics are computed at run time")
        return Plan(node, conv=plan.conv, statistics=statistics, parameters=parameters)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node, conv = plan.node, plan.conv
        assert isinstance(node.attrs, BatchNormAttrs)
        scale, shift = scale_and_shift(*plan.statistics, eps=node.attrs.eps)
        weight, *bias = plan.parameters
        folded = scaled(weight, scale, conv)
        offset = shift + (bias[0].astype(np.float64) * scale if bias else 0)
        loc, name = conv.loc, _name(conv.operands[1])
        w = rw.constant(folded.astype(weight.dtype), name=f"{name}.folded", loc=loc)
        b = rw.constant(offset.astype(weight.dtype), name=f"{name}.bias", loc=loc)
        x = conv.operands[0]
        rw.replace(node.result, rw.emit(conv.op.name, x, w, b, attrs=conv.attrs, loc=loc))


def _name(value: Value) -> str:
    return value.name or "weight"
