"""graphopt bisect: the rewrite that makes a compile wrong or slow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import show_json
from graphopt.cli.parameters import (
    json_option,
    kernel_passes_option,
    level_option,
    passes_option,
    source_argument,
    target_option,
)
from graphopt.cli.progress import Announce, stages

if TYPE_CHECKING:
    from graphopt.check.bisect import Guilty, GuiltyKernelPass
    from graphopt.check.trial import BadProgram, Builder
    from graphopt.frontend.traced import Traced
    from graphopt.ir.graph import Graph
    from graphopt.kernel.passbase import KernelEvent
    from graphopt.kernel.pipeline import KernelPipeline
    from graphopt.passbase import Event
    from graphopt.pipeline import Pipeline
    from graphopt.program import Program

    Found = Guilty | GuiltyKernelPass


@click.command()
@source_argument
@click.option(
    "--check", required=True, metavar="numerics|CMD",
    help="What tells a bad compile: its numerics, or a shell command that is given the artifact's "
    "directory (in place of {}, or at the end) and fails when it is bad.",
)  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(min=0), metavar="X",
    help="With numerics: allowed error over the largest magnitude.  [default: 1e-4]",
)  # fmt: skip
@target_option
@level_option
@passes_option
@kernel_passes_option
@json_option
def command(
    source: str,
    check: str,
    tolerance: float | None,
    target: str,
    level: str,
    passes: str | None,
    kernel_passes: str | None,
    as_json: bool,
) -> None:
    """Find the rewrite that makes the compile of SOURCE bad, in log2(rewrites) trials.

    With `--check numerics` the graph passes are tried in the reference interpreter first; when all
    is well there, artifacts are built and compared with the model. Kernel passes are tried before
    graph passes.
    """
    from graphopt.check.trial import Builder
    from graphopt.driver import Options, default_kernel_pipeline, default_pipeline, read_model
    from graphopt.target import resolve

    options = Options(level=level, passes=passes, kernel_passes=kernel_passes)
    pipelines = default_pipeline(options), default_kernel_pipeline(options)
    backend, row = resolve(target)
    with stages(quiet=as_json) as progress:
        progress("trace")
        graph, traced = read_model(source)
        search = _Search(*pipelines, Builder(graph, backend, row, _golden(traced)), progress)
        if check == "numerics":
            guilty = search.numerics(graph, traced, tolerance)
        else:
            guilty = search.command(check)
    if as_json:
        show_json(_as_json(guilty))
    else:
        click.echo(f"{guilty}\nfound in {guilty.trials} trials")


class _Search:
    """The two kinds of search."""

    def __init__(
        self,
        pipeline: Pipeline,
        kernel_pipeline: KernelPipeline,
        builder: Builder,
        progress: Announce,
    ) -> None:
        self.pipeline, self.kernel_pipeline = pipeline, kernel_pipeline
        self.builder, self.progress = builder, progress
        self.trials = 0

    def numerics(self, graph: Graph, traced: Traced | None, tolerance: float | None) -> Found:
        """In the interpreter when the passes are wrong, else in artifacts."""
        from graphopt.check.artifact import TOLERANCE, exact_outputs, source_inputs
        from graphopt.check.bisect import differs_from
        from graphopt.check.trial import results_differ
        from graphopt.passbase import PassContext

        self.progress("bisect in the interpreter")
        differs = differs_from(graph, tolerance=TOLERANCE if tolerance is None else tolerance)
        target = self.builder.target
        if differs(self.pipeline.run(graph, PassContext(target=target))):
            from graphopt.check.bisect import bisect

            return bisect(self.pipeline, graph, differs, target=target)
        inputs = source_inputs(graph, traced)
        expected, _ = exact_outputs(graph, traced, inputs)
        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            trial = Path(folder) / "trial"
            return self._built(results_differ(self.builder, trial, inputs, expected, tolerance))

    def command(self, text: str) -> Found:
        """By the exit code of a command."""
        from graphopt.check.trial import command_fails

        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            return self._built(command_fails(text, self.builder, Path(folder) / "trial"))

    def _built(self, bad: BadProgram) -> Found:
        """Kernel passes first: when it is bad without them, the graph passes, without them."""
        from graphopt.check.bisect import bisect, bisect_kernels
        from graphopt.check.trial import required_passes
        from graphopt.passbase import PassContext

        def counted(program: Program) -> bool:
            self.trials += 1
            self.progress(f"bisect trial {self.trials}")
            return bad(program)

        builder, target = self.builder, self.builder.target
        planned = self.pipeline.run(builder.source, PassContext(target=target))
        found = bisect_kernels(
            self.kernel_pipeline, builder.program(planned), counted, target=target
        )
        if found is not None:
            return found
        self.progress("bisect what code generation can do without")
        return bisect(
            self.pipeline,
            builder.source,
            lambda planned: counted(builder.program(planned)),
            target=target,
            required=required_passes(self.pipeline, builder),
        )


def _golden(traced: Traced | None) -> Any:
    from graphopt.artifact.golden import Golden

    return Golden() if traced is None else Golden(*traced.golden())


def _as_json(guilty: Found) -> dict[str, Any]:
    return {
        "pass": str(guilty.stage),
        "owner": guilty.stage.owner,
        "rewrite": guilty.rewrite,
        "rewrites": guilty.rewrites,
        "trials": guilty.trials,
        "at": _place(guilty.event),
    }


def _place(event: Event | KernelEvent | None) -> dict[str, Any] | None:
    """A node, or a loop of a kernel."""
    from graphopt.passbase import Event

    if event is None:
        return None
    if not isinstance(event, Event):
        return {"kernel": event.kernel, "loop": event.where}
    return {
        "op": event.node.op.name,
        "values": [r.name for r in event.node.results],
        "module": event.node.loc.module,
        "source": event.node.loc.source,
    }
