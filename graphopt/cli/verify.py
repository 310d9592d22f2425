"""graphopt verify: an artifact's files and results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import heading, show_json, show_table
from graphopt.cli.errors import BAD, OK
from graphopt.cli.parameters import artifact_argument, json_option, quiet_option, threads_option
from graphopt.cli.progress import Announce, stages

if TYPE_CHECKING:
    from graphopt.artifact.loader import Model
    from graphopt.check.approximation import Approximation
    from graphopt.check.artifact import Boundary, Compared


@click.command()
@artifact_argument
@click.argument("source", metavar="[SOURCE]", required=False)
@click.option("--per-op", is_flag=True, help="Compare what every kernel writes. Needs SOURCE.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), metavar="X",
    help="Allowed error over the largest magnitude.  [default: 1e-4; f16 1e-2, bf16 8e-2]",
)  # fmt: skip
@threads_option
@json_option
@quiet_option
def command(
    folder: Path,
    source: str | None,
    per_op: bool,
    tolerance: float | None,
    threads: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Check the artifact in DIR: every byte of its files, and its results on the golden inputs.

    With SOURCE also against the model itself in float64, and kernels whose algorithm is less exact
    against the bound that is declared for it; with --per-op at the boundary of every kernel, naming
    the first node that drifts. Exits with 1 when results differ.
    """
    if per_op and source is None:
        raise click.UsageError("--per-op needs SOURCE: the model to compare with")
    with stages(quiet=quiet) as progress:
        report = _Report(folder, tolerance, threads, progress)
        if source is not None:
            report.against(source, per_op)
    if as_json:
        show_json(report.as_json())
    elif not quiet:
        report.show()
    return OK if report.agrees else BAD


class _Report:
    """What was compared, and how far off it is."""

    def __init__(
        self, folder: Path, tolerance: float | None, threads: int, progress: Announce
    ) -> None:
        from graphopt.artifact.loader import load
        from graphopt.artifact.verify import check_files

        self.tolerance, self.progress = tolerance, progress
        progress("files")
        self.files = len(check_files(folder).files)
        self.model = load(folder, threads)
        progress("golden")
        self.golden = _compare_golden(self.model, tolerance)
        self.source: list[Compared] = []
        self.reference = ""
        self.kernels: list[Boundary] = []
        self.approximate = _declared(self.model)

    def against(self, source: str, per_op: bool) -> None:
        """Compare with the model itself."""
        from graphopt.check import artifact as check
        from graphopt.check.approximation import measured
        from graphopt.driver import read_model

        self.progress("trace")
        graph, traced = read_model(source)
        check.check_ports(self.model.manifest, graph)
        inputs = check.source_inputs(graph, traced)
        self.progress("eager")
        expected, self.reference = check.exact_outputs(graph, traced, inputs)
        self.source = check.compare_outputs(self.model, inputs, expected, self.tolerance)
        if not per_op and not self.approximate:
            return
        self.progress("passes")
        planned = check.planned_again(self.model.manifest, graph)
        self.progress("kernels")
        self.approximate = measured(self.model, planned, inputs)
        if per_op:
            self.kernels = check.compare_kernels(self.model, planned, inputs, self.tolerance)

    @property
    def agrees(self) -> bool:
        results = [*self.golden, *self.source, *(b.compared for b in self.kernels)]
        return all(c.holds for c in results) and all(a.holds for a in self.approximate)

    def as_json(self) -> dict[str, Any]:
        first = self._first()
        return {
            "agrees": self.agrees,
            "files": self.files,
            "golden": list(map(_compared, self.golden)),
            "source": list(map(_compared, self.source)),
            "reference": self.reference,
            "approximate": list(map(_approximation, self.approximate)),
            "kernels": list(map(_boundary, self.kernels)),
            "first_drift": None if first is None else _boundary(first),
        }

    def _first(self) -> Boundary | None:
        from graphopt.check.artifact import first_drifting

        return first_drifting(self.kernels)

    def show(self) -> None:
        click.echo(f"{self.files} files are as they were written")
        rows = [("golden outputs", c) for c in self.golden]
        rows += [(self.reference, c) for c in self.source]
        if not self.golden:
            click.echo("there are no golden outputs to compare with")
        if rows:
            show_table(
                ("compared with", "output", "error", "allowed", ""),
                ((what, c.difference.output, *_numbers(c)) for what, c in rows),
                numbers=("error", "allowed"),
            )
        if self.approximate:
            self._show_approximate()
        if self.kernels:
            self._show_kernels()
        elif not self.agrees:
            click.echo(f"\n{_advice(self)}")

    def _show_approximate(self) -> None:
        heading("Kernels by a faster, less exact algorithm, each by itself")
        show_table(
            ("call", "error", "declared", "", "computes", "kernel"),
            (
                (a.number, *_error_of(a), a.call.name, a.call.kernel)
                for a in sorted(self.approximate, key=lambda a: -(a.measured or 0.0))
            ),
            numbers=("call", "error", "declared"),
        )
        if not self.reference:
            click.echo("SOURCE tells how far off they are")

    def _show_kernels(self) -> None:
        heading("What each kernel wrote, beside the planned graph in float64")
        show_table(
            ("call", "error", "allowed", "", "value: computes"),
            ((b.call, *_numbers(b.compared), str(b)) for b in self.kernels),
            numbers=("call", "error", "allowed"),
        )
        first = self._first()
        if first is not None:
            click.echo(f"\nfirst to drift: {first}")
            click.echo(f"in kernel {first.node.kernel}, call {first.call}")
        elif not self.agrees:
            click.echo(
                "\nevery kernel does what the planned graph says: a graph pass is to blame, or "
                "SOURCE has other weights each time it is called\n"
                "`graphopt bisect SOURCE --check numerics` finds the rewrite"
            )


def _advice(report: _Report) -> str:
    if all(c.holds for c in report.golden) and report.golden:
        return (
            "the golden outputs agree and SOURCE does not: does it give the same weights and "
            "inputs each time? Seed it, or compile it again"
        )
    return "`graphopt verify DIR SOURCE --per-op` names the first node that drifts"


def _compare_golden(model: Model, tolerance: float | None) -> list[Compared]:
    from graphopt.artifact.verify import compare_golden
    from graphopt.check.artifact import Compared, tolerance_of

    dtypes = {t.name: t.dtype for t in model.outputs}
    precision = model.manifest.precision
    return [
        Compared(d, tolerance_of(dtypes[d.output], tolerance, precision))
        for d in compare_golden(model)
    ]


def _declared(model: Model) -> list[Approximation]:
    from graphopt.check.approximation import declared

    return declared(model.manifest)


def _error_of(a: Approximation) -> tuple[str, str, str]:
    if a.measured is None:
        return "", f"{a.bound:g}", ""
    return f"{a.measured:.2g}", f"{a.bound:g}", "ok" if a.holds else "EXCEEDED"


def _approximation(a: Approximation) -> dict[str, Any]:
    return {
        "call": a.number, "kernel": a.call.kernel, "declared": a.bound, "measured": a.measured,
        "holds": a.holds, "computes": [{"module": m, "source": s} for m, s in a.call.computes],
    }  # fmt: skip


def _numbers(c: Compared) -> tuple[str, str, str]:
    error = f"{c.difference.relative:.2g}" if c.difference.agrees else "nan or inf"
    return error, f"{c.tolerance:g}", "ok" if c.holds else "DIFFERS"


def _compared(c: Compared) -> dict[str, Any]:
    d = c.difference
    return {
        "output": d.output, "relative": d.relative, "absolute": d.absolute,
        "allowed": c.tolerance, "agrees": c.holds,
    }  # fmt: skip


def _boundary(b: Boundary) -> dict[str, Any]:
    return {
        "call": b.call,
        "kernel": b.node.kernel,
        "computes": [{"module": m, "source": s} for m, s in b.node.computes],
        **_compared(b.compared),
        "output": b.value,
    }
