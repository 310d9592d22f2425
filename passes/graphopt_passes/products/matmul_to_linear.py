"""matmul-to-linear: a matmul whose right factor is a constant matrix is a linear layer.

%y = matmul %x, %w : f32[64,192]   →   %t = transpose %w {perm=[1,0]} : f32[192,64]
                                       %y = linear %x, %t

A linear has weights that are packed at compile time, and takes in a bias. fold-constants evaluates
the transpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import TransposeAttrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class MatmulToLinear(RewritePass):
    """Numerics: exact. Refuses: a right factor that is computed at run time, has batch axes, or is
    read by others than products (it would be kept twice).
    """

    name: ClassVar[str] = "matmul-to-linear"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[str] = "matmul"

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        right = node.operands[1]
        if rw.array(right) is None:
            return Reject("its right factor is computed at run time")
        if right.type.rank != 2:
            return Reject("its right factor has batch axes")
        if rw.is_output(right) or not all(_multiplies_by(u, right, rw) for u in rw.users(right)):
            return Reject("its right factor is read by others than products")
        if laid_out(node):
            return Reject(LAID_OUT)
        return Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        x, w = plan.node.operands
        turned = rw.emit("transpose", w, attrs=TransposeAttrs((1, 0)), loc=plan.node.loc)
        rw.replace(plan.node.result, rw.emit("linear", x, turned, loc=plan.node.loc))


def _multiplies_by(user: Node, right: object, rw: Rewriter) -> bool:
    """A matmul by the value, or the transpose that an earlier rewrite has left."""
    if user.op.name == "transpose":
        return all(u.op.name == "linear" for u in rw.users(user.result))
    return user.op.name == "matmul" and user.operands[0] is not right
