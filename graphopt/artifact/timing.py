"""How long a loaded artifact takes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.artifact.loader import Model

_WARM_UP = 3
_NANOSECONDS = 1_000_000_000
_FEWEST, _MOST = 5, 10_000


def time_runs(model: Model, inputs: Mapping[str, Any], runs: int | None = None) -> list[int]:
    """Nanoseconds of each run; without `runs`, as many as fit into a second, and at least 5."""
    inputs = model.placed(inputs)
    warm = model.time(_WARM_UP, **inputs)
    if runs is None:
        runs = min(max(_NANOSECONDS // max(warm[-1], 1), _FEWEST), _MOST)
    return model.time(runs, **inputs)


def time_calls(model: Model, inputs: Mapping[str, Any], runs: int) -> list[int]:
    """Nanoseconds of each kernel call: its median over `runs` runs."""
    inputs = model.placed(inputs)
    model.profile(**inputs)
    profiles = [[c.nanoseconds for c in model.profile(**inputs)] for _ in range(runs)]
    return [int(statistics.median(times)) for times in zip(*profiles, strict=True)]
