"""graphopt bench: how long a model takes, by itself or beside other engines."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import heading, show_facts, show_json, show_table, warn
from graphopt.cli.errors import BAD, OK
from graphopt.cli.parameters import engine_names, json_option, threads_option
from graphopt.cli.progress import stages
from graphopt.units import format_seconds

if TYPE_CHECKING:
    from graphopt.artifact.format import Manifest
    from graphopt.check.peers import Lap
    from graphopt.report.calls import TimedCall

_PROFILES = 20


@click.command()
@click.argument("subject", metavar="DIR|SOURCE")
@click.option(
    "--runs", "-n", type=click.IntRange(min=1), metavar="N",
    help="How often to run.  [default: as often as fits into a second, at least 5 times]",
)  # fmt: skip
@threads_option
@click.option("--per-kernel", is_flag=True, help="Time every kernel call, too.")
@click.option(
    "--against", metavar="ENGINES", shell_complete=engine_names,
    help="Race other engines, such as onnxruntime,openvino,inductor,eager, each at its best "
    "setting, taking turns on the same cores.",
)  # fmt: skip
@click.option(
    "--source", metavar="SOURCE", help="With --against and a DIR: the model for the others."
)
@click.option(
    "--rounds", default=7, show_default=True, type=click.IntRange(min=1), metavar="N",
    help="With --against: how often every engine has its turn.",
)  # fmt: skip
@click.option(
    "--seconds", default=0.4, show_default=True, type=click.FloatRange(min=0, min_open=True),
    metavar="X", help="With --against: how long a turn is.",
)  # fmt: skip
@json_option
def command(
    subject: str,
    runs: int | None,
    threads: int,
    per_kernel: bool,
    against: str | None,
    source: str | None,
    rounds: int,
    seconds: float,
    as_json: bool,
) -> int:
    """Time an artifact, or the model that SOURCE names, on its example inputs (zeros, for an
    artifact that has none).

    SOURCE is compiled with the defaults, and kept in the cache folder.
    """
    if against is not None:
        if per_kernel or runs is not None:
            raise click.UsageError(
                "--against races whole models: leave out --per-kernel and --runs"
            )
        return _race(subject, source, against.split(","), threads, rounds, seconds, as_json)
    if source is not None:
        raise click.UsageError("--source is the model of --against; give that, too")
    report = _timed(_folder(subject), runs, threads, per_kernel)
    if as_json:
        show_json(report)
    else:
        _show(report)
    return OK


# Alone -------------------------------------------------------------------------------------------


def _is_artifact(subject: str) -> bool:
    """Whether it means a directory: a SOURCE is `file.py:function`, or a file."""
    path = Path(subject)
    return path.is_dir() or (":" not in subject and not path.is_file())


def _folder(subject: str) -> Path:
    """The artifact's, which is made first where SOURCE is given."""
    from graphopt.driver import build

    if _is_artifact(subject):
        return Path(subject)
    with stages() as progress:
        made = build(subject, progress=progress)
    assert made.artifact is not None
    return made.artifact


def _timed(folder: Path, runs: int | None, threads: int, per_kernel: bool) -> dict[str, Any]:
    from graphopt.artifact.golden import sample_inputs
    from graphopt.artifact.loader import load
    from graphopt.artifact.timing import time_calls, time_runs

    with load(folder, threads) as model:
        inputs = sample_inputs(folder, model.manifest)
        times = time_runs(model, inputs, runs)
        calls = time_calls(model, inputs, min(runs or _PROFILES, _PROFILES)) if per_kernel else []
        manifest = model.manifest
    return {
        "runs": len(times),
        "threads": threads,
        "median_us": statistics.median(times) / 1e3,
        "min_us": min(times) / 1e3,
        "max_us": max(times) / 1e3,
        **(_per_kernel(manifest, calls) if per_kernel else {}),
    }


def _per_kernel(manifest: Manifest, nanoseconds: list[int]) -> dict[str, Any]:
    """Every call beside the limits of one thread of this machine, where they can be measured."""
    from graphopt.report.calls import timed_calls
    from graphopt.target import resolve

    limits = resolve(manifest.target.backend)[0].limits()
    calls = [_row(c) for c in timed_calls(manifest, nanoseconds, limits)]
    if limits is None:
        return {"calls": calls}
    return {
        "limits": {"gflops": limits.gflops, "gbytes_per_s": limits.gbytes_per_s},
        "floor_us": sum(c["floor_us"] for c in calls),
        "calls": calls,
    }


def _row(call: TimedCall) -> dict[str, Any]:
    return {
        "call": call.call,
        "time_us": call.time_us,
        "share": call.share,
        "gflops": call.gflops,
        "gbytes_per_s": call.gbytes_per_s,
        **({} if call.floor_us is None else {"floor_us": call.floor_us}),
        "kernel": call.kernel,
        "computes": [{"module": m, "source": s} for m, s in call.computes],
    }


def _show(report: dict[str, Any]) -> None:
    show_facts(
        (name, format_seconds(report[f"{name}_us"] / 1e6)) for name in ("median", "min", "max")
    )
    threads = report["threads"]
    click.echo(f"{report['runs']} runs on {threads} thread{'s' if threads > 1 else ''}")
    if "calls" not in report:
        return
    heading("Kernel calls, the longest first")
    calls = sorted(report["calls"], key=lambda c: -c["time_us"])
    show_table(
        ("call", "time", "floor", "share", "GFLOP/s", "GB/s", "computes", "kernel"),
        (
            (
                c["call"], format_seconds(c["time_us"] / 1e6), _floor(c), f"{c['share']:.1%}",
                f"{c['gflops']:.1f}", f"{c['gbytes_per_s']:.1f}", _names(c["computes"]),
                c["kernel"],
            )
            for c in calls
        ),
        numbers=("call", "time", "floor", "share", "GFLOP/s", "GB/s"),
    )  # fmt: skip
    if "limits" in report:
        _show_limits(report)


def _show_limits(report: dict[str, Any]) -> None:
    limits, total = report["limits"], sum(c["time_us"] for c in report["calls"])
    click.echo(
        f"one thread of this machine: {limits['gflops']:.0f} GFLOP/s, "
        f"{limits['gbytes_per_s']:.1f} GB/s from memory\n"
        f"floor: {format_seconds(report['floor_us'] / 1e6)} of operations at that rate, "
        f"{report['floor_us'] / max(total, 1e-3):.0%} of the time taken"
    )


def _floor(call: dict[str, Any]) -> str:
    return format_seconds(call["floor_us"] / 1e6) if "floor_us" in call else ""


def _names(computes: list[dict[str, str]]) -> str:
    return ", ".join(dict.fromkeys(c["module"] or c["source"] for c in computes))


# Beside others -----------------------------------------------------------------------------------


def _race(
    subject: str,
    source: str | None,
    against: list[str],
    threads: int,
    rounds: int,
    seconds: float,
    as_json: bool,
) -> int:
    """BAD when graphopt itself has no time."""
    from graphopt.artifact.loader import load
    from graphopt.check.peers import OURS, race

    folder = Path(subject) if _is_artifact(subject) else None
    if folder is not None:
        load(folder).close()  # a mistake shows before minutes of work
        if source is None:
            raise click.UsageError("an artifact tells other engines nothing: add --source SOURCE")
    engines = [OURS, *dict.fromkeys(e.strip() for e in against if e.strip() not in ("", OURS))]
    with stages(quiet=as_json) as progress:
        laps = race(
            source or subject, engines, artifact=folder, threads=threads, rounds=rounds,
            seconds=seconds, progress=progress,
        )  # fmt: skip
    if as_json:
        _show_race_json(subject, laps, threads)
    else:
        _show_race(laps, threads)
    return OK if laps[0].rounds else BAD


def _show_race_json(subject: str, laps: list[Lap], threads: int) -> None:
    from graphopt.check.peers import as_json

    (model,) = as_json({subject: laps})["models"].values()
    show_json({"source": subject, "threads": threads, **model})


def _show_race(laps: list[Lap], threads: int) -> None:
    from graphopt.check.peers import COLUMNS, rows

    show_table(COLUMNS, rows(laps), numbers=COLUMNS[1:])
    click.echo(f"on {threads} thread{'s' if threads > 1 else ''}; errors are beside eager float64")
    for lap in laps:
        if lap.failure:
            warn(f"{lap.engine}: {lap.failure}")
