"""prefetch-streams: ask early for what an inner loop reads once and in order, such as weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from graphopt.kernel.affine import simplify_index
from graphopt.kernel.footprint import LINE_BYTES
from graphopt.kernel.ir import (
    Expr,
    For,
    Load,
    LoopKind,
    Prefetch,
    Ramp,
    Scope,
    Stmt,
    binary,
    block,
    index_const,
    index_var,
)
from graphopt.kernel.passbase import LoopPass, LoopPlan, Place, Reject
from graphopt.kernel.scope import Access, IndexScope, accesses, span
from graphopt.kernel.visit import map_exprs, substitute, walk


@dataclass(frozen=True)
class PrefetchStreams(LoopPass):
    """Prefetch the vectors that an innermost loop reads from a parameter, `distance` iterations
    ahead, where each iteration reads lines that no other one does.

      for k in 0..768 { acc[..] += .. * w[ramp(k * 64, 1, 16)] }
      →   for k in 0..768 { prefetch w[k * 64 + 512]  acc[..] += .. }

    Exact: a prefetch has no meaning. Refuses: loops of few iterations, loops around loops, loops
    that stream nothing, and those that prefetch already.
    """

    name: ClassVar[str] = "prefetch-streams"
    distance: int = 8
    at_least: int = 64

    def __post_init__(self) -> None:
        if self.distance < 1:
            raise ValueError("distance must be at least 1")

    def plan(self, loop: For, place: Place) -> LoopPlan | Reject:
        if loop.kind is not LoopKind.SERIAL:
            return Reject(f"it is a {loop.kind.value} loop")
        if loop.extent < self.at_least:
            return Reject(f"{loop.extent} iterations are fewer than {self.at_least}")
        parts = list(walk(loop.body))
        if any(isinstance(p, For) for p in parts):
            return Reject("a loop is inside it")
        if any(isinstance(p, Prefetch) for p in parts):
            return Reject("it prefetches already")
        scope = IndexScope()
        for outer in place.around:
            scope = scope.with_loop(outer.var, outer.extent)
        streams = list(_streams(loop, scope, place.kernel.outputs))
        ranges = {**place.ranges, loop.var: loop.extent}
        found = LoopPlan(loop, streams=streams, ranges=ranges)
        return found if streams else Reject("it streams nothing")

    def apply(self, plan: LoopPlan) -> Stmt:
        loop = plan.loop
        ahead = binary("+", index_var(loop.var), index_const(self.distance))
        hints = dict.fromkeys(Prefetch(p.buffer, tuple(map(_first, p.index))) for p in plan.streams)
        early = [substitute(hint, {loop.var: ahead}) for hint in hints]
        simple = [map_exprs(hint, lambda i: simplify_index(i, plan.ranges)) for hint in early]
        return For(loop.var, loop.extent, block(*simple, loop.body), loop.kind)


def _streams(loop: For, scope: IndexScope, outputs: tuple[str, ...]) -> Iterator[Load]:
    inside = scope.with_loop(loop.var, loop.extent)
    for access in accesses(loop.body, inside):
        part = access.part
        if not isinstance(part, Load) or part.buffer.scope is not Scope.PARAM:
            continue
        if part.buffer.name not in outputs and _is_stream(access, inside.unique(loop.var)):
            yield part


def _is_stream(access: Access, var: str) -> bool:
    """Contiguous lanes, and another cache line in every iteration."""
    at = span(access)
    if at is None or at.step != 1:
        return False
    return abs(at.form.coefficient(var)) * access.buffer.dtype.size_bytes >= LINE_BYTES


def _first(i: Expr) -> Expr:
    return i.base if isinstance(i, Ramp) else i
