"""graphopt explain: where a pass fired, and where it nearly did."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from graphopt.cli.console import heading, show_json, show_table
from graphopt.cli.parameters import (
    json_option,
    level_option,
    pass_names,
    passes_option,
    target_option,
)
from graphopt.cli.progress import stages

if TYPE_CHECKING:
    from graphopt.check.explain import Explanation, NearMiss


@click.command()
@click.argument("name", metavar="PASS", shell_complete=pass_names)
@click.argument("source", metavar="MODEL")
@target_option
@level_option
@passes_option
@click.option(
    "--most", default=10, show_default=True, type=click.IntRange(min=1), metavar="N",
    help="Show at most N nodes of a kind.",
)  # fmt: skip
@json_option
def command(
    name: str, source: str, target: str, level: str, passes: str | None, most: int, as_json: bool
) -> None:
    """Show where PASS fired in MODEL (a SOURCE), and where it refused and why.

    The passes that stand before it in the level's pipeline run first. Refusals are grouped by
    reason, the rarest first: those nodes came closest.
    """
    from graphopt.check.explain import explain
    from graphopt.driver import Options, default_pipeline, read_model
    from graphopt.plugins import registry
    from graphopt.target import resolve

    registry().find("passes", name)  # before the model is traced
    _, row = resolve(target)
    pipeline = default_pipeline(Options(level=level, passes=passes))
    with stages(quiet=as_json) as progress:
        progress("trace")
        graph, _ = read_model(source)
        progress("passes")
        found = explain(name, graph, pipeline, target=row)
    if as_json:
        show_json(dataclasses.asdict(found))
    else:
        _show(found, most)


def _show(found: Explanation, most: int) -> None:
    click.echo(f"{found.owner} (numerics: {found.numerics})")
    if found.places == 0:
        click.echo("it does not stand in the pipeline; it ran on the graph as traced")
    else:
        click.echo(f"after {found.pipeline.rpartition(',')[0] or 'nothing else'}")
    for t in found.timings:
        click.echo(f"{t.nodes_before} nodes → {t.nodes_after}")
    heading(f"Fired {_times(len(found.fired))}")
    _show_nodes(found.fired, most)
    if not found.near_misses:
        click.echo("\nIt refused no node that it looked at.")
    for miss in found.near_misses:
        _show_miss(miss, most)


def _show_miss(miss: NearMiss, most: int) -> None:
    same = len(set(miss.reasons)) == 1
    heading(f"Refused {_times(len(miss.nodes))}: {miss.reasons[0]}")
    if same:
        _show_nodes(miss.nodes, most)
        return
    rows = list(zip(miss.nodes, miss.reasons, strict=True))
    show_table(("node", "reason"), rows[:most])
    _more(len(rows), most)


def _show_nodes(nodes: tuple[str, ...], most: int) -> None:
    for node in nodes[:most]:
        click.echo(f"  {node}")
    _more(len(nodes), most)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _more(count: int, most: int) -> None:
    if count > most:
        click.echo(f"  and {count - most} more (--most {count} shows them)")
