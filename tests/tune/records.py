"""Records for tests: what matters is named, the rest is filled in."""

from __future__ import annotations

from graphopt.tune.database import Outcome, Record


def record(
    point: str,
    times: tuple[int, ...] = (),
    rival: str = "",
    rival_times: tuple[int, ...] = (),
    *,
    outcome: Outcome = Outcome.OK,
    region: str = "region",
    place: str = "here",
    kernel: str = "",
    final: bool = False,
) -> Record:
    return Record(
        region, place, point, kernel or f"go_{point.replace('=', '').replace(' ', '_')}", outcome,
        times, rival, rival_times, final, computes="layer1.conv", date="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
