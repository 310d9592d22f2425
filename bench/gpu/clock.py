"""Times of what runs on a device, between two events on its stream; on a CPU, of the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch

Run = Callable[[], object]


def on_gpu() -> bool:
    return torch.cuda.is_available()


def wait() -> None:
    if on_gpu():
        torch.cuda.synchronize()


def is_well() -> bool:
    """Whether the device still answers: after a fault of a kernel, it does not to this process."""
    try:
        wait()
    except RuntimeError:
        return False
    return True


def once(run: Run) -> float:
    """Seconds from a standing start to the end of one run."""
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def lap(run: Run, seconds: float) -> list[float]:
    """Seconds of each run, for at least `seconds`; runs follow each other without waiting."""
    count = max(3, int(seconds / max(once(run), 1e-6)))
    if not on_gpu():
        return [once(run) for _ in range(count)]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    wait()
    return [a.elapsed_time(b) / 1e3 for a, b in pairwise(events)]


def median(run: Run, seconds: float = 0.05) -> float:
    return statistics.median(lap(run, seconds))
