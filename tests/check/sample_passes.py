"""Passes for the tests of the kit, good ones and bad ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import TransposeAttrs
from graphopt.ops.base import Attrs
from graphopt.passbase import EXACT, REASSOCIATES, Numerics, RewritePass, approximates
from graphopt.rewrite import Plan, Reject, Rewriter


@dataclass(frozen=True)
class CancelTransposes(RewritePass):
    """transpose(transpose(x, p), q) → x where p then q is the identity."""

    name: ClassVar[str] = "cancel-transposes"
    root: ClassVar[type[Attrs]] = TransposeAttrs

    def plan(self, node: Node) -> Plan | Reject:
        inner = node.operands[0].producer
        if inner is None or not isinstance(inner.attrs, TransposeAttrs):
            return Reject("operand is not a transpose")
        assert isinstance(node.attrs, TransposeAttrs)
        p, q = inner.attrs.perm, node.attrs.perm
        if any(p[axis] != i for i, axis in enumerate(q)):
            return Reject(f"perms {p} then {q} are not the identity")
        return Plan(node, source=inner.operands[0])

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.replace(plan.node.result, plan.source)


@dataclass(frozen=True)
class TanhForErf(RewritePass):
    """gelu's erf → tanh: off by up to 5e-4, whatever `claims` says."""

    name: ClassVar[str] = "tanh-for-erf"
    root: ClassVar[str] = "gelu"
    claims: str = "exact"

    @property
    def numerics(self) -> Numerics:  # type: ignore[override]
        table = {"exact": EXACT, "reassociates": REASSOCIATES, "close": approximates(1e-3)}
        return table[self.claims]

    def plan(self, node: Node) -> Plan | Reject:
        done = getattr(node.attrs, "approximate", "") == "tanh"
        return Reject("it is tanh already") if done else Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.set_attrs(plan.node, type(plan.node.attrs)("tanh"))  # type: ignore[call-arg]


@dataclass(frozen=True)
class DropAbs(RewritePass):
    """abs(x) → x: wrong, but not on positive numbers."""

    name: ClassVar[str] = "drop-abs"
    root: ClassVar[str] = "abs"

    def plan(self, node: Node) -> Plan | Reject:
        return Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.replace(plan.node.result, plan.node.operands[0])


@dataclass(frozen=True)
class RegroupSum(RewritePass):
    """(a + b) + c → a + (b + c), once per sum."""

    name: ClassVar[str] = "regroup-sum"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar[str] = "add"

    def plan(self, node: Node) -> Plan | Reject:
        inner = node.operands[0].producer
        if inner is None or inner.op.name != "add":
            return Reject("the left operand is no sum")
        return Plan(node, inner=inner)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        a, b = plan.inner.operands
        right = rw.insert("add", [b, plan.node.operands[1]], loc=plan.node.loc).result
        rw.set_operands(plan.node, [a, right])


@dataclass(frozen=True)
class SwapForever(RewritePass):
    """a + b → b + a, without end."""

    name: ClassVar[str] = "swap-forever"
    root: ClassVar[str] = "add"

    def plan(self, node: Node) -> Plan | Reject:
        return Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.set_operands(plan.node, plan.node.operands[::-1])
