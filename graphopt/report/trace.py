"""Runs as a trace in Chrome's JSON format, which Perfetto reads, too.

Source: "Trace Event Format", complete events (`ph` X), times in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphopt.report.calls import TimedCall


def trace(name: str, where: str, runs: Sequence[Sequence[TimedCall]]) -> dict[str, Any]:
    """One run after the other: a track of runs over one of kernel calls, each named by the modules
    it computes. `name` is the artifact's, `where` the target's."""
    events: list[dict[str, Any]] = [
        _named("process_name", 0, f"{name} ({where})"),
        _named("thread_name", _RUNS, "runs"),
        _named("thread_name", _CALLS, "kernel calls"),
    ]
    start = 0.0
    for number, calls in enumerate(runs):
        begin = start
        for call in calls:
            events.append(_event(call.label or call.kernel, _CALLS, start, call.time_us,
                                 _facts(call)))  # fmt: skip
            start += call.time_us
        events.append(_event(f"run {number}", _RUNS, begin, start - begin, {"calls": len(calls)}))
    return {"displayTimeUnit": "ns", "traceEvents": events}


_RUNS, _CALLS = 1, 2


def _named(what: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": 1, "tid": track, "args": {"name": name}}


def _event(
    name: str, track: int, start: float, duration: float, facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": "kernel" if track == _CALLS else "run", "pid": 1,
        "tid": track, "ts": round(start, 3), "dur": round(duration, 3), "args": facts,
    }  # fmt: skip


def _facts(call: TimedCall) -> dict[str, Any]:
    floor = (
        {} if not call.floor_us else {"floor": f"{call.floor_us / call.time_us:.0%} of the time"}
    )
    return {
        "kernel": call.kernel,
        "source": [source for _, source in call.computes],
        "GFLOP/s": round(call.gflops, 1),
        "GB/s": round(call.gbytes_per_s, 1),
        **floor,
    }
