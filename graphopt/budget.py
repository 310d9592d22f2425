"""Budgets: what a build may cost at most. A build that costs more fails, and replaces nothing."""

from __future__ import annotations

import dataclasses
import difflib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.errors import ArtifactError, BudgetError, GraphoptError
from graphopt.units import format_bytes, format_seconds, parse_bytes, parse_seconds

if TYPE_CHECKING:
    from graphopt.artifact.format import Manifest

_FORM = "write size=2MB,memory=8MB,latency=10ms, any of them"


@dataclass(frozen=True)
class Budget:
    """Upper limits. `size`: bytes of all files of the artifact. `memory`: bytes of weights, arena
    and one thread's scratch. `latency`: seconds, the median of runs on the golden inputs, on one
    thread of this machine."""

    size: int | None = None
    memory: int | None = None
    latency: float | None = None

    @staticmethod
    def parse(text: str) -> Budget:
        """From `size=2MB,memory=8MB,latency=10ms`. Raises: BudgetError."""
        limits: dict[str, float] = {}
        for part in text.split(","):
            name, equals, quantity = (s.strip() for s in part.partition("="))
            if not equals or name not in _PARSERS:
                near = difflib.get_close_matches(name, _PARSERS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else _FORM
                raise BudgetError(f"there is no budget {part.strip()!r}", hint=hint)
            if name in limits:
                raise BudgetError(f"budget {name!r} is given twice", hint=_FORM)
            try:
                limits[name] = _PARSERS[name](quantity)
            except GraphoptError as error:
                raise BudgetError(f"budget {name}: {error.message}", hint=error.hint) from None
        return Budget(**limits)  # type: ignore[arg-type]

    def limits(self) -> dict[str, float]:
        """Those that are set, by name."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {_shown(name, v)}" for name, v in self.limits().items())

    def check(self, folder: Path, manifest: Manifest) -> None:
        """Hold an artifact to all limits. Raises: BudgetError with every number that is over."""
        over = [
            f"{name} is {_shown(name, cost)}{how}, the budget {_shown(name, limit)}"
            for name, cost, how in self._costs(folder, manifest)
            if cost > (limit := self.limits()[name])
        ]
        if over:
            raise BudgetError(
                "over budget: " + "; ".join(over),
                hint="raise --budget, leave out what enlarges weights (--without choose-winograd,"
                "choose-strassen), or compile a smaller model; `graphopt inspect` and "
                "`graphopt bench --per-kernel` show what costs most",
            )

    def _costs(self, folder: Path, manifest: Manifest) -> Iterator[tuple[str, float, str]]:
        """(name, cost, how it is made up) of what is limited, the cheap ones to find out first."""
        if self.size is not None:
            yield "size", sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()), ""
        if self.memory is not None:
            m = manifest.memory
            parts = {"weights": m.weights, "arena": m.arena, "scratch": m.scratch}
            how = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
            yield "memory", sum(parts.values()), f" ({how})"
        if self.latency is not None:
            seconds, runs = _latency(folder, manifest)
            yield "latency", seconds, f" (median of {runs} runs)"


_PARSERS = {"size": parse_bytes, "memory": parse_bytes, "latency": parse_seconds}


def _shown(name: str, number: float) -> str:
    return format_seconds(number) if name == "latency" else format_bytes(number)


def _latency(folder: Path, manifest: Manifest) -> tuple[float, int]:
    """(median in seconds, runs). Raises: BudgetError when this machine cannot run the code."""
    from graphopt.artifact.golden import sample_inputs
    from graphopt.artifact.loader import check_machine, load
    from graphopt.artifact.timing import time_runs

    try:
        check_machine(manifest.target, folder)
        model = load(folder)
    except ArtifactError as error:
        raise BudgetError(
            "the latency budget cannot be checked: the code is for "
            f"{manifest.target.name}, which this machine cannot run",
            hint="leave latency out of --budget, and measure with `graphopt bench` over there",
        ) from error
    with model:
        times = time_runs(model, sample_inputs(folder, manifest))
    return statistics.median(times) / 1e9, len(times)
