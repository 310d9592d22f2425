"""`python -m bench.limits`: what compiling, loading and running may cost at most, measured.

Memory, loading and runs are those of a C program that does nothing else (`host.c`, through the C
interface, one thread, weights in the page cache), the best of several processes. Compile times are
those of the command in a process of its own: torch's start and the model's making are in them.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from graphopt.artifact.format import LIBRARY, WEIGHTS
from graphopt.artifact.sections import code_bytes
from graphopt.units import format_bytes, format_seconds

HERE = Path(__file__).resolve().parent
PROCESSES, RUNS = 7, 15
EXPORT = """
import sys, torch
folder, name, file = sys.argv[1:]
sys.path.insert(0, folder)
from bench import zoo
model, inputs = getattr(zoo, name)()
named = isinstance(inputs, dict)
program = torch.export.export(model, () if named else inputs, inputs if named else None)
torch.export.save(program, file)
"""
CODE_LIMITS = {"mobilenet_v2": 400e3}
console = Console(stderr=True)


@dataclass(frozen=True)
class Found:
    """A measured cost and its limit, both as they are to be shown."""

    what: str
    measured: float
    limit: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        shown = {"B": format_bytes, "s": format_seconds}.get(self.unit, "{:.2f}".format)
        verdict = "holds" if self.holds else "MISSED"
        return f"| {self.what} | {shown(self.measured)} | {shown(self.limit)} | {verdict} |"


def build_host(artifact: Path, out: Path) -> Path:
    """The C program beside an artifact, linked to it."""
    cc = shutil.which("cc")
    command = [cc] if cc else [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run(
        [*command, "-O1", f"-I{artifact}", "-o", out, HERE / "host.c", artifact / LIBRARY,
         f"-Wl,-rpath,{artifact.resolve()}"],
        check=True,
    )  # fmt: skip
    return out


def run_host(host: Path, artifact: Path, runs: int) -> dict[str, int]:
    """What one process of it measured: see host.c."""
    done = subprocess.run(
        [host, artifact / WEIGHTS, str(runs)], check=True, capture_output=True, text=True
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def memory_limit(found: dict[str, Any]) -> float:
    """Weights, 1.2 arenas and 15 MB."""
    return found["weights"] + 1.2 * found["arena"] + 15e6


def running(artifact: Path, code_limit: float) -> Iterator[Found]:
    """The limits of an artifact that is there."""
    with tempfile.TemporaryDirectory() as folder:
        host = build_host(artifact, Path(folder) / "host")
        runs = [run_host(host, artifact, RUNS) for _ in range(PROCESSES)]
    yield Found("peak memory", max(r["peak"] for r in runs), memory_limit(runs[0]), "B")
    yield Found("load", min(r["open_ns"] for r in runs) / 1e9, 10e-3, "s")
    ratio = statistics.median(r["first_ns"] / r["steady_ns"] for r in runs)
    yield Found("first run ÷ steady", ratio, 1.3, "")
    if code_limit:
        yield Found("code section", code_bytes(artifact / LIBRARY), code_limit, "B")


def compiling(model: str, out: Path, cache: Path) -> Iterator[Found]:
    """The function that makes the model, with an empty cache and again; the model exported to a
    file, again."""
    environment = {**os.environ, "GRAPHOPT_CACHE": str(cache)}

    def seconds(source: str) -> float:
        command = [sys.executable, "-m", "graphopt", "compile", source, "-q", "-o", str(out)]
        start = time.perf_counter()
        subprocess.run(command, check=True, env=environment)
        return time.perf_counter() - start

    function = f"{HERE / 'zoo.py'}:{model}"
    yield Found("compile, cold", seconds(function), 30.0, "s")
    yield Found("compile again, function", seconds(function), 3.0, "s")
    file = out.with_suffix(".pt2")
    subprocess.run([sys.executable, "-c", EXPORT, HERE.parent, model, file], check=True)
    seconds(str(file))
    yield Found("compile again, .pt2", seconds(str(file)), 3.0, "s")


@click.command()
@click.argument("models", nargs=-1)
def main(models: Sequence[str]) -> None:
    """Measure the limits of MODELS (default: resnet50 and mobilenet_v2); exits with 1 when one is
    missed."""
    missed = False
    for model in models or ("resnet50", "mobilenet_v2"):
        with tempfile.TemporaryDirectory() as folder, console.status(model):
            artifact = Path(folder) / model
            found = [
                *compiling(model, artifact, Path(folder) / "cache"),
                *running(artifact, CODE_LIMITS.get(model, 0.0)),
            ]
        missed |= not all(f.holds for f in found)
        print(f"| {model} | measured | limit | |\n|---|---|---|---|")
        print("\n".join(map(str, found)), end="\n\n")
    sys.exit(missed)


if __name__ == "__main__":
    main()
