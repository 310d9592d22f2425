"""`make demo`: compile a sentence-embedding model, use it, hold it against eager PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import measure
import model as minilm
import torch
from report import show_comparison, show_compile, show_neighbours
from rich.console import Console
from sentences import QUESTIONS, SENTENCES
from torch import Tensor

import graphopt


def main() -> None:
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status("load the model") as status:
        demo(Path(folder), console, lambda stage: status.update(f"{stage} ..."))


def demo(folder: Path, console: Console, announce: Callable[[str], None]) -> None:
    eager = minilm.load()
    ids, mask = minilm.tokenize((*SENTENCES, *QUESTIONS))
    one = ids[:1], mask[:1]
    program = graphopt.compile(
        eager, one, out=folder / "minilm", progress=lambda stage: announce(f"compile: {stage}")
    )
    show_compile(console, program.report)

    announce("embed")
    vectors = by_one(program, ids, mask)
    show_neighbours(console, vectors)

    announce("compare with eager in float64")
    exact = measure.in_float64(eager, ids, mask)
    with torch.no_grad():
        errors = [measure.error(v, exact) for v in (vectors, by_one(eager, ids, mask))]
    announce("measure")
    times = measure.latency_ms((program, eager), *one)
    costs = measure.footprints(folder / "minilm", *one)
    show_comparison(console, errors, times, costs, measure.sizes(folder / "minilm"))


def by_one(run: Callable[[Tensor, Tensor], Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings [n, 384], a sentence at a time."""
    return torch.cat([run(ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))])


if __name__ == "__main__":
    main()
