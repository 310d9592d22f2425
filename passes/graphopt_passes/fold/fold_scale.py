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
        weight, *bias = product.operands[1:]
        changed = bias if node.op.name == "add" else [weight, *bias]
        if any(rw.array(p) is None for p in changed):
            return "weights are computed at run time"
        shared = weight in changed and not rw.has_one_use(weight)
        return "the weights are shared" if shared else ""

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        product, factor = plan.product, plan.factor.astype(np.float64)
        weight, *biases = plan.parameters
        bias = sum((b.astype(np.float64) for b in biases), np.zeros(()))
        x, w = product.operands[:2]
        if plan.node.op.name == "mul":
            w = _constant(rw, scaled(weight, factor, product), w, product)
            made = [bias * factor] if biases else []
        else:
            made = [bias + factor]
        added = [_constant(rw, b, product.operands[-1], product) for b in made]
        folded = rw.emit(product.op.name, x, w, *added, attrs=product.attrs, loc=product.loc)
        rw.replace(plan.node.result, folded)


def _constant(rw: Rewriter, array: np.ndarray, like: Value, product: Node) -> Value:
    """Data that takes the place of a weight or bias, rounded to its dtype."""
    name = f"{like.name or 'weight'}.scaled"
    return rw.constant(array.astype(like.type.dtype.numpy), name=name, loc=product.loc)
