"""`python -m bench.gpu`: compiles what is not compiled yet, measures, and writes JSON, tables and
pictures."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import click
import torch

from bench.gpu import clock
from bench.gpu.cases import CASES, EMULATED, Case
from bench.gpu.limits import measure as measure_limits
from bench.gpu.measure import measure
from bench.gpu.prepare import prepare
from bench.gpu.report import pictures, tables
from bench.gpu.tuned import tune_cases


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
    help="For tuning before that: the most important cases take part tuned, too.",
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
    failures = prepare(cases, artifacts, target, click.echo)
    if prepare_only:
        raise SystemExit(1 if failures else 0)
    if not emulated and not clock.on_gpu():
        raise SystemExit("torch finds no GPU: use --prepare-only here, or --emulated for a test")
    if tune_minutes > 0:
        tune_cases(cases, artifacts, target, tune_minutes, click.echo)
    _write(_results(cases, artifacts, minutes, emulated), out)
    click.echo((out / "results.md").read_text())


def _results(cases: list[Case], artifacts: Path, minutes: float, emulated: bool) -> dict[str, Any]:
    limits = measure_limits(emulated)
    return {
        "machine": _machine(),
        "limits": dataclasses.asdict(limits),
        "cases": measure(cases, artifacts, limits, minutes, click.echo),
    }


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0) if clock.on_gpu() else None
    return {
        "device": gpu.name if gpu else f"{platform.processor() or platform.machine()}, emulated",
        "memory_bytes": gpu.total_memory if gpu else 0,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _write(results: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "results.md").write_text(tables(results))
    pictures(results, out)


if __name__ == "__main__":
    main()
