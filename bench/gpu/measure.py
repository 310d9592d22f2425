"""All steps, within the minutes given: what is known is kept after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.gpu.cases import TUNED, Case
from bench.gpu.engines import measure_step
from bench.gpu.limits import Limits
from bench.gpu.process import LostError, Process
from bench.gpu.steps import OWN, Step, steps

_PATIENCE_S, _PATIENCE = 120.0, 4.0
"""A step that takes so much longer than it should hangs."""

Say = Callable[[str], None]
Entry = dict[str, Any]
Prepare = Callable[[Case, str], str]
"""Make the artifact of an engine where there is none; "" or why not."""


@dataclass
class Bench:
    """`entries` are the results so far, plain values by case in order; `keep` writes them down.

    Compiling artifacts counts for nothing; `end` is when measuring does.
    """

    folder: Path
    limits: Limits
    process: Process
    prepare: Prepare
    keep: Callable[[list[Entry]], None]
    say: Say
    end: float
    entries: dict[str, Entry] = field(default_factory=dict)

    def run(self, cases: Sequence[Case]) -> list[Entry]:
        """Everything; engines that were not reached say so."""
        for case in cases:
            self.entries[case.folder] = _empty(case)
        for step in steps(cases):
            self.step(step)
        return list(self.entries.values())

    def step(self, step: Step) -> None:
        """One race. What goes wrong in it is told, and the next one begins."""
        entry = self.entries[step.case.folder]
        engines = tuple(e for e in step.all_engines if self._is_there(e, step.case))
        if engines == (OWN,):
            return
        if time.monotonic() + step.needs_s > self.end:
            self._fail(entry, engines, "not reached in the time given")
        else:
            self._race(entry, Step(step.case, engines[1:]))
        self.keep(list(self.entries.values()))

    def _race(self, entry: Entry, step: Step) -> None:
        start = time.monotonic()
        failures = {e: why for e in step.all_engines if (why := self.prepare(step.case, e))}
        self.end += time.monotonic() - start
        engines = tuple(e for e in step.all_engines if e not in failures)
        for engine, why in failures.items():
            self._fail(entry, (engine,), why)
        self.say(f"{step.case.folder}: {', '.join(engines)}")
        seconds = _PATIENCE_S + _PATIENCE * step.needs_s
        try:
            made = self.process.call(
                seconds, measure_step, step.case, engines, self.folder, self.limits
            )
        except LostError as error:
            self._fail(entry, engines, str(error))
        else:
            _merge(entry, made)

    def _is_there(self, engine: str, case: Case) -> bool:
        """Tuned artifacts are made by tuning alone."""
        return engine != TUNED or (self.folder / case.folders[TUNED]).is_dir()

    def _fail(self, entry: Entry, engines: Sequence[str], why: str) -> None:
        """What was measured before counts."""
        for engine in engines:
            if engine not in entry["engines"]:
                entry["failures"][engine] = why
                self.say(f"{entry['case']}: {engine}: {why}")


def _empty(case: Case) -> Entry:
    return {
        "case": case.folder,
        "model": case.model,
        "batch": case.batch,
        "tokens": case.tokens,
        "precision": case.precision,
        "engines": {},
        "failures": {},
        "kernels": [],
        "launches": {},
    }


def _merge(entry: Entry, made: Entry) -> None:
    """graphopt's own times are those of its first race; each engine knows those of its own."""
    entry["engines"] = {**made["engines"], **entry["engines"]}
    entry["failures"] = {
        e: why
        for e, why in {**entry["failures"], **made["failures"]}.items()
        if e not in entry["engines"]
    }
    entry["kernels"] = entry["kernels"] or made["kernels"]
    entry["launches"] = entry["launches"] or made["launches"]
