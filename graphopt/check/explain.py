"""Where a pass fired in a model, and where it nearly did: `graphopt explain`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphopt.errors import PluginError
from graphopt.ir.graph import Graph, Node
from graphopt.ir.verify import describe_node
from graphopt.passbase import Event, PassContext
from graphopt.pipeline import Pipeline, Timing
from graphopt.target import Target

_VALUES = re.compile(r"\d+|'[^']*'|%\S+|\[[^\]]*\]|\([^)]*\)")


@dataclass(frozen=True)
class NearMiss:
    """Nodes that a pass left alone for reasons that differ in their values only. `reasons` stand
    beside the nodes; `nodes` are described in the model's words, the costliest first."""

    nodes: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """`owner` is the pass and its distribution. `pipeline` is what ran before it, and itself;
    `places` how often it stands in there. `fired` has one description per rewrite."""

    owner: str
    numerics: str
    pipeline: str
    places: int
    fired: tuple[str, ...]
    near_misses: tuple[NearMiss, ...]
    timings: tuple[Timing, ...]


def explain(
    name: str, graph: Graph, pipeline: Pipeline, *, target: Target | None = None
) -> Explanation:
    """Run a pipeline up to the last place of a pass in it, and tell what that pass did.

    A pass that does not stand in the pipeline runs alone, on the graph as it is.
    Raises: PluginError when there is no such pass.
    """
    stages = pipeline.stages
    places = [i for i, stage in enumerate(stages) if stage.pass_.name == name]
    stages = stages[: places[-1] + 1] if places else Pipeline.parse(name).stages
    if stages[-1].pass_.name != name:
        raise PluginError(
            f"{name!r} is not the name of a pass", hint="`graphopt passes` lists them"
        )
    ctx = PassContext(target=target, record=True)
    timings: list[Timing] = []
    Pipeline(stages).run(graph, ctx, timings=timings)
    events = [e for e in ctx.events if e.pass_name == name]
    return Explanation(
        stages[-1].owner,
        str(stages[-1].pass_.numerics),
        str(Pipeline(stages)),
        len(places),
        tuple(describe_node(e.node) for e in events if not e.reason),
        near_misses(events),
        tuple(t for t in timings if t.pass_name == name),
    )


def near_misses(events: Sequence[Event]) -> tuple[NearMiss, ...]:
    """Refusals by kind of reason, the rarest kind first: a pass tests what is common before what is
    particular, so that few nodes get as far as its last tests."""
    fired = {e.node for e in events if not e.reason}
    last = {e.node: e.reason for e in events if e.reason and e.node not in fired}
    kinds: dict[str, list[Node]] = {}
    for node, reason in last.items():
        kinds.setdefault(_VALUES.sub("*", reason), []).append(node)
    ranked = sorted(kinds.values(), key=lambda nodes: (len(nodes), -sum(map(_flops, nodes))))
    return tuple(_near_miss(sorted(nodes, key=lambda n: -_flops(n)), last) for nodes in ranked)


def _near_miss(nodes: Iterable[Node], reasons: dict[Node, str]) -> NearMiss:
    listed = list(nodes)
    return NearMiss(tuple(map(describe_node, listed)), tuple(reasons[n] for n in listed))


def _flops(node: Node) -> int:
    return node.op.flops(*(o.type for o in node.operands), node.attrs)
