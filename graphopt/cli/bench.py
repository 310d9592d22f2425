"""graphopt bench: how long an artifact takes."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import heading, show_facts, show_json, show_table
from graphopt.cli.parameters import artifact_argument, json_option, threads_option
from graphopt.units import format_seconds

if TYPE_CHECKING:
    from graphopt.artifact.format import Manifest

_PROFILES = 20


@click.command()
@artifact_argument
@click.option(
    "--runs", "-n", type=click.IntRange(min=1), metavar="N",
    help="How often to run.  [default: as often as fits into a second, at least 5 times]",
)  # fmt: skip
@threads_option
@click.option("--per-kernel", is_flag=True, help="Time every kernel call, too.")
@json_option
def command(folder: Path, runs: int | None, threads: int, per_kernel: bool, as_json: bool) -> None:
    """Time the artifact in DIR on its golden inputs (on zeros where it has none)."""
    from graphopt.artifact.golden import sample_inputs
    from graphopt.artifact.loader import load
    from graphopt.artifact.timing import time_calls, time_runs

    with load(folder, threads) as model:
        inputs = sample_inputs(folder, model.manifest)
        times = time_runs(model, inputs, runs)
        calls = time_calls(model, inputs, min(runs or _PROFILES, _PROFILES)) if per_kernel else []
        manifest = model.manifest
    report = {
        "runs": len(times),
        "threads": threads,
        "median_us": statistics.median(times) / 1e3,
        "min_us": min(times) / 1e3,
        "max_us": max(times) / 1e3,
        **({"calls": _calls(manifest, calls)} if per_kernel else {}),
    }
    if as_json:
        show_json(report)
    else:
        _show(report)


def _calls(manifest: Manifest, nanoseconds: list[int]) -> list[dict[str, Any]]:
    """Per kernel call. flops per ns are GFLOP/s, bytes per ns GB/s."""
    total = max(sum(nanoseconds), 1)
    return [
        {
            "call": i,
            "time_us": ns / 1e3,
            "share": ns / total,
            "gflops": call.flops / max(ns, 1),
            "gbytes_per_s": call.bytes_moved / max(ns, 1),
            "kernel": call.kernel,
            "computes": [{"module": m, "source": s} for m, s in call.computes],
        }
        for i, (call, ns) in enumerate(zip(manifest.calls, nanoseconds, strict=True))
    ]


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
        ("call", "time", "share", "GFLOP/s", "GB/s", "computes", "kernel"),
        (
            (
                c["call"], format_seconds(c["time_us"] / 1e6), f"{c['share']:.1%}",
                f"{c['gflops']:.1f}", f"{c['gbytes_per_s']:.1f}", _names(c["computes"]),
                c["kernel"],
            )
            for c in calls
        ),
        numbers=("call", "time", "share", "GFLOP/s", "GB/s"),
    )  # fmt: skip


def _names(computes: list[dict[str, str]]) -> str:
    return ", ".join(dict.fromkeys(c["module"] or c["source"] for c in computes))
