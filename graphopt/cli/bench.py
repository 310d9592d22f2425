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
    from graphopt.target import Limits

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
        **(_per_kernel(manifest, calls) if per_kernel else {}),
    }
    if as_json:
        show_json(report)
    else:
        _show(report)


def _per_kernel(manifest: Manifest, nanoseconds: list[int]) -> dict[str, Any]:
    """Every call beside the limits of one thread of this machine, where they can be measured."""
    from graphopt.target import resolve

    limits = resolve(manifest.target.backend)[0].limits()
    calls = _calls(manifest, nanoseconds, limits)
    if limits is None:
        return {"calls": calls}
    return {
        "limits": {"gflops": limits.gflops, "gbytes_per_s": limits.gbytes_per_s},
        "floor_us": sum(c["floor_us"] for c in calls),
        "calls": calls,
    }


def _calls(
    manifest: Manifest, nanoseconds: list[int], limits: Limits | None
) -> list[dict[str, Any]]:
    """Per kernel call. flops per ns are GFLOP/s, bytes per ns GB/s; the floor is the time that the
    operations take at the peak."""
    total = max(sum(nanoseconds), 1)
    return [
        {
            "call": i,
            "time_us": ns / 1e3,
            "share": ns / total,
            "gflops": call.flops / max(ns, 1),
            "gbytes_per_s": call.bytes_moved / max(ns, 1),
            **({} if limits is None else {"floor_us": call.flops / limits.gflops / 1e3}),
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
