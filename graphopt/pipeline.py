"""Graph pipelines: text such as `fold-batchnorm,fuse{max-inputs=8}` ↔ passes, and running them."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from graphopt import stages
from graphopt.errors import IRError, PluginError
from graphopt.ir.graph import Graph
from graphopt.ir.text import print_graph
from graphopt.ir.verify import verify
from graphopt.passbase import Pass, PassContext
from graphopt.stages import broken, check_stage, format_pass, gate_stage, run_stage

__all__ = ["PASS_TIMEOUT_S", "Gate", "Pipeline", "Stage", "Timing", "format_pass"]

PASS_TIMEOUT_S = 300.0
_KIND: stages.Kind[Pass] = stages.Kind("passes", "pass", Pass, "default")

Stage = stages.Stage[Pass]
Gate = Callable[[Pass, Graph, Graph], None]
"""`gate(pass, before, after)`. Raises: GateError when the pass broke the numerics it declares."""


@dataclass(frozen=True)
class Timing:
    """One pass of one run: how long it took, what it did."""

    pass_name: str
    seconds: float
    rewrites: int
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order they run. `str(pipeline)` is text that `Pipeline.parse` reads back."""

    stages: tuple[Stage, ...]

    @staticmethod
    def parse(text: str) -> Pipeline:
        """Raises: ParseError for malformed text; PluginError for an unknown pass or option."""
        return Pipeline(stages.parse_stages(text, _KIND))

    @staticmethod
    def of(passes: Iterable[Pass]) -> Pipeline:
        """A pipeline of passes made by hand."""
        return Pipeline(tuple(Stage(p) for p in passes))

    def without(self, names: Iterable[str]) -> Pipeline:
        """Less the passes of these names, and those that only prepare for them. Raises: PluginError
        for one that is not here."""
        names, here = list(names), [p.name for p in self.passes]
        for name in names:
            if name not in here:
                near = difflib.get_close_matches(name, here, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "`graphopt passes` lists all"
                raise PluginError(f"there is no pass {name!r} to leave out", hint=hint)
        kept = (s for s in self.stages if not {s.pass_.name, s.pass_.serves} & {*names})
        return Pipeline(tuple(kept))

    def left_open(self) -> Pipeline:
        """The same passes, leaving to a tuner what they decide by tables."""
        return self._each(lambda p: p.left_open())

    def settled(self, by: Mapping[str, str]) -> Pipeline:
        """The same passes, deciding as measured (see `Pass.settled`)."""
        return self._each(lambda p: p.settled(by))

    def _each(self, change: Callable[[Pass], Pass]) -> Pipeline:
        return Pipeline(tuple(replace(s, pass_=change(s.pass_)) for s in self.stages))

    @property
    def passes(self) -> tuple[Pass, ...]:
        return tuple(s.pass_ for s in self.stages)

    def __str__(self) -> str:
        return ",".join(map(str, self.stages))

    def run(
        self,
        graph: Graph,
        ctx: PassContext | None = None,
        *,
        verify_each: bool = False,
        gate: Gate | None = None,
        print_after: Callable[[Pass, Graph], None] | None = None,
        timings: list[Timing] | None = None,
        announce: Callable[[str], None] | None = None,
        pass_timeout_s: float = PASS_TIMEOUT_S,
    ) -> Graph:
        """Run every pass in order; `graph` stays as it is.

        `verify_each` checks the IR after every pass, and that the pass left its input alone; the
        result is verified in any case. `gate` then compares before and after. `timings` gets one
        entry per pass; `announce` is called with the name of each as it starts. A pass that needs
        longer than `pass_timeout_s` is stopped.

        Raises: PluginError naming the pass and its distribution when it raises, never ends or
        returns broken IR; GateError; whatever BudgetError or UnsupportedError a pass has to report.
        """
        ctx = ctx if ctx is not None else PassContext()
        text = print_graph(graph) if verify_each else ""
        for stage in self.stages:
            if announce is not None:
                announce(stage.pass_.name)
            start, rewrites, before = time.perf_counter(), ctx.rewrites, graph
            graph = _run_stage(stage, before, ctx, pass_timeout_s)
            if verify_each:
                _verify_stage(stage, graph, before, text)
                text = text if graph is before else print_graph(graph)
            seconds = time.perf_counter() - start
            if timings is not None:
                sizes = len(before.nodes), len(graph.nodes)
                timings.append(Timing(stage.pass_.name, seconds, ctx.rewrites - rewrites, *sizes))
            if print_after is not None:
                print_after(stage.pass_, graph)
            if gate is not None:
                gate_stage(stage, partial(gate, stage.pass_, before, graph))
        if not verify_each:
            _verify_result(graph)
        return graph


# Running -----------------------------------------------------------------------------------------


def _run_stage(stage: Stage, graph: Graph, ctx: PassContext, timeout_s: float) -> Graph:
    # Scaling a weight in place would change the graph the pass was given: let numpy refuse.
    for array in graph.constants.values():
        array.setflags(write=False)
    return run_stage(stage, lambda: stage.pass_.run(graph, ctx), timeout_s, Graph)


def _verify_stage(stage: Stage, result: Graph, given: Graph, given_text: str) -> None:
    if print_graph(given) != given_text:
        raise broken(stage, "changed the graph it was given; only a Rewriter's copy may change")
    check_stage(stage, lambda: verify(result))


def _verify_result(graph: Graph) -> None:
    try:
        verify(graph)
    except IRError as error:
        raise PluginError(
            f"the pipeline returned broken IR: {error.message}",
            hint="run again with --verify-each to learn which pass is to blame",
        ) from error
