"""All cases and engines, within the minutes given."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from bench.gpu import clock
from bench.gpu.cases import CUTLASS, TUNED, Case
from bench.gpu.engines import ENGINES, Opened, open_engine
from bench.gpu.limits import Limits
from graphopt.artifact.timing import time_calls

_ROUNDS, _LAP_S = 5, 0.1
_AUTOTUNE = "max-autotune"
_NEEDS_S = {
    "graphopt": 5.0,
    CUTLASS: 5.0,
    TUNED: 5.0,
    "eager": 5.0,
    "compile": 60.0,
    _AUTOTUNE: 150.0,
}
"""What is kept in reserve for an engine: guesses, for a bench that ends in time."""

Say = Callable[[str], None]


def measure(
    cases: Iterable[Case], folder: Path, limits: Limits, minutes: float, say: Say
) -> list[dict[str, Any]]:
    """One entry per case, plain values; engines that were not reached say so."""
    end = time.monotonic() + 60 * minutes
    out = []
    for case in cases:
        entry = _case(case, folder, limits, end, say)
        out.append(entry)
        gc.collect()
        if clock.on_gpu():
            torch.cuda.empty_cache()
    return out


def _case(case: Case, folder: Path, limits: Limits, end: float, say: Say) -> dict[str, Any]:
    opened: dict[str, Opened] = {}
    failures: dict[str, str] = {}
    for engine in ENGINES:
        if not _takes_part(engine, case, folder):
            continue
        if time.monotonic() + _NEEDS_S[engine] > end:
            failures[engine] = "not reached in the time given"
            continue
        say(f"{case.folder}: {engine}")
        try:
            opened[engine] = open_engine(engine, case, folder)
        except Exception as error:  # an engine may raise anything; the others go on
            failures[engine] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    times = _race(opened)
    mine = opened.get("graphopt")
    entry = {
        "case": case.folder,
        "model": case.model,
        "batch": case.batch,
        "tokens": case.tokens,
        "precision": case.precision,
        "engines": {name: _facts(o, times[name]) for name, o in opened.items()},
        "failures": failures,
        "kernels": _kernels(mine, case, limits) if mine else [],
        "launches": mine.model.manifest.extra["launches"] if mine and mine.model else {},
    }
    for engine in opened.values():
        if engine.model:
            engine.model.close()
    return entry


def _takes_part(engine: str, case: Case, folder: Path) -> bool:
    """Tuned artifacts are there where time was given for them."""
    if engine == TUNED:
        return case.tuned and (folder / case.folders[TUNED]).is_dir()
    return {_AUTOTUNE: case.autotune, CUTLASS: case.cutlass}.get(engine, True)


def _race(opened: dict[str, Opened]) -> dict[str, list[float]]:
    """Medians by engine, one for each round, in which the engines take turns."""
    times: dict[str, list[float]] = {name: [] for name in opened}
    names = list(opened)
    for i in range(_ROUNDS):
        for name in names[i % max(1, len(names)) :] + names[: i % max(1, len(names))]:
            times[name].append(statistics.median(clock.lap(opened[name].run, _LAP_S)))
    return times


def _facts(opened: Opened, times: list[float]) -> dict[str, Any]:
    return {
        "median_s": statistics.median(times),
        "rounds_s": times,
        "cold_start_s": opened.ready_s,
        "device_bytes": opened.bytes,
        "relative_error": opened.error,
    }


def _kernels(opened: Opened, case: Case, limits: Limits) -> list[dict[str, Any]]:
    """Each call beside its floor under the measured limits."""
    assert opened.model is not None
    calls = opened.model.manifest.calls
    took = time_calls(opened.model, _arrays(opened.inputs), runs=11)
    return [
        {
            "call": i,
            "computes": call.name,
            "kernel": call.kernel,
            "seconds": ns / 1e9,
            "floor_s": limits.floor_s(call.flops, call.bytes_moved, case.precision),
            "flops": call.flops,
            "bytes": call.bytes_moved,
        }
        for i, (call, ns) in enumerate(zip(calls, took, strict=True))
    ]


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: t.cpu().numpy() for name, t in tensors.items()}
