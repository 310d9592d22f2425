"""The demo's tables."""

from __future__ import annotations

from collections.abc import Sequence

from measure import Footprint, Size
from rich.console import Console
from rich.table import Table
from sentences import QUESTIONS, SENTENCES
from torch import Tensor

from graphopt.driver import Report

NEIGHBOURS = 3
MIB = 1 << 20


def show_compile(console: Console, report: Report) -> None:
    stages = ", ".join(f"{s.name} {s.seconds:.1f}" for s in report.stages)
    console.print(
        f"compiled for {report.target} in {report.seconds:.1f} s ({stages}): "
        f"{report.nodes} nodes, {report.kernels} kernels, {report.regions} calls, "
        f"{report.arena_bytes / 1024:.0f} KiB of working memory"
    )


def show_neighbours(console: Console, vectors: Tensor) -> None:
    """vectors: [sentences + questions, 384], of length 1: their product is the cosine."""
    table = Table("sentence", "cosine", title="Nearest neighbours", min_width=74)
    scores = vectors[len(SENTENCES) :] @ vectors[: len(SENTENCES)].T
    for question, row in zip(QUESTIONS, scores, strict=True):
        table.add_row(f"[bold]{question}[/bold]", "")
        for score, place in zip(*row.topk(NEIGHBOURS), strict=True):
            table.add_row(f"  {SENTENCES[place]}", f"{score:.2f}")
        table.add_section()
    console.print(table)


def show_comparison(
    console: Console,
    errors: Sequence[float],
    times: Sequence[float],
    costs: Sequence[Footprint],
    sizes: Sequence[Size],
) -> None:
    """Each argument: of the compiled program, of eager."""
    table = Table(title="The same sentences, one at a time, one thread")
    for name in ("", "compiled", "eager", "eager / compiled"):
        table.add_column(name, justify="right" if name else "left")

    def row(name: str, values: Sequence[float], shown: str) -> None:
        ours, theirs = values
        table.add_row(name, shown.format(ours), shown.format(theirs), f"{theirs / ours:.1f}x")

    table.add_row("error against float64", *(f"{e:.1e}" for e in errors), "")
    row("latency, ms", times, "{:.2f}")
    row("new process to first result, ms", [c.first_ms for c in costs], "{:.0f}")
    row("peak memory of that process, MiB", [c.peak_bytes / MIB for c in costs], "{:.0f}")
    row("size of weights, MiB", [s.weights / MIB for s in sizes], "{:.1f}")
    row("size of code, MiB", [s.code / MIB for s in sizes], "{:.2f}")
    console.print(table)
    console.print("Eager's code is the packages torch and transformers.", style="dim")
