"""vectorize-innermost: scalar loops over neighbouring elements become vectors of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.kernel.dependence import conflicts
from graphopt.kernel.ir import (
    Alloc,
    Expr,
    For,
    If,
    LoopKind,
    Scope,
    Stmt,
    binary,
    block,
    index_const,
    index_var,
)
from graphopt.kernel.passbase import LoopPass, LoopPlan, Place, Reject
from graphopt.kernel.schedule.vectors import holds_vectors, vectorized
from graphopt.kernel.scope import Access, IndexScope, accesses, span
from graphopt.kernel.visit import substitute, uses_var, walk
from graphopt.lower.loops import chunks

_SHORTEST = 4
"""Iterations from which on vectors pay: below, the loop itself costs more."""


@dataclass(frozen=True)
class VectorizeInnermost(LoopPass):
    """Split an innermost loop by the target's lanes and run it on vectors.

      for i in 0..40 { y[i] = x[i] * a[0] }   →   for i in 0..2 { y[ramp(i * 16, 1, 16)] = .. }
                                                  y[ramp(32, 1, 8)] = ..

    What is left over takes one shorter vector; a parallel loop must leave nothing over, or threads
    could not share it. Numerics: exact. Refuses: loops that are short, hold another loop, an if or
    an alloc, are vectors already, whose iterations may depend on each other, or whose accesses are
    not contiguous.
    """

    name: ClassVar[str] = "vectorize-innermost"

    def plan(self, loop: For, place: Place) -> LoopPlan | Reject:
        target = place.ctx.target
        lanes = 1 if target is None else target.lanes_f32
        reason = _form(loop, lanes) or _meaning(loop, place)
        if reason:
            return Reject(reason)
        return LoopPlan(loop, lanes=lanes, ranges=place.ranges)

    def apply(self, plan: LoopPlan) -> Stmt:
        parts = []
        for start, lanes, count in chunks(plan.loop.extent, plan.lanes):
            parts.append(_part(plan.loop, start, lanes, count, plan.ranges))
        return block(*parts)


def _form(loop: For, lanes: int) -> str:
    """Why the loop's form is in the way; "" when it is not."""
    if lanes < 2:
        return "the target has no vectors"
    if loop.kind not in (LoopKind.SERIAL, LoopKind.PARALLEL):
        return f"it is a {loop.kind.value} loop"
    if loop.extent < _SHORTEST:
        return f"{loop.extent} iterations are too few"
    for part in walk(loop.body):
        if isinstance(part, For):
            return f"loop {part.var!r} is inside it"
        if isinstance(part, (If, Alloc)):
            return f"it holds an {type(part).__name__.lower()}"
    if holds_vectors(loop.body):
        return "it is on vectors already"
    if loop.kind is LoopKind.PARALLEL and loop.extent % lanes:
        return f"{loop.extent} parallel iterations are no multiple of {lanes} lanes"
    return ""


def _meaning(loop: For, place: Place) -> str:
    """Why vectors would compute something else, or slowly; "" when they do not."""
    scope = IndexScope()
    for outer in place.around:
        scope = scope.with_loop(outer.var, outer.extent)
    for access in accesses(loop.body, scope.with_loop(loop.var, loop.extent)):
        reason = _access(access, loop.var)
        if reason:
            return reason
    found = conflicts(loop, scope)
    return f"iterations may depend on each other through {found[0].buffer.name!r}" if found else ""


def _access(access: Access, var: str) -> str:
    """Contiguous in the loop, or the same element throughout (loads alone)."""
    name, at = access.buffer.name, span(access)
    step = 0 if at is None else at.form.coefficient(access.scope.unique(var))
    hidden = at is None or any(
        uses_var(atom, access.scope.unique(var)) for atom, _ in at.form.terms if step == 0
    )
    if access.buffer.scope is Scope.REGISTER and (step or hidden):
        return f"it indexes register buffer {name!r}"
    if hidden or step not in (0, 1):
        return f"its accesses of {name!r} are not contiguous"
    if access.is_store and step == 0:
        return f"every iteration writes one element of {name!r}"
    return ""


def _part(loop: For, start: int, lanes: int, count: int, ranges: dict[str, int]) -> Stmt:
    """`count` iterations of `lanes` lanes each, from `start`."""
    outer: Expr = index_var(loop.var) if count > 1 else index_const(0)
    first = binary("+", binary("*", outer, index_const(lanes)), index_const(start))
    if lanes == 1:
        body = substitute(loop.body, {loop.var: first})
    else:
        lane = f"{loop.var}'"  # no name of a kernel's own
        at = binary("+", first, index_var(lane))
        inner = For(lane, lanes, substitute(loop.body, {loop.var: at}))
        body = vectorized(inner, {**ranges, loop.var: count})
    return For(loop.var, count, body, loop.kind) if count > 1 else body
