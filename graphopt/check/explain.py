"""Where a pass fired in a model, and where it nearly did: `graphopt explain`."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from graphopt.ir.graph import Graph, Node
from graphopt.ir.verify import describe_node
from graphopt.kernel.passbase import KernelContext, KernelEvent
from graphopt.kernel.pipeline import KernelPipeline
from graphopt.passbase import Event, PassContext
from graphopt.pipeline import Pipeline
from graphopt.program import KernelCall, Program
from graphopt.target import Target

_VALUES = re.compile(r"\d+|'[^']*'|%\S+|\[[^\]]*\]|\([^)]*\)")


@dataclass(frozen=True)
class Decision:
    """`place` is what a pass decided about: a node, a loop. `reason` is "" where it fired, and
    `cost` tells how much is at stake there."""

    place: Hashable
    description: str
    reason: str = ""
    cost: int = 0


@dataclass(frozen=True)
class NearMiss:
    """Places that a pass left alone for reasons that differ in their values only. `reasons` stand
    beside the places, which are described in the model's words, the costliest first."""

    places: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """`owner` is the pass and its distribution. `before` are the passes that ran before it, and
    `stands` is how often it stands in that pipeline. `effect` says in a line what it did; `fired`
    has one description per rewrite."""

    owner: str
    numerics: str
    before: str
    stands: int
    effect: str
    fired: tuple[str, ...]
    near_misses: tuple[NearMiss, ...]


def explain(
    name: str, graph: Graph, pipeline: Pipeline, *, target: Target | None = None
) -> Explanation:
    """Run a pipeline up to the last place of a graph pass in it, and tell what that pass did.

    A pass that does not stand in the pipeline runs alone, on the graph as it is.
    Raises: PluginError when there is no such pass.
    """
    places = [i for i, s in enumerate(pipeline.stages) if s.pass_.name == name]
    chosen = Pipeline(pipeline.stages[: places[-1] + 1]) if places else Pipeline.parse(name)
    before, stage = Pipeline(chosen.stages[:-1]), chosen.stages[-1]
    ctx = PassContext(target=target, record=True)
    given = before.run(graph, ctx)
    result = Pipeline((stage,)).run(given, ctx)
    decisions = [_of_node(e) for e in ctx.events if e.pass_name == name]
    return Explanation(
        stage.owner,
        str(stage.pass_.numerics),
        str(before),
        len(places),
        f"{len(given.nodes)} nodes → {len(result.nodes)}",
        tuple(d.description for d in decisions if not d.reason),
        near_misses(decisions),
    )


def explain_kernels(
    name: str, program: Program, pipeline: KernelPipeline, *, target: Target | None = None
) -> Explanation:
    """As `explain`, for a kernel pass over the kernels of a program."""
    places = [i for i, s in enumerate(pipeline.stages) if s.pass_.name == name]
    stages = pipeline.stages[: places[-1] + 1] if places else KernelPipeline.parse(name).stages
    before, stage = KernelPipeline(stages[:-1]), stages[-1]
    ctx = KernelContext(target=target, record=True)
    given = before.run_program(program, ctx)
    result = KernelPipeline((stage,)).run_program(given, ctx)
    changed = sum(a is not b for a, b in zip(given.kernels, result.kernels, strict=True))
    decisions = list(_of_loops([e for e in ctx.events if e.pass_name == name], program.calls))
    return Explanation(
        stage.owner,
        str(stage.pass_.numerics),
        str(before),
        len(places),
        f"{changed} of {len(given.kernels)} kernels changed",
        tuple(d.description for d in decisions if not d.reason),
        near_misses(decisions),
    )


def near_misses(decisions: Sequence[Decision]) -> tuple[NearMiss, ...]:
    """Refusals by kind of reason, the rarest kind first: a pass tests what is common before what is
    particular, so that few places get as far as its last tests."""
    fired = {d.place for d in decisions if not d.reason}
    last = {d.place: d for d in decisions if d.reason and d.place not in fired}
    kinds: dict[str, list[Decision]] = {}
    for decision in last.values():
        kinds.setdefault(_VALUES.sub("*", decision.reason), []).append(decision)
    ranked = sorted(kinds.values(), key=lambda ds: (len(ds), -sum(d.cost for d in ds)))
    return tuple(_near_miss(sorted(ds, key=lambda d: -d.cost)) for ds in ranked)


def _near_miss(decisions: Sequence[Decision]) -> NearMiss:
    return NearMiss(tuple(d.description for d in decisions), tuple(d.reason for d in decisions))


def _of_node(event: Event) -> Decision:
    node: Node = event.node
    flops = node.op.flops(*(o.type for o in node.operands), node.attrs)
    return Decision(node, describe_node(node), event.reason, flops)


def _of_loops(events: Sequence[KernelEvent], calls: Sequence[KernelCall]) -> Iterator[Decision]:
    """A loop is named by its kernel, and that by what it computes in the model."""
    for e in events:
        own = [c for c in calls if c.kernel == e.kernel]
        places = dict.fromkeys(str(loc) for c in own for loc in c.locs)
        names = ", ".join(list(places)[:2]) + (", ..." if len(places) > 2 else "")
        text = f"{e.where} in {e.kernel}" + (f" ({names})" if names else "")
        yield Decision((e.kernel, e.where), text, e.reason, sum(c.flops for c in own))
