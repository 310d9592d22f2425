"""A roofline: how fast every kernel call is by its operations per byte, under what is possible.

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphopt.errors import UnsupportedError
from graphopt.report.calls import TimedCall
from graphopt.target import Limits

_NAMED = 6
"""Calls that are named: those that take longest."""
_LONGEST_NAME = 80
_AREA = 900.0
"""Of a call that is the whole run, in square points."""


def draw_roofline(
    calls: Sequence[TimedCall], limits: Limits | None, path: Path, title: str
) -> None:
    """An SVG. A circle's area is a call's share of the time; calls without operations are left out.

    Raises: UnsupportedError without matplotlib, or when no call computes.
    """
    shown = [c for c in calls if c.flops and c.bytes_moved and c.nanoseconds]
    if not shown:
        raise UnsupportedError(
            "no kernel call of the artifact computes with floats",
            hint="the trace has the calls that move data",
        )
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8, 6.2), layout="constrained")
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = (f(c.intensity for c in shown) for f in (min, max))
    span = low / 2, high * 2
    if limits is not None:
        _roof(axes, limits, span)
    axes.scatter(
        [c.intensity for c in shown], [c.gflops for c in shown],
        s=[max(_AREA * c.share, 6) for c in shown], color="#d1495b", alpha=0.55, linewidth=0,
    )  # fmt: skip
    longest = sorted(shown, key=lambda c: -c.share)[:_NAMED]
    for rank, call in enumerate(longest, 1):
        axes.annotate(str(rank), (call.intensity, call.gflops), ha="center", va="center",
                      fontsize=7)  # fmt: skip
    axes.set_xlim(*span)
    names = (f"{rank}  {c.share:.1%}  {_short(c.label)}" for rank, c in enumerate(longest, 1))
    axes.set_xlabel("operations per byte that a call reads and writes\n\n" + "\n".join(names))
    axes.set_ylabel("GFLOP/s")
    axes.set_title(title, loc="left")
    axes.grid(visible=True, which="major", color="#e5e5e5")
    axes.set_axisbelow(True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UnsupportedError(
            "the picture needs matplotlib",
            hint="pip install 'graphopt[report]', or take --no-picture",
        ) from error
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update({"svg.hashsalt": "graphopt", "font.size": 9})
    return plt


def _roof(axes: Any, limits: Limits, span: tuple[float, float]) -> None:
    """What memory allows, then what the arithmetic units do."""
    ridge = limits.gflops / limits.gbytes_per_s
    x = sorted({span[0], min(max(ridge, span[0]), span[1]), span[1]})
    y = [min(limits.gflops, limits.gbytes_per_s * i) for i in x]
    label = (f"{limits.gflops:.0f} GFLOP/s, {limits.gbytes_per_s:.0f} GB/s from memory; "
             "above the slope: from a cache")  # fmt: skip
    axes.plot(x, y, color="#2e4057", linewidth=1.5, label=label)
    axes.legend(loc="lower right", frameon=False)


def _short(label: str) -> str:
    """The first and the last module of a call."""
    modules = label.split(", ")
    name = modules[0] if len(modules) == 1 else f"{modules[0]} … {modules[-1]}"
    return name if len(name) <= _LONGEST_NAME else "…" + name[-_LONGEST_NAME:]
