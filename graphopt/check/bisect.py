"""Bisection: which rewrite makes a compile wrong, or slow, in log2 steps."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from graphopt.check.gate import Allowance, run_exactly
from graphopt.check.inputs import seeded_inputs
from graphopt.errors import GraphoptError
from graphopt.ir.graph import Graph
from graphopt.ir.verify import describe_node
from graphopt.kernel.passbase import KernelContext, KernelEvent
from graphopt.kernel.pipeline import KernelPipeline, KernelStage
from graphopt.passbase import Event, PassContext
from graphopt.pipeline import Pipeline, Stage
from graphopt.program import Program
from graphopt.target import Target

Bad = Callable[[Graph], bool]
"""Whether what the pipeline made of the graph is wrong, or too slow."""


@dataclass(frozen=True)
class Guilty:
    """The first rewrite that turns a good compile bad.

    `rewrite` counts from 1 over the whole pipeline, of `rewrites`; it is 0, and `event` None, when
    the pass makes the graph bad without a rewrite that it accounts for. `trials` is how often the
    predicate was asked.
    """

    stage: Stage
    event: Event | None
    rewrite: int
    rewrites: int
    trials: int

    def __str__(self) -> str:
        if self.event is None:
            return f"{self.stage.owner}, in what it does to the whole graph"
        node = describe_node(self.event.node)
        return f"rewrite {self.rewrite} of {self.rewrites}: {self.stage.owner} at {node}"


def bisect(
    pipeline: Pipeline,
    graph: Graph,
    bad: Bad,
    *,
    target: Target | None = None,
    required: Collection[str] = (),
) -> Guilty:
    """Find the rewrite after which `bad(result)` holds, every earlier one left in.

    The predicate sees the result of the whole pipeline, stopped from rewriting after some point; it
    is asked about log2(rewrites) times. Passes named in `required` are never stopped: the predicate
    needs what they do.
    Raises: GraphoptError when the result is good, or bad before any pass that may be stopped.
    """
    return _Search(pipeline, graph, bad, target, frozenset(required)).run()


def differs_from(graph: Graph, *, tolerance: float, seed: int = 0) -> Bad:
    """A predicate: the graph's outputs, in the interpreter, differ by more than `tolerance` times
    their largest magnitude from those of `graph`."""
    inputs = seeded_inputs(graph, seed)
    expected = run_exactly(graph, inputs)
    allowance = Allowance(noise=0.0, bound=tolerance)

    def bad(result: Graph) -> bool:
        outputs = run_exactly(result, inputs)
        return any(allowance.excess(x, y) for x, y in zip(expected, outputs, strict=True))

    return bad


@dataclass(frozen=True)
class GuiltyKernelPass:
    """The first rewrite of a kernel pass that turns a good compile bad. `event` is None when the
    pass records nothing. Counted as in `Guilty`."""

    stage: KernelStage
    event: KernelEvent | None
    rewrite: int
    rewrites: int
    trials: int

    def __str__(self) -> str:
        where = "" if self.event is None else f" at {self.event.where} in {self.event.kernel}"
        return f"rewrite {self.rewrite} of {self.rewrites}: {self.stage.owner}{where}"


def bisect_kernels(
    pipeline: KernelPipeline,
    program: Program,
    bad: Callable[[Program], bool],
    *,
    target: Target | None = None,
) -> GuiltyKernelPass | None:
    """As `bisect`, over the rewrites of kernel passes; None when it is bad without any of them.

    Raises: GraphoptError when the result is good.
    """
    trials = 0

    def is_bad(fuel: int | None) -> bool:
        nonlocal trials
        trials += 1
        return bad(pipeline.run_program(program, KernelContext(target, fuel)))

    full = KernelContext(target)
    pipeline.run_program(program, full)
    if not is_bad(None):
        raise GraphoptError("the result is good: there is nothing to bisect")
    if not full.rewrites or is_bad(0):
        return None
    rewrite = _first_true(is_bad, 0, full.rewrites)
    last = KernelContext(target, rewrite, record=True)
    pipeline.run_program(program, last)
    fired = [e for e in last.events if not e.reason]
    stage = next(s for s in pipeline.stages if not fired or s.pass_.name == fired[-1].pass_name)
    return GuiltyKernelPass(stage, fired[-1] if fired else None, rewrite, full.rewrites, trials)


class _Search:
    def __init__(
        self, pipeline: Pipeline, graph: Graph, bad: Bad, target: Target | None,
        required: frozenset[str],
    ) -> None:  # fmt: skip
        self.pipeline, self.graph, self.bad, self.target = pipeline, graph, bad, target
        self.required = required
        self.trials = 0

    def run(self) -> Guilty:
        full = PassContext(target=self.target)
        if not self._is_bad(run_with(self.pipeline, self.graph, full, self.required)):
            raise GraphoptError("the result is good: there is nothing to bisect")
        if self._is_bad_with(0):
            return self._guilty_pass(full.rewrites)
        rewrite = _first_true(self._is_bad_with, 0, full.rewrites)
        stage, event = self._event(rewrite)
        return Guilty(stage, event, rewrite, full.rewrites, self.trials)

    def _is_bad(self, graph: Graph) -> bool:
        self.trials += 1
        return self.bad(graph)

    def _is_bad_with(self, fuel: int) -> bool:
        ctx = PassContext(self.target, fuel)
        return self._is_bad(run_with(self.pipeline, self.graph, ctx, self.required))

    def _guilty_pass(self, rewrites: int) -> Guilty:
        """For passes that change the graph without spending fuel: bisect over prefixes."""
        if self.required:
            raise GraphoptError(
                "the compile is bad with no rewrite but those of passes that code generation needs "
                f"({', '.join(sorted(self.required))})",
                hint="if the check fails for good artifacts, mend it; else "
                "`graphopt verify DIR SOURCE --per-op` names the kernel that is off",
            )

        def prefix_is_bad(length: int) -> bool:
            prefix = Pipeline(self.pipeline.stages[:length])
            return self._is_bad(prefix.run(self.graph, PassContext(self.target, 0)))

        if prefix_is_bad(0):
            raise GraphoptError(
                "the graph is bad before any pass",
                hint="look at the import, or at the predicate itself",
            )
        length = _first_true(prefix_is_bad, 0, len(self.pipeline.stages))
        return Guilty(self.pipeline.stages[length - 1], None, 0, rewrites, self.trials)

    def _event(self, fuel: int) -> tuple[Stage, Event | None]:
        """The last rewrite made with this much fuel, and the stage that made it."""
        last: list[tuple[Stage, Event]] = []
        graph = self.graph
        ctx = PassContext(self.target, fuel)
        for stage in self.pipeline.stages:
            rewrites = ctx.rewrites
            ctx.on_rewrite = lambda event, stage=stage: last.append((stage, event))
            graph = run_with(Pipeline((stage,)), graph, ctx, self.required)
            if ctx.rewrites == fuel and ctx.rewrites > rewrites:
                return stage, last[-1][1] if last and last[-1][0] is stage else None
        return last[-1] if last else (self.pipeline.stages[-1], None)


def run_with(
    pipeline: Pipeline, graph: Graph, ctx: PassContext, required: Collection[str]
) -> Graph:
    """Run a pipeline on the fuel of `ctx`, passes named in `required` on none of it."""
    for stage in pipeline.stages:
        own = PassContext(ctx.target) if stage.pass_.name in required else ctx
        graph = Pipeline((stage,)).run(graph, own)
    return graph


def _first_true(test: Callable[[int], bool], good: int, bad: int) -> int:
    """The least n in (good, bad] with test(n), given that test(good) fails and test(bad) holds."""
    while bad - good > 1:
        middle = (good + bad) // 2
        if test(middle):
            bad = middle
        else:
            good = middle
    return bad
