"""graphopt tune: search schedules on this machine."""

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
    source_argument,
    target_option,
    vendor_option,
    without_option,
)
from graphopt.cli.progress import stages
from graphopt.units import format_seconds

if TYPE_CHECKING:
    from graphopt.tune.session import Tuned, Tuning


@click.command()
@source_argument
@target_option
@click.option(
    "--trials", "-n", default=200, show_default=True, type=click.IntRange(min=1), metavar="N",
    help="Kernels to measure in all, those that FILE has already included.",
)  # fmt: skip
@click.option(
    "--records", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="Where records are kept.  [default: a file in the cache folder]",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of the search.")
@level_option
@passes_option
@kernel_passes_option
@without_option
@precision_option
@vendor_option
@click.option("--cc", metavar="COMPILER", help="Another C compiler than the pinned one.")
@json_option
@quiet_option
def command(
    source: str,
    target: str,
    trials: int,
    records: Path | None,
    seed: int,
    level: str,
    passes: str | None,
    kernel_passes: str | None,
    without: str,
    precision: str,
    vendor: str,
    cc: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search better schedules for the kernels of the model that SOURCE names, by timing them on
    this machine. `graphopt compile --tuned` uses what is found.

    Every result is kept at once: a run that is stopped goes on where it was.
    """
    from graphopt.driver import Options
    from graphopt.tune.session import tune

    options = Options(
        level, passes, cc=cc, kernel_passes=kernel_passes, precision=precision, vendor=vendor,
        without=tuple(filter(None, without.split(","))),
    )  # fmt: skip
    with stages(quiet=quiet) as progress:
        found = tune(
            source, target=target, trials=trials, database=records, options=options, seed=seed,
            progress=progress,
        )  # fmt: skip
    if as_json:
        show_json(_as_json(found))
    elif not quiet:
        _show(found)


def _as_json(found: Tuning) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(found), "database": str(found.database), "gain": found.gain,
        "untried": found.untried,
    }  # fmt: skip


def _show(found: Tuning) -> None:
    show_table(
        ("computes", "calls", "share", "trials", "default", "best", "gain", "schedule"),
        (
            (
                _short(r.computes), r.calls, f"{r.share:.1%}", f"{r.trials} of {r.points}",
                format_seconds(r.default_us / 1e6), format_seconds(r.best_us / 1e6),
                f"{1 / r.cost:.2f}x", _changed(r),
            )
            for r in found.regions
        ),
        numbers=("calls", "share", "trials", "default", "best", "gain"),
    )  # fmt: skip
    heading(f"{found.target}, {format_seconds(found.model_us / 1e6)} a run untuned")
    show_facts(
        [
            ("gain", f"{found.gain:.3f}x, added up over kernels"),
            ("not tried", f"{found.untried:.1%} of the time"),
            ("records", found.database),
        ]
    )
    for r in found.regions:
        bad = ", ".join(f"{n} {kind}" for kind, n in r.outcomes.items() if kind != "ok")
        if bad:
            warn(f"{_short(r.computes)}: of {r.trials} candidates {bad}; the records say why")


def _short(computes: str) -> str:
    """The first of several modules, and how many more."""
    first, *others = computes.split(", ")
    return f"{first} +{len(others)}" if others else first


def _changed(r: Tuned) -> str:
    """What the best point chooses otherwise than the default."""
    from graphopt.tune.space import Point

    default, best = Point.parse(r.default), Point.parse(r.best)
    changed = {name: value for name, value in best.items() if value != default[name]}
    return str(Point(changed)) or "the default"
