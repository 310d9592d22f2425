"""What a race found, for people and for machines."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graphopt.check.peers.engines import OURS
from graphopt.check.peers.race import Lap
from graphopt.units import format_bytes, format_seconds

Results = Mapping[str, Sequence[Lap]]
"""Model name → laps."""


def best_peer(laps: Sequence[Lap]) -> Lap | None:
    peers = [lap for lap in laps if lap.engine != OURS and lap.rounds]
    return min(peers, key=lambda lap: lap.median_s, default=None)


def lead(laps: Sequence[Lap]) -> float:
    """The best peer's time over ours; NaN where one of them is missing."""
    ours = next((lap for lap in laps if lap.engine == OURS and lap.rounds), None)
    peer = best_peer(laps)
    return float("nan") if ours is None or peer is None else peer.ratio_to(ours)


def geometric_mean(values: Sequence[float]) -> float:
    kept = [v for v in values if not math.isnan(v)]
    return math.exp(sum(map(math.log, kept)) / len(kept)) if kept else float("nan")


COLUMNS = ("engine", "time", "÷ best peer", "error", "peak memory", "load", "first run", "files")
"""What `rows` has of each engine."""


def rows(laps: Sequence[Lap]) -> Iterator[tuple[str, ...]]:
    """One model: each engine's median time, that over the best peer's, and what else it costs."""
    peer = best_peer(laps)
    for lap in laps:
        if not lap.rounds:
            yield lap.engine, "fails", *[""] * (len(COLUMNS) - 2)
            continue
        yield (
            lap.engine,
            format_seconds(lap.median_s),
            f"{lap.ratio_to(peer):.2f}" if peer else "",
            f"{lap.error:.1e}",
            format_bytes(lap.peak_bytes),
            format_seconds(lap.open_s),
            format_seconds(lap.first_s),
            format_bytes(lap.artifact_bytes) if lap.artifact_bytes else "",
        )


def table(results: Results) -> str:
    """Markdown: median milliseconds per engine, and how many times faster than the best peer."""
    engines = engines_of(results)
    lines = _grid(
        results, engines, lambda lap: f"{lap.median_s * 1e3:.2f}", "best peer ÷ graphopt",
        lambda laps: f"{lead(laps):.2f}",
    )  # fmt: skip
    # a model that met fewer engines has met fewer rivals: its lead is not of the same kind
    whole = {model: laps for model, laps in results.items() if len(laps) == len(engines)}
    lines.append(_mean("geometric mean, where all took part", whole, len(engines)))
    if len(whole) < len(results):
        lines.append(_mean("geometric mean of all", results, len(engines)))
    return "\n".join(lines)


def _mean(title: str, results: Results, engines: int) -> str:
    mean = geometric_mean([lead(laps) for laps in results.values()])
    return f"| {title} |" + " |" * engines + f" {mean:.2f} |"


def costs(results: Results) -> str:
    """Markdown: what else each engine costs, a table for each measure."""
    engines = engines_of(results)
    kept = [e for e in engines if any(x.artifact_bytes for y in results.values() for x in y
                                      if x.engine == e)]  # fmt: skip
    parts = [
        ("Peak memory of the process, MB", engines, lambda x: f"{x.peak_bytes / 1e6:.0f}"),
        ("Load, ms", engines, lambda x: f"{x.open_s * 1e3:.0f}"),
        ("First run, ms", engines, lambda x: f"{x.first_s * 1e3:.1f}"),
        ("Files, MB", kept, lambda x: f"{x.artifact_bytes / 1e6:.1f}"),
    ]
    return "\n\n".join(
        "\n".join([f"### {title}", "", *_grid(results, which, cell)])
        for title, which, cell in parts
    )


def engines_of(results: Results) -> list[str]:
    """All that took part anywhere, in order."""
    return list(dict.fromkeys(lap.engine for laps in results.values() for lap in laps))


def _grid(
    results: Results,
    engines: Sequence[str],
    cell: Callable[[Lap], str],
    title: str = "",
    last: Callable[[Sequence[Lap]], str] | None = None,
) -> list[str]:
    """Models down, engines across; `last` fills one more column."""
    titles = ["model", *engines, *([title] if last else [])]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for model, laps in results.items():
        by = {lap.engine: lap for lap in laps}
        cells = [_cell(by.get(e), cell) for e in engines]
        lines.append(f"| {' | '.join([model, *cells, *([last(laps)] if last else [])])} |")
    return lines


def _cell(lap: Lap | None, cell: Callable[[Lap], str]) -> str:
    if lap is None:
        return ""
    return cell(lap) if lap.rounds else "fails"


def as_json(results: Results) -> dict[str, Any]:
    """Everything measured: seconds and bytes; null for what there is not."""
    return {
        "models": {
            model: {
                "lead": _number(lead(laps)),
                "engines": {lap.engine: _lap(lap) for lap in laps},
            }
            for model, laps in results.items()
        },
        "geometric_mean": _number(geometric_mean([lead(laps) for laps in results.values()])),
    }


def from_json(data: Mapping[str, Any]) -> dict[str, list[Lap]]:
    """What `as_json` was given, each round as its median."""
    return {model: [_lap_of(name, e) for name, e in entry["engines"].items()]
            for model, entry in data["models"].items()}  # fmt: skip


def _lap_of(engine: str, data: Mapping[str, Any]) -> Lap:
    fields = {k: v for k, v in data.items() if k not in ("median_s", "round_medians_s", "error")}
    error = float("nan") if data["error"] is None else data["error"]
    rounds = [[m] for m in data["round_medians_s"]]
    return Lap(engine, error=error, rounds=rounds, known_median_s=data["median_s"], **fields)


def _lap(lap: Lap) -> dict[str, Any]:
    return {
        "median_s": _number(lap.median_s),
        "prepare_s": lap.prepare_s,
        "open_s": lap.open_s,
        "first_s": lap.first_s,
        "peak_bytes": lap.peak_bytes,
        "artifact_bytes": lap.artifact_bytes,
        "error": _number(lap.error),
        "failure": lap.failure,
        "round_medians_s": [statistics.median(r) for r in lap.rounds],
    }


def _number(x: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return x if math.isfinite(x) else None
