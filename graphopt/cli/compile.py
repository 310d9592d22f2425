"""graphopt compile: a model to an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import heading, show_facts, show_json, show_table, warn
from graphopt.cli.parameters import (
    json_option,
    kernel_passes_option,
    level_option,
    passes_option,
    precision_option,
    quiet_option,
    target_option,
    vendor_option,
    without_option,
)
from graphopt.cli.progress import stages
from graphopt.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from graphopt.driver import Made


def _source(ctx: click.Context, param: click.Parameter, given: str | None) -> str:
    """In `--tuned SOURCE` the one word is the model, not the records' file."""
    if given is None and ctx.params.get("tuned"):
        given, ctx.params["tuned"] = ctx.params["tuned"], ""
    if given is None:
        raise click.MissingParameter(ctx=ctx, param=param)
    return given


@click.command()
@click.argument("source", metavar="SOURCE", required=False, callback=_source)
@target_option
@click.option(
    "--out", "-o", required=True, metavar="DIR", type=click.Path(path_type=Path),
    help="The artifact's directory; what is there is replaced once the new one is whole.",
)  # fmt: skip
@level_option
@passes_option
@without_option
@kernel_passes_option
@click.option("--verify-each", is_flag=True, help="Hold every pass to its numerics. Slow.")
@click.option("--cc", metavar="COMPILER", help="Another C compiler than the pinned one.")
@click.option("--emit-source", is_flag=True, help="Keep the C beside the library, in DIR/src.")
@click.option(
    "--prefix", default="go_model", show_default=True, metavar="NAME",
    help="What every name of the C interface begins with: models of different prefixes link into "
    "one program.",
)  # fmt: skip
@click.option("--static", is_flag=True, help="Also make a static library, DIR/model.a.")
@click.option(
    "--budget", metavar="LIMITS",
    help="What the artifact may cost at most: size=2MB,memory=8MB,latency=10ms, any of them.",
)  # fmt: skip
@click.option(
    "--tuned", metavar="[FILE]", is_flag=False, flag_value="", default=None,
    help="Use the schedules that `graphopt tune` found: the records in FILE.  [without FILE: those "
    "in the cache folder]",
)  # fmt: skip
@precision_option
@vendor_option
@json_option
@quiet_option
def command(
    source: str,
    target: str,
    out: Path,
    level: str,
    passes: str | None,
    without: str,
    kernel_passes: str | None,
    verify_each: bool,
    cc: str | None,
    emit_source: bool,
    prefix: str,
    static: bool,
    budget: str | None,
    tuned: str | None,
    precision: str,
    vendor: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compile the model that SOURCE names to a self-contained artifact."""
    from graphopt.budget import Budget
    from graphopt.driver import Options, make, records_path

    limits = None if budget is None else Budget.parse(budget)
    records = records_path(tuned or tuned is not None)
    options = Options(
        level, passes, verify_each, cc, emit_source, limits, kernel_passes, records, prefix, static,
        precision, vendor, tuple(filter(None, without.split(","))),
    )  # fmt: skip
    with stages(quiet=quiet) as progress:
        made = make(source, target=target, out=out, options=options, progress=progress)
    if as_json:
        show_json(_as_json(made, limits))
    elif not quiet:
        _show(made, limits)
        for note in made.report.notes:
            warn(note)


def _as_json(made: Made, budget: Any) -> dict[str, Any]:
    return {
        **made.report.as_dict(),
        "artifact": str(made.artifact),
        "kept": made.kept,
        "pipeline": made.pipeline,
        "kernel_pipeline": made.kernel_pipeline,
        "budget": budget.limits() if budget else {},
    }


def _show(made: Made, budget: Any) -> None:
    report = made.report
    rows = [(s.name, format_seconds(s.seconds)) for s in report.stages]
    if rows:
        rows.append(("total", format_seconds(report.seconds)))
        show_table(("stage", "time"), rows, numbers=("time",))
    as_it_was = ", as it was: nothing it is made of has changed" if made.kept else ""
    heading(f"{made.artifact} for {report.target}{as_it_was}")
    bound = format_bytes(report.arena_lower_bound)
    tuned = "" if report.tuned_kernels is None else f", {report.tuned_kernels} tuned"
    show_facts(
        [
            ("nodes", report.nodes),
            ("regions", report.regions),
            ("kernels", f"{report.kernels}, called {report.calls} times{tuned}"),
            ("arena", f"{format_bytes(report.arena_bytes)} (lower bound {bound})"),
            ("scratch", format_bytes(report.scratch_bytes)),
            ("weights", format_bytes(report.weight_bytes)),
            ("code", format_bytes(report.code_bytes)),
            ("all files", format_bytes(report.artifact_bytes)),
            *([("budget", f"{budget}: holds")] if budget else []),
        ]
    )
