"""How threads share a kernel, for estimates: alike whether one, two or four take part."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

_THREADS = (1, 2, 4)
_RUNS = 4
"""Per thread, from which on the runtime hands out whole runs only."""


def mean_time(slowest: Callable[[int], float]) -> float:
    """The mean over numbers of threads of what the `slowest` of so many takes, times their number:
    for work that can be shared evenly, its time on one."""
    return fmean(slowest(threads) * threads for threads in _THREADS)


def stretch(tasks: int) -> float:
    """What equal tasks take beside work that can be shared evenly; at least 1."""
    return mean_time(lambda threads: -(-tasks // threads) / tasks)


def largest_share(runs: int, length: int, threads: int) -> tuple[int, int]:
    """Tasks of the thread that has most, and the runs they are of, of `runs` times `length` tasks:
    as the runtime shares them, whole runs where there are several for each thread, else so that
    everyone is of as few runs as can be."""
    if runs >= _RUNS * threads:
        whole = -(-runs // threads)
        return whole * length, whole
    most = -(-runs * length // threads)
    across = most % length > 0 and length % most > 0
    return most, min(runs, -(-most // length) + across)
