"""cancel-transposes: one transpose for two in a row, none where they undo each other.

%a = transpose %x {perm=[0,3,1,2]}
%b = transpose %a {perm=[0,2,3,1]}   →   %x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import TransposeAttrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter


@dataclass(frozen=True)
class CancelTransposes(RewritePass):
    """Replace transpose(transpose(x, p), q) by one transpose, or by x when p then q is the
    identity, and a transpose that moves nothing by its operand.

    Numerics: exact. Refuses: an operand that is no transpose; chosen layouts.
    """

    name: ClassVar[str] = "cancel-transposes"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[type[TransposeAttrs]] = TransposeAttrs

    def plan(self, outer: Node) -> Plan | Reject:
        assert isinstance(outer.attrs, TransposeAttrs)
        source, perm = outer.operands[0], outer.attrs.perm
        inner = source.producer
        if inner is not None and isinstance(inner.attrs, TransposeAttrs):
            source = inner.operands[0]
            perm = composed(inner.attrs.perm, perm)
        elif perm != tuple(range(len(perm))):
            return Reject("its operand is not a transpose")
        if any(v.type.layout is not None for v in (outer.result, source)):
            return Reject("its layout is chosen already")
        return Plan(outer, source=source, perm=perm)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        value = plan.source
        if plan.perm != tuple(range(len(plan.perm))):
            attrs = TransposeAttrs(plan.perm)
            value = rw.emit("transpose", value, attrs=attrs, loc=plan.node.loc)
        rw.replace(plan.node.result, value)


def composed(first: tuple[int, ...], then: tuple[int, ...]) -> tuple[int, ...]:
    """The perm of two transposes: axis i of the result is axis `then[i]` of the first's result,
    which is axis `first[then[i]]` of its operand."""
    return tuple(first[axis] for axis in then)
