"""fold-bias: a constant vector added to a product becomes its bias.

%y = conv %x, %w
%z = add %y, %b : f32[1,8,1,1]   →   %z = conv %x, %w, %b' : f32[8]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.fold.channels import PRODUCTS, per_channel
from graphopt_passes.recipes import LAID_OUT, laid_out, producer, with_known


@dataclass(frozen=True)
class FoldBias(RewritePass):
    """Numerics: exact: a product adds its bias last. Refuses: a product that has a bias already
    (see fold-scale), is read elsewhere or is no linear or convolution; a constant that varies along
    other axes than the channels.
    """

    name: ClassVar[str] = "fold-bias"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[str] = "add"

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        pair = with_known(rw, node)
        product = producer(pair[0], *PRODUCTS) if pair is not None else None
        if pair is None or product is None:
            return Reject("it does not add a constant to a product")
        if node.result.type != product.result.type:
            return Reject("the constant widens the result")
        if len(product.operands) > 2:
            return Reject("the product has a bias already")
        if not rw.has_one_use(product.result):
            return Reject("the product is read elsewhere too")
        bias = per_channel(rw, pair[1], product)
        if bias is None:
            return Reject("the constant varies along other axes than the channels")
        return Plan(node, product=product, bias=bias, name=pair[1].name)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        product = plan.product
        bias = rw.constant(
            np.ascontiguousarray(plan.bias), name=plan.name or "bias", loc=product.loc
        )
        folded = rw.emit(
            product.op.name, *product.operands, bias, attrs=product.attrs, loc=product.loc
        )
        rw.replace(plan.node.result, folded)
