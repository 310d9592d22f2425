"""The bench's picture: a row of bars per model, the best peer's and ours told apart at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.check.peers import OURS, engines_of, lead

if TYPE_CHECKING:
    from graphopt.check.peers import Lap

_COLORS = {"graphopt": "#d1495b", "onnxruntime": "#2e4057", "openvino": "#66a182",
           "inductor": "#8d96a3", "inductor-autotune": "#5f6b7a", "eager": "#cfcfcf"}  # fmt: skip
_BAR_INCH, _GAP_BARS = 0.13, 1.2


def draw(results: Mapping[str, Sequence[Lap]], path: Path, *, title: str) -> None:
    """Milliseconds per inference, lower is better. A model's rows are as many as engines met it."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "graphopt", "font.size": 9})
    bars = sum(sum(bool(lap.rounds) for lap in laps) + _GAP_BARS for laps in results.values())
    figure, axes = plt.subplots(figsize=(9, 1.3 + _BAR_INCH * bars), layout="constrained")
    ticks, y = [], 0.0
    for laps in results.values():
        ran = sorted((lap for lap in laps if lap.rounds), key=lambda lap: lap.median_s)
        for lap in ran:
            _bar(axes, y, lap, laps)
            y += 1
        ticks.append(y - len(ran) / 2 - 0.5)
        y += _GAP_BARS
    axes.set_yticks(ticks, list(results))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - _GAP_BARS / 2 - 0.5, -0.5 - _GAP_BARS / 2)
    _scale(axes, results)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    handles = [plt.Rectangle((0, 0), 1, 1, color=_COLORS.get(e)) for e in engines_of(results)]
    axes.legend(handles, engines_of(results), loc="lower right", bbox_to_anchor=(1, 1),
                frameon=False, ncols=len(handles), fontsize="small")  # fmt: skip
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bar(axes: Any, y: float, lap: Lap, laps: Sequence[Lap]) -> None:
    """With its time behind it, and behind ours how many times faster than the best peer that is."""
    ours = lap.engine == OURS
    axes.barh(y, lap.median_s * 1e3, 0.9, color=_COLORS.get(lap.engine))
    text = f"{lap.median_s * 1e3:.3g} ms" + (f"   {lead(laps):.2f}x" if ours else "")
    axes.annotate(text, (lap.median_s * 1e3, y), (3, 0), textcoords="offset points", va="center",
                  fontsize=6.5, fontweight="bold" if ours else "normal")  # fmt: skip


def _scale(axes: Any, results: Mapping[str, Sequence[Lap]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    times = [lap.median_s * 1e3 for laps in results.values() for lap in laps if lap.rounds]
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 2, max(times) * 2.2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g} ms"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_xlabel("per inference, batch 1; log scale, shorter is better")
    axes.spines[["top", "right", "left"]].set_visible(False)
