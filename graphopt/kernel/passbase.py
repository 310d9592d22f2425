"""What a kernel pass is: options as fields, declared numerics, and `run`: kernel in, kernel out."""

from __future__ import annotations

import abc
import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from graphopt.kernel.ir import Block, For, If, Kernel, Stmt, block
from graphopt.passbase import EXACT, REASSOCIATES, CompileContext, Numerics, approximates
from graphopt.rewrite import Reject

__all__ = [
    "EXACT",
    "REASSOCIATES",
    "KernelContext",
    "KernelEvent",
    "KernelPass",
    "LoopPass",
    "LoopPlan",
    "Numerics",
    "Place",
    "Reject",
    "approximates",
]


@dataclass(frozen=True)
class KernelEvent:
    """One decision of a kernel pass. `where` is a loop; `reason` is "" when it fired."""

    pass_name: str
    kernel: str
    where: str
    reason: str = ""


@dataclass
class KernelContext(CompileContext):
    """The compile as kernel passes see it. `events` is appended to, never read, by passes."""

    events: list[KernelEvent] = field(default_factory=list)

    def fired(self, name: str, kernel: Kernel, where: str) -> None:
        if self.record:
            self.events.append(KernelEvent(name, kernel.name, where))

    def rejected(self, name: str, kernel: Kernel, where: str, reason: str) -> None:
        if self.record:
            self.events.append(KernelEvent(name, kernel.name, where, reason))


class KernelPass(abc.ABC):
    """A kernel-to-kernel transformation: a frozen dataclass whose fields are its options.

    Name, parameters and outputs of the kernel stay: the program calls it as it is.
    """

    name: ClassVar[str]
    numerics: ClassVar[Numerics] = EXACT

    @abc.abstractmethod
    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        """Return the transformed kernel, or the one given where there is nothing to do."""


@dataclass(frozen=True)
class Place:
    """Where a loop stands: in which kernel, inside which loops, outermost first."""

    kernel: Kernel
    around: tuple[For, ...]
    ctx: KernelContext

    @property
    def ranges(self) -> dict[str, int]:
        """Extents of the loops around, by variable."""
        return {loop.var: loop.extent for loop in self.around}


class LoopPlan:
    """What a pass has decided about one loop. Extra facts are kept as attributes."""

    def __init__(self, loop: For, **facts: Any) -> None:
        self.loop = loop
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> Any:  # facts are typed by the pass that made them
        raise AttributeError(name)


class LoopPass(KernelPass):
    """A pass that decides loop by loop, inner loops first, each once."""

    @abc.abstractmethod
    def plan(self, loop: For, place: Place) -> LoopPlan | Reject:
        """Decide about one loop, whose body is done already."""

    @abc.abstractmethod
    def apply(self, plan: LoopPlan) -> Stmt:
        """The statement that takes the loop's place."""

    def run(self, kernel: Kernel, ctx: KernelContext) -> Kernel:
        body = self._visit(kernel.body, Place(kernel, (), ctx))
        return kernel if body is kernel.body else dataclasses.replace(kernel, body=body)

    def _visit(self, s: Stmt, place: Place) -> Stmt:
        match s:
            case Block():
                parts = [self._visit(c, place) for c in s.body]
                same = all(x is y for x, y in zip(parts, s.body, strict=True))
                return s if same else block(*parts)
            case If():
                then = self._visit(s.then, place)
                other = None if s.otherwise is None else self._visit(s.otherwise, place)
                same = then is s.then and other is s.otherwise
                return s if same else dataclasses.replace(s, then=then, otherwise=other)
            case For():
                inside = dataclasses.replace(place, around=(*place.around, s))
                body = self._visit(s.body, inside)
                return self._decide(
                    s if body is s.body else dataclasses.replace(s, body=body), place
                )
            case _:
                return s

    def _decide(self, loop: For, place: Place) -> Stmt:
        plan = self.plan(loop, place)
        where = f"{loop.kind.value} {loop.var} in 0..{loop.extent}"
        if isinstance(plan, Reject):
            place.ctx.rejected(self.name, place.kernel, where, plan.reason)
        elif place.ctx.spend():
            place.ctx.fired(self.name, place.kernel, where)
            return self.apply(plan)
        return loop
