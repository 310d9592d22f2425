"""graphopt explain: where a pass fired, and where it nearly did."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from graphopt.cli.console import heading, show_json, show_table
from graphopt.cli.parameters import (
    any_pass_name,
    json_option,
    kernel_passes_option,
    level_option,
    passes_option,
    target_option,
)
from graphopt.cli.progress import Announce, stages

if TYPE_CHECKING:
    from graphopt.check.explain import Explanation, NearMiss
    from graphopt.driver import Options


@click.command()
@click.argument("name", metavar="PASS", shell_complete=any_pass_name)
@click.argument("source", metavar="MODEL")
@target_option
@level_option
@passes_option
@kernel_passes_option
@click.option(
    "--most", default=10, show_default=True, type=click.IntRange(min=1), metavar="N",
    help="Show at most N nodes of a kind.",
)  # fmt: skip
@json_option
def command(
    name: str,
    source: str,
    target: str,
    level: str,
    passes: str | None,
    kernel_passes: str | None,
    most: int,
    as_json: bool,
) -> None:
    """Show where PASS, a graph or a kernel pass, fired in MODEL (a SOURCE), and where it refused.

    The passes that stand before it in the level's pipeline run first. Refusals are grouped by
    reason, the rarest first: those came closest.
    """
    from graphopt.driver import Options

    is_kernel_pass = _find(name)  # before the model is traced
    options = Options(level=level, passes=passes, kernel_passes=kernel_passes)
    with stages(quiet=as_json) as progress:
        found = _explain(name, is_kernel_pass, source, target, options, progress)
    if as_json:
        show_json(dataclasses.asdict(found))
    else:
        _show(found, most)


def _find(name: str) -> bool:
    """Whether it is a kernel pass. Raises: PluginError when there is no pass of that name."""
    from graphopt.plugins import registry

    if name in [e.name for e in registry().of("kernel_passes")]:
        return True
    registry().find("passes", name)
    return False


def _explain(
    name: str,
    is_kernel_pass: bool,
    source: str,
    target: str,
    options: Options,
    progress: Announce,
) -> Explanation:
    from graphopt.check.explain import explain, explain_kernels
    from graphopt.driver import default_kernel_pipeline, default_pipeline, read_model
    from graphopt.passbase import PassContext
    from graphopt.target import resolve

    backend, row = resolve(target)
    pipeline, kernel_pipeline = default_pipeline(options), default_kernel_pipeline(options)
    progress("trace")
    graph, _ = read_model(source)
    progress("passes")
    if not is_kernel_pass:
        return explain(name, graph, pipeline, target=row)
    planned = pipeline.run(graph, PassContext(target=row))
    progress("kernels")
    return explain_kernels(name, backend.lower(planned, row), kernel_pipeline, target=row)


def _show(found: Explanation, most: int) -> None:
    click.echo(f"{found.owner} (numerics: {found.numerics})")
    if found.stands == 0:
        click.echo("it does not stand in the pipeline, and ran alone")
    else:
        click.echo(f"after {found.before or 'nothing else'}")
    click.echo(found.effect)
    heading(f"Fired {_times(len(found.fired))}" if found.fired else "Fired nowhere")
    _show_places(found.fired, most)
    if not found.near_misses:
        click.echo("\nIt refused nothing that it looked at.")
    for miss in found.near_misses:
        _show_miss(miss, most)


def _show_miss(miss: NearMiss, most: int) -> None:
    heading(f"Refused {_times(len(miss.places))}: {miss.reasons[0]}")
    if len(set(miss.reasons)) == 1:
        _show_places(miss.places, most)
        return
    rows = list(zip(miss.places, miss.reasons, strict=True))
    show_table(("where", "reason"), rows[:most])
    _more(len(rows), most)


def _show_places(places: tuple[str, ...], most: int) -> None:
    for place in places[:most]:
        click.echo(f"  {place}")
    _more(len(places), most)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _more(count: int, most: int) -> None:
    if count > most:
        click.echo(f"  and {count - most} more (--most {count} shows them)")
