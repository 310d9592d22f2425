"""The bench's picture: bars per model and engine on a log scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.check.peers import Lap

_COLORS = {"graphopt": "#d1495b", "eager": "#c9c9c9", "inductor": "#8d96a3",
           "onnxruntime": "#2e4057", "openvino": "#66a182"}  # fmt: skip


def draw(results: Mapping[str, Sequence[Lap]], path: Path, *, title: str) -> None:
    """Milliseconds per inference, lower is better."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "graphopt"
    engines = list(dict.fromkeys(lap.engine for laps in results.values() for lap in laps))
    height = 0.8 / len(engines)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.42 * len(results)), layout="constrained")
    for i, engine in enumerate(engines):
        rows = [
            (y, lap.median_s * 1e3)
            for y, laps in enumerate(results.values())
            for lap in laps
            if lap.engine == engine and lap.rounds
        ]
        axes.barh([y + (i - len(engines) / 2 + 0.5) * height for y, _ in rows],
                  [ms for _, ms in rows], height, label=engine,
                  color=_COLORS.get(engine))  # fmt: skip
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms per inference, batch 1 (log scale, lower is better)")
    axes.set_title(title, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
