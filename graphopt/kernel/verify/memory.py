"""Accesses stay inside their buffers, and iterations that run at once stay apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.errors import IRError
from graphopt.kernel.bounds import Fit, fit
from graphopt.kernel.dependence import conflicts
from graphopt.kernel.ir import Block, For, If, Kernel, Let, LoopKind, Prefetch, Stmt
from graphopt.kernel.scope import Access, IndexScope, accesses
from graphopt.kernel.verify.structure import shown

_AT_ONCE = (LoopKind.PARALLEL, LoopKind.BLOCK, LoopKind.THREAD, LoopKind.VECTOR)


@dataclass(frozen=True)
class Unproven:
    """Something of which the verifier has neither proof nor disproof."""

    kernel: str
    what: str

    def __str__(self) -> str:
        return f"{self.kernel}: {self.what}"


def unproven_bounds(k: Kernel) -> Iterator[Unproven]:
    for access in accesses(k.body, IndexScope()):
        if isinstance(access.part, Prefetch) or 0 in access.scope.ranges.values():
            continue
        for axis in range(len(access.part.index)):
            found, values = fit(access, axis)
            if found is not Fit.INSIDE:
                what = _leaves(access, axis, values, certain=found is Fit.OUTSIDE)
                if found is Fit.OUTSIDE:
                    raise IRError(
                        f"{k.name}: {what}\nin: {shown(access.statement, [])}",
                        hint="both sides of a select are evaluated: clamp the index, or use if",
                    )
                yield Unproven(k.name, what)


def _leaves(a: Access, axis: int, values: tuple[float, float], *, certain: bool) -> str:
    verb = "leaves" if certain else "may leave"
    low, high = a.buffer.bounds(axis)
    index = f"index {axis} of {'a store to' if a.is_store else 'a load from'} {a.buffer.name!r}"
    return f"{index} {verb} {low}..{high}: it takes {_number(values[0])} to {_number(values[1])}"


def _number(x: float) -> str:
    return str(int(x)) if math.isfinite(x) else "anything"


def unproven_races(k: Kernel) -> Iterator[Unproven]:
    yield from _races(k, k.body, IndexScope())


def _races(k: Kernel, s: Stmt, scope: IndexScope) -> Iterator[Unproven]:
    match s:
        case Block():
            for c in s.body:
                yield from _races(k, c, scope)
                if isinstance(c, Let):
                    scope = scope.with_let(c.var, c.value)
        case If():
            yield from _races(k, s.then, scope)
            if s.otherwise is not None:
                yield from _races(k, s.otherwise, scope)
        case For():
            if s.kind in _AT_ONCE:
                yield from _race(k, s, scope)
            yield from _races(k, s.body, scope.with_loop(s.var, s.extent))
        case _:
            return


def _race(k: Kernel, loop: For, scope: IndexScope) -> Iterator[Unproven]:
    for conflict in conflicts(loop, scope):
        verb = "write" if conflict.certain else "may write"
        what = (
            f"iterations of {loop.kind.value} loop {loop.var!r} {verb} the same element of "
            f"{conflict.buffer.name!r}"
        )
        if conflict.certain:
            hint = "make the loop serial, or give every iteration elements of its own"
            raise IRError(f"{k.name}: {what}", hint=hint)
        yield Unproven(k.name, what)
