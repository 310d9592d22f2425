"""graphopt bisect: the rewrite that makes a compile wrong or slow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import show_json
from graphopt.cli.parameters import (
    json_option,
    level_option,
    passes_option,
    source_argument,
    target_option,
)
from graphopt.cli.progress import Announce, stages

if TYPE_CHECKING:
    from graphopt.check.bisect import Guilty
    from graphopt.check.trial import Builder
    from graphopt.frontend.traced import Traced
    from graphopt.ir.graph import Graph
    from graphopt.pipeline import Pipeline


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
@json_option
def command(
    source: str,
    check: str,
    tolerance: float | None,
    target: str,
    level: str,
    passes: str | None,
    as_json: bool,
) -> None:
    """Find the rewrite that makes the compile of SOURCE bad, in log2(rewrites) trials.

    With `--check numerics` the graph passes are tried in the reference interpreter first; when all
    is well there, artifacts are built and compared with the model.
    """
    from graphopt.check.trial import Builder
    from graphopt.driver import Options, default_pipeline, read_model
    from graphopt.target import resolve

    pipeline = default_pipeline(Options(level=level, passes=passes))
    backend, row = resolve(target)
    with stages(quiet=as_json) as progress:
        progress("trace")
        graph, traced = read_model(source)
        search = _Search(pipeline, Builder(graph, backend, row, _golden(traced)), progress)
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

    def __init__(self, pipeline: Pipeline, builder: Builder, progress: Announce) -> None:
        self.pipeline, self.builder, self.progress = pipeline, builder, progress

    def numerics(self, graph: Graph, traced: Traced | None, tolerance: float | None) -> Guilty:
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

    def command(self, text: str) -> Guilty:
        """By the exit code of a command."""
        from graphopt.check.trial import command_fails

        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            return self._built(command_fails(text, self.builder, Path(folder) / "trial"))

    def _built(self, bad: Any) -> Guilty:
        from graphopt.check.bisect import bisect
        from graphopt.check.trial import required_passes

        self.progress("bisect what code generation can do without")
        required = required_passes(self.pipeline, self.builder)
        trials = 0

        def counted(planned: Graph) -> bool:
            nonlocal trials
            trials += 1
            self.progress(f"bisect trial {trials}")
            found: bool = bad(planned)
            return found

        target = self.builder.target
        return bisect(self.pipeline, self.builder.source, counted, target=target, required=required)


def _golden(traced: Traced | None) -> Any:
    from graphopt.artifact.golden import Golden

    return Golden() if traced is None else Golden(*traced.golden())


def _as_json(guilty: Guilty) -> dict[str, Any]:
    event = guilty.event
    node = None
    if event is not None:
        loc, results = event.node.loc, event.node.results
        node = {
            "op": event.node.op.name,
            "values": [r.name for r in results],
            "module": loc.module,
            "source": loc.source,
        }
    return {
        "pass": str(guilty.stage),
        "owner": guilty.stage.owner,
        "rewrite": guilty.rewrite,
        "rewrites": guilty.rewrites,
        "trials": guilty.trials,
        "node": node,
    }
