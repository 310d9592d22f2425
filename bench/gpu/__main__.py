"""`python -m bench.gpu`: compiles what is not compiled yet, measures, and writes JSON and tables
after each step, pictures at the end."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import click

from bench.gpu import clock
from bench.gpu.cases import CASES, EMULATED, TUNED, Case
from bench.gpu.limits import machine
from bench.gpu.limits import measure as measure_limits
from bench.gpu.measure import Bench
from bench.gpu.prepare import prepare, prepare_one
from bench.gpu.process import Process
from bench.gpu.report import pictures, tables
from bench.gpu.steps import Step
from bench.gpu.tuned import tune_cases

_LIMITS_S = 180.0
"""For a GPU to start, and to be measured."""


@click.command()
@click.argument("names", nargs=-1)
@click.option("--artifacts", type=Path, default=Path("gpu-artifacts"), show_default=True,
              help="Where compiled models are, or go.")  # fmt: skip
@click.option("--out", type=Path, default=Path("gpu-results"), show_default=True,
              help="Folder for results.json, results.md, race.svg and roofline.svg.")  # fmt: skip
@click.option("--target", default="cuda", show_default=True, help="What to compile for.")
@click.option("--minutes", default=10.0, show_default=True, help="For measuring, compiling apart.")
@click.option(
    "--tune-minutes",
    default=0.0,
    show_default=True,
    help="For tuning after that: the most important cases, each then raced tuned.",
)
@click.option("--prepare-only", is_flag=True, help="Compile and stop: this needs no GPU.")
@click.option("--emulated", is_flag=True, help="Tiny models on the CPU: a test of the bench.")
def main(
    names: tuple[str, ...], artifacts: Path, out: Path, target: str, minutes: float,
    tune_minutes: float, prepare_only: bool, emulated: bool,
) -> None:  # fmt: skip
    """Measure the cases whose names begin with NAMES (default: all)."""
    table = EMULATED if emulated else CASES
    cases = [c for c in table if not names or c.folder.startswith(names)]
    target = "cuda:emulated" if emulated else target
    if prepare_only:
        raise SystemExit(1 if prepare(cases, artifacts, target, click.echo) else 0)
    if not emulated and not clock.on_gpu():
        raise SystemExit("torch finds no GPU: use --prepare-only here, or --emulated for a test")
    process = Process(clock.is_well)
    try:
        results = _measured(process, cases, artifacts, out, minutes, target, tune_minutes)
    finally:
        process.close()
    _draw(results, out)
    click.echo((out / "results.md").read_text())


def _measured(
    process: Process, cases: list[Case], artifacts: Path, out: Path, minutes: float, target: str,
    tune_minutes: float,
) -> dict[str, Any]:  # fmt: skip
    """Written after each step: whoever stops it keeps what there is."""
    emulated = target == "cuda:emulated"
    limits = process.call(_LIMITS_S, measure_limits, emulated)
    results: dict[str, Any] = {
        "machine": process.call(_LIMITS_S, machine),
        "limits": dataclasses.asdict(limits),
        "cases": [],
    }

    def keep(entries: list[dict[str, Any]]) -> None:
        results["cases"] = entries
        _write(results, out)

    def make(case: Case, engine: str) -> str:
        return prepare_one(case, engine, artifacts, target, click.echo)

    keep([])
    end = time.monotonic() + 60 * minutes
    bench = Bench(artifacts, limits, process, make, keep, click.echo, end)
    bench.run(cases)
    if tune_minutes > 0:
        process.close()  # it holds memory
        bench.end = float("inf")
        for case in tune_cases(cases, artifacts, target, tune_minutes, click.echo):
            bench.step(Step(case, (TUNED,)))
    return results


def _write(results: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "results.md").write_text(tables(results))


def _draw(results: dict[str, Any], out: Path) -> None:
    try:
        pictures(results, out)
    except ImportError:
        click.echo("no pictures: matplotlib is not installed")


if __name__ == "__main__":
    main()
