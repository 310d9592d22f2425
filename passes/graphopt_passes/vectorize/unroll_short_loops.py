"""unroll-short-loops: a few iterations of a few statements are written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.kernel.ir import Alloc, For, LoopKind, Stmt, Store, block, index_const
from graphopt.kernel.passbase import LoopPass, LoopPlan, Place, Reject
from graphopt.kernel.visit import substitute, walk


@dataclass(frozen=True)
class UnrollShortLoops(LoopPass):
    """Write out loops of at most `limit` iterations where no more than `stores` stores result.

      for i in 0..2 { S(i) }   →   S(0) S(1)

    Index arithmetic becomes constant, and a register buffer may be indexed by the loop. Numerics:
    exact. Refuses: longer loops, larger bodies, loops that threads share, loops with an alloc.
    """

    name: ClassVar[str] = "unroll-short-loops"
    limit: int = 4
    stores: int = 32

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError("limit must be at least 1")

    def plan(self, loop: For, place: Place) -> LoopPlan | Reject:
        if loop.kind not in (LoopKind.SERIAL, LoopKind.UNROLL):
            return Reject(f"it is a {loop.kind.value} loop")
        if loop.extent > self.limit:
            return Reject(f"{loop.extent} iterations are more than {self.limit}")
        if any(isinstance(p, Alloc) for p in walk(loop.body)):
            return Reject("it holds an alloc")
        stores = loop.extent * sum(isinstance(p, Store) for p in walk(loop.body))
        if stores > self.stores:
            return Reject(f"it would become {stores} stores, more than {self.stores}")
        return LoopPlan(loop)

    def apply(self, plan: LoopPlan) -> Stmt:
        loop = plan.loop
        steps = (index_const(i) for i in range(loop.extent))
        return block(*(substitute(loop.body, {loop.var: i}) for i in steps))
