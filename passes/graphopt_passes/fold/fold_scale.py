"""fold-scale: a product's result times a constant, or plus one, goes into weights and bias.

%y = conv %x, %w, %b
%z = mul %y, %s : f32[1,8,1,1]   →   %z = conv %x, %w * %s, %b * %s
%y = linear %x, %w, %b
%z = add %y, %c : f32[8]         →   %z = linear %x, %w, %b + %c
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.fold.channels import PRODUCTS, per_channel, scaled
from graphopt_passes.recipes import LAID_OUT, laid_out, producer, with_known


@dataclass(frozen=True)
class FoldScale(RewritePass):
    """Numerics: reassociates. Refuses: weights that are computed at run time or shared; a product
    that is read elsewhere, or of integers; a constant that varies along other axes than the
    channels.
    """

    name: ClassVar[str] = "fold-scale"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar[tuple[str, ...]] = ("mul", "add")

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        pair = with_known(rw, node)
        product = producer(pair[0], *PRODUCTS) if pair is not None else None
        if pair is None or product is None:
            return Reject("it does not combine a product with a constant")
        reason = self._refusal(node, product, rw)
        if reason:
            return Reject(reason)
        factor = per_channel(rw, pair[1], product)
        if factor is None:
            return Reject("the constant varies along other axes than the channels")
        parameters = [rw.array(p) for p in product.operands[1:]]
        return Plan(node, product=product, factor=factor, parameters=parameters)

    def _refusal(self, node: Node, product: Node, rw: Rewriter) -> str:
        if node.result.type != product.result.type:
            return "the constant widens the result"
        if not node.result.type.dtype.is_float:
            return "integers would be rounded"
        if not rw.has_one_use(product.result):
            return "the product is read elsewhere too"
        if any(rw.array(p) is None for p in product.operands[1:]):
            return "weights are computed at run time"
        shared = node.op.name == "mul" and not rw.has_one_use(product.operands[1])
        return "the weights are shared" if shared else ""

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        product, factor = plan.product, plan.factor.astype(np.float64)
        weight, *bias = plan.parameters
        operands = [*product.operands[:2]]
        if plan.node.op.name == "mul":
            scaled_weight = scaled(weight, factor, product).astype(weight.dtype)
            operands[1] = _constant(rw, scaled_weight, operands[1], product)
            bias = [b.astype(np.float64) * factor for b in bias]
        else:
            bias = [sum((b.astype(np.float64) for b in bias), factor)]
        like = product.operands[-1]
        operands += [_constant(rw, b.astype(weight.dtype), like, product) for b in bias]
        folded = rw.emit(product.op.name, *operands, attrs=product.attrs, loc=product.loc)
        rw.replace(plan.node.result, folded)


def _constant(rw: Rewriter, array: np.ndarray, like: Value, product: Node) -> Value:
    return rw.constant(array, name=f"{like.name or 'weight'}.scaled", loc=product.loc)
