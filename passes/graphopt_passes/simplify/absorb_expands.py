"""absorb-expands: ops that broadcast by themselves read through an expand.

%b = expand %a {shape=[8,64]}
%y = add %x, %b                 →   %y = add %x, %a
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.errors import IRError
from graphopt.ir.graph import Node, Value
from graphopt.ops import OPS
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter, infer_types
from graphopt_passes.recipes import LAID_OUT, laid_out, producer

_BROADCASTING = tuple(name for name, op in OPS.items() if op.kind == "pointwise" and name != "cast")


@dataclass(frozen=True)
class AbsorbExpands(RewritePass):
    """An expand before a pointwise op, of the mask of an attention, or of a factor of a matmul.

    Numerics: exact. Refuses: an expand that gives the result its shape; chosen layouts.
    """

    name: ClassVar[str] = "absorb-expands"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[tuple[str, ...]] = (*_BROADCASTING, "attention", "matmul")

    def plan(self, node: Node) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        nearest = Reject("no operand is an expand")
        for i, operand in enumerate(node.operands):
            expand = producer(operand, "expand")
            if expand is None:
                continue
            operands = (*node.operands[:i], expand.operands[0], *node.operands[i + 1 :])
            if _fits(node, operands):
                return Plan(node, operands=operands)
            nearest = Reject("an expand gives the result its shape")
        return nearest

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.set_operands(plan.node, plan.operands)


def _fits(node: Node, operands: tuple[Value, ...]) -> bool:
    try:
        return infer_types(node.op, operands, node.attrs) == (node.result.type,)
    except IRError:  # an attention's keys, say, do not broadcast
        return False
