"""Results to tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.engines import ENGINES

_SHOWN_KERNELS = 8
_COLORS = {"graphopt": "#d1495b", "eager": "#c9c9c9", "compile": "#8d96a3",
           "max-autotune": "#2e4057", "cutlass": "#e8a33d", "tuned": "#7b2d43"}  # fmt: skip


def tables(results: dict[str, Any]) -> str:
    """Markdown: the race, what it cost, and the kernels furthest above their floor."""
    cases: list[dict[str, Any]] = results["cases"]
    parts = [
        f"# {results['machine']['device']}",
        _race(cases),
        *_means(cases),
        "## Cold start, memory, launches",
        _costs(cases),
        "## Kernels furthest above their floor",
        _worst(cases),
        "## Limits measured",
        _limits(results["limits"]),
    ]
    missing = [
        f"- {c['case']}: {engine}: {why}" for c in cases for engine, why in c["failures"].items()
    ]
    if missing:
        parts += ["## Not measured", "\n".join(missing)]
    return "\n\n".join(parts) + "\n"


def _race(cases: Sequence[dict[str, Any]]) -> str:
    rows = []
    for case in cases:
        mine = case["engines"].get("graphopt")
        cells = [case["case"], _ms(mine), _error(mine)]
        for engine in ENGINES[1:]:
            other = case["engines"].get(engine)
            ratio = f" ({_times(other):.2f}x)" if other and "rival_s" in other else ""
            cells.append(_ms(other) + ratio)
        rows.append(cells)
    return _table(("case", "graphopt ms", "error", *(f"{e} ms" for e in ENGINES[1:])), rows)


def _means(cases: Sequence[dict[str, Any]]) -> list[str]:
    """How many times faster than each engine, as a geometric mean over the cases that both ran."""
    out = []
    for engine in ENGINES[1:]:
        ratios = [
            _times(c["engines"][engine]) for c in cases if "rival_s" in c["engines"].get(engine, {})
        ]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            out.append(
                f"{mean:.2f}x {engine} over {len(ratios)} cases, {min(ratios):.2f}x at least."
            )
    return out


def _times(engine: dict[str, Any]) -> float:
    """How many times as long it took as graphopt in the same race."""
    return float(engine["median_s"] / engine["rival_s"])


def _costs(cases: Sequence[dict[str, Any]]) -> str:
    rows = []
    for case in cases:
        launches = case["launches"]
        after = launches.get("kernels", 0) + launches.get("libraries", 0)
        cells = [case["case"], f"{launches.get('before', 0)} → {after}"]
        for engine in ENGINES:
            found = case["engines"].get(engine)
            mb, s = (found["device_bytes"] / 1e6, found["cold_start_s"]) if found else (0, 0)
            cells.append(f"{s:.2f} s, {mb:.0f} MB" if found else "")
        rows.append(cells)
    return _table(("case", "launches", *ENGINES), rows)


def _worst(cases: Sequence[dict[str, Any]]) -> str:
    kernels = [(k["seconds"] - k["floor_s"], c["case"], k) for c in cases for k in c["kernels"]]
    kernels.sort(key=lambda entry: -entry[0])
    rows = [
        [case, k["kernel"], f"{k['seconds'] * 1e6:.1f}", f"{k['floor_s'] * 1e6:.1f}",
         f"{k['floor_s'] / k['seconds']:.0%}" if k["seconds"] else ""]
        for _, case, k in kernels[:_SHOWN_KERNELS]
    ]  # fmt: skip
    return _table(("case", "kernel", "us", "floor us", "of the roof"), rows)


def _limits(limits: dict[str, Any]) -> str:
    rows = [["copy", f"{limits['bytes_per_s'] / 1e12:.2f} TB/s"]]
    rows += [[f"{n} product", f"{r / 1e12:.1f} TFLOP/s"] for n, r in limits["flops_per_s"].items()]
    return _table(("what", "measured"), rows)


def _ms(found: dict[str, Any] | None) -> str:
    return f"{found['median_s'] * 1e3:.3f}" if found else ""


def _error(found: dict[str, Any] | None) -> str:
    return f"{found['relative_error']:.1e}" if found and found["relative_error"] is not None else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Pictures --------------------------------------------------------------------------------------


def pictures(results: dict[str, Any], folder: Path) -> None:
    """race.svg: milliseconds by case and engine; roofline.svg: every kernel under its roof."""
    import matplotlib

    matplotlib.use("svg")
    _draw_race(results, folder / "race.svg")
    _draw_roofline(results, folder / "roofline.svg")


def _draw_race(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    cases = results["cases"]
    figure, axes = plt.subplots(figsize=(9, 1 + 0.45 * len(cases)), layout="constrained")
    height = 0.8 / len(ENGINES)
    for i, engine in enumerate(ENGINES):
        points = [
            (y + (i - len(ENGINES) / 2 + 0.5) * height, c["engines"][engine]["median_s"] * 1e3)
            for y, c in enumerate(cases)
            if engine in c["engines"]
        ]
        ys, widths = [p[0] for p in points], [p[1] for p in points]
        axes.barh(ys, widths, height, label=engine, color=_COLORS[engine])
    axes.set_yticks(range(len(cases)), [c["case"] for c in cases])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms per run (log scale, lower is better)")
    axes.set_title(results["machine"]["device"], loc="left")
    axes.legend(fontsize="small")
    figure.savefig(path)
    plt.close(figure)


def _draw_roofline(results: dict[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    limits = results["limits"]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for case in results["cases"]:
        kernels = [k for k in case["kernels"] if k["flops"] and k["bytes"] and k["seconds"]]
        axes.scatter(
            [k["flops"] / k["bytes"] for k in kernels],
            [k["flops"] / k["seconds"] for k in kernels], s=10, label=case["case"],
        )  # fmt: skip
    xs = [2**i for i in range(-4, 13)]
    for name, rate in limits["flops_per_s"].items():
        roof = [min(rate, x * limits["bytes_per_s"]) for x in xs]
        axes.plot(xs, roof, color="#888888", linewidth=0.8)
        axes.annotate(name, (xs[-1], roof[-1]), fontsize="small")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("operations per second")
    axes.legend(fontsize="x-small", ncols=2)
    figure.savefig(path)
    plt.close(figure)
