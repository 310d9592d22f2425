"""Where rounding relative to a whole tensor is not enough: what is divided by its own size.

A faster algorithm rounds relative to the largest element, so a row of zeros becomes one of noise.
Divided by its length, as cosine similarity is, the noise is a vector of length 1.
"""

from __future__ import annotations

from graphopt.ir.graph import Node, Value
from graphopt.rewrite import Rewriter

NORMALIZED = "what it computes is divided by its own size, by which small errors grow"

_SIZES = frozenset({"sum", "mean", "max", "min", "prod"})
_INVERSES = frozenset({"reciprocal", "rsqrt", "div"})
_FOLLOWED = ("pointwise", "movement")


def is_normalized(value: Value, rw: Rewriter) -> bool:
    """Whether elementwise ops and views lead from a value to a reduction of it that something is
    divided by. Norms that are ops of their own, which add an epsilon, do not count; nor does what
    comes after a sum with another value, beside which the error is small."""
    is_size = {value: False}
    stack = [value]
    while stack:
        at = stack.pop()
        for user in rw.users(at):
            if is_size[at] and user.op.name in _INVERSES and user.operands[-1] is at:
                return True
            followed = user.op.kind in _FOLLOWED or user.op.name in _SIZES
            if not followed or _is_beside_others(user, is_size, rw):
                continue
            size = is_size[at] or user.op.name in _SIZES
            for result in user.results:
                if result not in is_size or (size and not is_size[result]):
                    is_size[result] = size
                    stack.append(result)
    return False


def _is_beside_others(node: Node, known: dict[Value, bool], rw: Rewriter) -> bool:
    """Whether a node adds a value computed elsewhere."""
    others = (o for o in node.operands if o not in known and rw.array(o) is None)
    computed = (o for o in others if o.producer is None or o.producer.op.kind != "source")
    return node.op.name in ("add", "sub") and any(computed)
