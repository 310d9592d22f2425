"""One engine in a process of its own: opens a model, then runs it when asked."""

from __future__ import annotations

import os
import resource
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.check.peers.engines import ENGINES, write_inputs


@dataclass(frozen=True)
class Opened:
    """Loading and the first run, in seconds; memory in bytes; the outputs, to be compared."""

    open_s: float
    first_s: float
    peak_bytes: int
    outputs: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Failed:
    reason: str


def prepare(pipe: Connection, name: str, source: str, folder: Path, first: bool) -> None:
    """Process: make an engine's files and report the seconds it took."""
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    try:
        if first:
            write_inputs(source, folder)
        start = time.perf_counter()
        ENGINES[name].prepare(source, folder)
    except Exception as error:  # an engine that cannot run a model loses, it does not end the race
        pipe.send(Failed(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"))
        return
    pipe.send(time.perf_counter() - start)


def serve(pipe: Connection, name: str, source: str, folder: Path, cores: Sequence[int]) -> None:
    """Process: open the model on these cores; then, for every number received, that many seconds
    of runs, answered by their times, until it is killed."""
    warnings.simplefilter("ignore")
    os.sched_setaffinity(0, cores)
    try:
        run, opened = _open(name, source, folder, len(cores))
    except Exception as error:  # see `prepare`
        pipe.send(Failed(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"))
        return
    pipe.send(opened)
    while True:
        pipe.send(_laps(run, pipe.recv()))


def _open(name: str, source: str, folder: Path, threads: int) -> tuple[Any, Opened]:
    start = time.perf_counter()
    run = ENGINES[name].open(source, folder, threads)
    middle = time.perf_counter()
    outputs = run()
    end = time.perf_counter()
    arrays = tuple(np.array(o) for o in outputs)
    for _ in range(2):  # warm: caches, lazily made plans
        run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return run, Opened(middle - start, end - middle, peak, arrays)


def _laps(run: Any, seconds: float) -> list[float]:
    """Times of at least one run, until `seconds` have passed."""
    times: list[float] = []
    left = seconds
    while not times or left > 0:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        left -= times[-1]
    return times
