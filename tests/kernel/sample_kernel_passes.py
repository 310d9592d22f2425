"""Kernel passes for the tests of pipeline, gate and kit, good ones and bad ones."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from graphopt.errors import BudgetError
from graphopt.ir.types import DType
from graphopt.kernel.ir import Block, Const, Expr, For, Kernel, Stmt, Store, block, index_const
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.passbase import (
    EXACT,
    REASSOCIATES,
    KernelContext,
    KernelPass,
    LoopPass,
    LoopPlan,
    Numerics,
    Place,
    Reject,
    approximates,
)
from graphopt.kernel.visit import ExprMap, map_exprs, substitute


@dataclass(frozen=True)
class PeelFirst(LoopPass):
    """for i in 0..n { S(i) } → S(0) for i in 0..n-1 { S(i + 1) }, once, for loops longer than 8."""

    name: ClassVar[str] = "peel-first"
    longer_than: int = 8

    def plan(self, loop: For, place: Place) -> LoopPlan | Reject:
        if loop.extent <= self.longer_than:
            return Reject(f"{loop.extent} iterations are not more than {self.longer_than}")
        return LoopPlan(loop, depth=len(place.around))

    def apply(self, plan: LoopPlan) -> Stmt:
        loop = plan.loop
        first = substitute(loop.body, {loop.var: index_const(0)})
        at = parse_kernel(f"kernel k() {{ let v = {loop.var} + 1 }}").body.value  # type: ignore[attr-defined]
        rest = substitute(loop.body, {loop.var: at})
        return block(first, For(loop.var, loop.extent - 1, rest, loop.kind))


@dataclass(frozen=True)
class Scale(KernelPass):
    """Multiply every f32 constant by 1 + `by`, whatever `claims` says."""

    name: ClassVar[str] = "scale"
    by: float = 1e-3
    claims: str = "exact"

    @property
    def numerics(self) -> Numerics:  # type: ignore[override]
        table = {"exact": EXACT, "reassociates": REASSOCIATES, "close": approximates(1e-2)}
        return table[self.claims]

    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        def scaled(e: Expr) -> Expr:
            if isinstance(e, Const) and e.dtype is DType.F32:
                return dataclasses.replace(e, value=float(e.value) * (1 + self.by))
            return e

        return dataclasses.replace(kernel, body=map_exprs(kernel.body, ExprMap(scaled)))


@dataclass(frozen=True)
class DropLast(KernelPass):
    """Forget the last statement."""

    name: ClassVar[str] = "drop-last"

    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        parts = kernel.body.body if isinstance(kernel.body, Block) else (kernel.body,)
        return dataclasses.replace(kernel, body=block(*parts[:-1]))


@dataclass(frozen=True)
class Misbehave(KernelPass):
    """Goes wrong in a way of your choice."""

    name: ClassVar[str] = "misbehave"
    how: str = "raise"

    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        return _WAYS[self.how](kernel)


def _raise(kernel: Kernel) -> Kernel:
    raise KeyError(kernel.name)


def _refuse(kernel: Kernel) -> Kernel:
    raise BudgetError("too large")


def _loop(kernel: Kernel) -> Kernel:
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def _break(kernel: Kernel) -> Kernel:
    body = parse_kernel("kernel k(y: f32[1] output) { y[0] = n:f32 }").body
    assert isinstance(body, Store)
    value = body.value
    out = next(p for p in kernel.params if p.name in kernel.outputs)
    return dataclasses.replace(kernel, body=Store(out, (index_const(0),), value))


_WAYS: dict[str, Callable[[Kernel], Kernel]] = {
    "raise": _raise,
    "refuse": _refuse,
    "loop": _loop,
    "break": _break,
    "nothing": lambda k: None,  # type: ignore[dict-item,return-value]
    "rename": lambda k: dataclasses.replace(k, name="other"),
    "reverse": lambda k: dataclasses.replace(k, params=k.params[::-1]),
    "silence": lambda k: dataclasses.replace(k, outputs=()),
}
