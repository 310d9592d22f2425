"""What a race found, for people and for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.check.peers.race import Lap

OURS = "graphopt"
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


def table(results: Results) -> str:
    """Markdown: median milliseconds per engine, and how many times faster than the best peer."""
    engines = list(dict.fromkeys(lap.engine for laps in results.values() for lap in laps))
    lines = [
        "| model | " + " | ".join(engines) + " | best peer ÷ graphopt |",
        "|---|" + "---|" * (len(engines) + 1),
    ]
    for model, laps in results.items():
        by = {lap.engine: lap for lap in laps}
        cells = [_cell(by.get(e)) for e in engines]
        lines.append(f"| {model} | " + " | ".join(cells) + f" | {lead(laps):.2f} |")
    # a model that met fewer engines has met fewer rivals: its lead is not of the same kind
    mean = geometric_mean([lead(x) for x in results.values() if len(x) == len(engines)])
    lines.append("| geometric mean, where all took part |" + " |" * len(engines) + f" {mean:.2f} |")
    return "\n".join(lines)


def _cell(lap: Lap | None) -> str:
    if lap is None:
        return ""
    return "fails" if not lap.rounds else f"{lap.median_s * 1e3:.2f}"


def as_json(results: Results) -> dict[str, Any]:
    """Everything measured: seconds and bytes."""
    return {
        "models": {
            model: {
                "lead": lead(laps),
                "engines": {lap.engine: _lap(lap) for lap in laps},
            }
            for model, laps in results.items()
        },
        "geometric_mean": geometric_mean([lead(laps) for laps in results.values()]),
    }


def from_json(data: Mapping[str, Any]) -> dict[str, list[Lap]]:
    """What `as_json` was given, each round as its median."""
    return {model: [_lap_of(name, e) for name, e in entry["engines"].items()]
            for model, entry in data["models"].items()}  # fmt: skip


def _lap_of(engine: str, data: Mapping[str, Any]) -> Lap:
    fields = {k: v for k, v in data.items() if k not in ("median_s", "round_medians_s")}
    return Lap(engine, rounds=[[m] for m in data["round_medians_s"]], **fields)


def _lap(lap: Lap) -> dict[str, Any]:
    return {
        "median_s": lap.median_s,
        "prepare_s": lap.prepare_s,
        "open_s": lap.open_s,
        "first_s": lap.first_s,
        "peak_bytes": lap.peak_bytes,
        "artifact_bytes": lap.artifact_bytes,
        "error": lap.error,
        "failure": lap.failure,
        "round_medians_s": [sorted(r)[len(r) // 2] for r in lap.rounds],
    }
