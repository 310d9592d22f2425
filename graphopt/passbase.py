"""What a pass is: options as fields, declared numerics, and `run`: graph in, graph out."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from graphopt.errors import InternalError, PluginError
from graphopt.ir.graph import Graph, Node
from graphopt.ops.base import Attrs
from graphopt.rewrite import Plan, Reject, Rewriter

if TYPE_CHECKING:
    from graphopt.target import Target


@dataclass(frozen=True)
class Numerics:
    """What a pass promises about values.

    `exact`: bit-equal results in float64 arithmetic order is kept. `reassociates`: sums and
    products may be regrouped: equal to within a few float64 roundings. `approximates(bound)`:
    results differ by at most `bound` times the output's largest magnitude.
    """

    kind: str
    bound: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}({self.bound:g})" if self.kind == "approximates" else self.kind


EXACT = Numerics("exact")
REASSOCIATES = Numerics("reassociates")


def approximates(bound: float) -> Numerics:
    """`bound` is relative to the output's largest magnitude."""
    return Numerics("approximates", bound)


@dataclass(frozen=True)
class Event:
    """One decision of a pass, for `graphopt explain` and `bisect`. `reason` is "" when it fired."""

    pass_name: str
    node: Node
    reason: str = ""


@dataclass
class CompileContext:
    """What a pass of any kind may know about the compile it runs in.

    `fuel`: how many more rewrites may happen (None: no limit); `graphopt bisect` halves it to find
    the guilty rewrite. `record`: keep events.
    """

    target: Target | None = None
    fuel: int | None = None
    record: bool = False
    rewrites: int = 0

    def spend(self) -> bool:
        """Take one unit of fuel; False when there is none left and the rewrite must not happen."""
        if self.fuel is not None:
            if self.fuel <= 0:
                return False
            self.fuel -= 1
        self.rewrites += 1
        return True


@dataclass
class PassContext(CompileContext):
    """The compile as graph passes see it. `events` is appended to, never read, by passes."""

    events: list[Event] = field(default_factory=list)
    on_rewrite: Callable[[Event], None] | None = None

    def fired(self, name: str, node: Node) -> None:
        event = Event(name, node)
        if self.record:
            self.events.append(event)
        if self.on_rewrite is not None:
            self.on_rewrite(event)

    def rejected(self, name: str, node: Node, reason: str) -> None:
        if self.record:
            self.events.append(Event(name, node, reason))


class Pass(abc.ABC):
    """A graph-to-graph transformation: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]
    numerics: ClassVar[Numerics] = EXACT
    serves: ClassVar[str] = ""
    """The later pass for which alone this one prepares: where that is left out, so is this one."""

    @abc.abstractmethod
    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        """Return the transformed graph; the one given stays as it is."""

    # A pass that decides by a table what a tuner could measure overrides both.

    def left_open(self) -> Pass:
        """The same pass, naming in a region's attributes who could compute it, and deciding
        nothing."""
        return self

    def settled(self, by: Mapping[str, str]) -> Pass:
        """The same pass, deciding as measured: who computes a region, by the digest that it has
        where it is left open."""
        return self


class RewritePass(Pass):
    """A pass that decides node by node. `root` selects nodes by attribute class or op name.

    Runs until nothing changes. `plan` decides and may refuse with a reason, `apply` only edits.
    """

    root: ClassVar[type[Attrs] | str | tuple[type[Attrs] | str, ...]]
    max_rounds: ClassVar[int] = 50

    def plan(self, node: Node) -> Plan | Reject:
        """Decide about one node, from the node and its operands only."""
        raise InternalError(f"pass {self.name} overrides neither plan nor plan_in")

    @abc.abstractmethod
    def apply(self, plan: Plan, rw: Rewriter) -> None:
        """Carry out a plan through the rewriter."""

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        """As `plan`, for passes that must know users or constant values: override this one."""
        return self.plan(node)

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        if not any(map(self._selects, graph.nodes)):
            return graph  # a copy to edit costs more than many a pass
        rw = Rewriter(graph)
        count = len(rw.nodes)
        for n in range(self.max_rounds):
            if not self._round(rw, ctx):
                untouched = n == 0 and len(rw.nodes) == count
                return graph if untouched else rw.freeze()
        raise PluginError(
            f"pass {self.name} still rewrites after {self.max_rounds} rounds",
            hint="two of its rewrites undo each other, or one applies to its own result",
        )

    def _round(self, rw: Rewriter, ctx: PassContext) -> int:
        changes = 0
        for node in rw.nodes:
            if not rw.alive(node) or not self._selects(node):
                continue
            plan = self.plan_in(node, rw)
            if isinstance(plan, Reject):
                if not changes:
                    ctx.rejected(self.name, node, plan.reason)
            elif ctx.spend():
                self.apply(plan, rw)
                ctx.fired(self.name, node)
                changes += 1
        rw.erase_dead()
        return changes

    def _selects(self, node: Node) -> bool:
        roots = self.root if isinstance(self.root, tuple) else (self.root,)
        return any(
            node.op.name == r if isinstance(r, str) else isinstance(node.attrs, r) for r in roots
        )
