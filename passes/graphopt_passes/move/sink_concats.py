"""sink-concats: a concatenation of kernels' results moves behind their common epilogue.

%a = conv %x, %w                         %a = relu %p          where %p = conv %x, %w
%b = conv %x, %v                         %b = relu %q
%c = concat %a, %b {axis=1}         →    %y = concat %a, %b {axis=1}
%y = relu %c

Every part is finished where it is computed, and may then be written in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ops import OPS
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.move.sink_views import comes_from_kernel
from graphopt_passes.recipes import splat

_POINTWISE = tuple(name for name, op in OPS.items() if op.kind == "pointwise")


@dataclass(frozen=True)
class SinkConcats(RewritePass):
    """A pointwise op whose other operands are scalars reads what was joined of kernels' results.

    Numerics: exact. Refuses: parts or concatenations that others read too, parts that no kernel
    makes; other operands that differ from element to element.
    """

    name: ClassVar[str] = "sink-concats"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[tuple[str, ...]] = _POINTWISE

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        joined = [o for o in node.operands if _is_concat(o)]
        if len(joined) != 1:
            return Reject("not one of its operands is a concatenation")
        (value,) = joined
        if not comes_from_kernel(value, rw):
            return Reject("not all parts are kernels' results that are read here alone")
        others = [o for o in node.operands if o is not value]
        if not all(o.type.numel == 1 and splat(rw, o) is not None for o in others):
            return Reject("another operand is no scalar")
        if value.type.shape != node.result.type.shape:
            return Reject("the concatenation is broadcast")
        return Plan(node, joined=value)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.replace(plan.node.result, _distributed(plan.node, plan.joined, plan.joined, rw))


def _is_concat(value: Value) -> bool:
    return value.producer is not None and value.producer.op.name == "concat"


def _distributed(node: Node, joined: Value, at: Value, rw: Rewriter) -> Value:
    """The op on a part of what was joined: on each of its own, if it was joined itself."""
    made = at.producer
    if made is not None and made.op.name == "concat":
        parts = [_distributed(node, joined, o, rw) for o in made.operands]
        return rw.emit("concat", *parts, attrs=made.attrs, loc=made.loc)
    operands = [at if o is joined else o for o in node.operands]
    return rw.emit(node.op.name, *operands, attrs=node.attrs, loc=node.loc)
