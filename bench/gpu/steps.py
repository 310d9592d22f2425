"""In which order things are measured: what matters most first, for the time may not reach all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.gpu.cases import CUTLASS, TUNED, Case

OWN = "graphopt"
AUTOTUNE = "max-autotune"

_LAPS = ((0, ("eager", TUNED)), (4, ("compile",)), (8, (CUTLASS,)), (8, (AUTOTUNE,)))
"""How many cases come before an engine's lap of the first one: what takes minutes to compile waits
until more cases have been beside eager."""

NEEDS_S = {OWN: 5.0, "eager": 5.0, TUNED: 5.0, "compile": 60.0, CUTLASS: 5.0, AUTOTUNE: 150.0}
"""What is kept in reserve for an engine: guesses, for a bench that ends in time."""


@dataclass(frozen=True)
class Step:
    """graphopt beside `engines`, in one race."""

    case: Case
    engines: tuple[str, ...]

    @property
    def all_engines(self) -> tuple[str, ...]:
        return (OWN, *self.engines)

    @property
    def needs_s(self) -> float:
        return sum(NEEDS_S[engine] for engine in self.all_engines)


def steps(cases: Sequence[Case]) -> list[Step]:
    """All of them in order. Tuned artifacts take part where they are there."""
    ranked = [
        (rank + later, Step(case, taking))
        for later, engines in _LAPS
        for rank, case in enumerate(cases)
        if (taking := tuple(e for e in engines if _takes_part(e, case)))
    ]
    return [step for _, step in sorted(ranked, key=lambda entry: entry[0])]


def _takes_part(engine: str, case: Case) -> bool:
    return {AUTOTUNE: case.autotune, CUTLASS: case.cutlass, TUNED: case.tuned}.get(engine, True)
