"""recognize-attention: attention spelled out becomes one `attention`, whose kernel keeps the scores
in cache instead of writing them to memory.

%s = matmul %q, %kt           %k = transpose %kt {perm=[0,1,3,2]}
%t = mul %s, 0.125       →    %y = attention %q, %k, %v {scale=0.125}
%p = softmax %t
%y = matmul %p, %v

The transpose cancels against the one that made %kt (cancel-transposes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ops import AttentionAttrs, FullAttrs, SoftmaxAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter


@dataclass(frozen=True)
class RecognizeAttention(RewritePass):
    """Numerics: reassociates: the kernel divides by the sum of the exponentials last. Refuses:
    scores that are masked, or weights that anyone else reads; tensors not of rank 4.
    """

    name: ClassVar[str] = "recognize-attention"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar[str] = "matmul"

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        weights, v = node.operands
        softmax = weights.producer
        if softmax is None or not isinstance(softmax.attrs, SoftmaxAttrs):
            return Reject("its left factor is not a softmax")
        if softmax.attrs.axis != weights.type.rank - 1:
            return Reject("the softmax does not run along the keys")
        if not rw.has_one_use(weights):
            return Reject("the attention weights are read elsewhere too")
        scores, scale = _unscaled(softmax.operands[0])
        product = scores.producer
        if product is None or product.op.name != "matmul":
            return Reject("what the softmax reads is not a product, or masked")
        q, kt = product.operands
        if not q.type.rank == kt.type.rank == v.type.rank == 4:
            return Reject("the tensors are not [batch, heads, sequence, features]")
        if q.type.shape[:2] != v.type.shape[:2] or kt.type.shape[:2] != v.type.shape[:2]:
            return Reject("batch or heads are broadcast")
        return Plan(node, q=q, kt=kt, v=v, scale=scale)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        loc = plan.node.loc
        k = rw.emit("transpose", plan.kt, attrs=TransposeAttrs((0, 1, 3, 2)), loc=loc)
        attrs = AttentionAttrs(scale=plan.scale)
        rw.replace(plan.node.result, rw.emit("attention", plan.q, k, plan.v, attrs=attrs, loc=loc))


def _unscaled(scores: Value) -> tuple[Value, float]:
    """Scores before a multiplication or division by one number, and what they are multiplied by."""
    node = scores.producer
    if node is None or node.op.name not in ("mul", "div"):
        return scores, 1.0
    x, factor = node.operands
    splat = factor.producer
    if splat is None or not isinstance(splat.attrs, FullAttrs) or x.type.shape != scores.type.shape:
        return scores, 1.0
    value = splat.attrs.value
    return x, 1.0 / value if node.op.name == "div" else value
