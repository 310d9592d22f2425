"""What runs in processes of their own: the reference, preparing, an engine that is open."""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.check.peers.engines import ENGINES, in_torch, write_inputs
from graphopt.errors import GraphoptError

_REASON = 200
"""Characters of an engine's own message that are kept."""


@dataclass(frozen=True)
class Opened:
    """Loading and the first run, in seconds; memory in bytes; the outputs, to be compared."""

    open_s: float
    first_s: float
    peak_bytes: int
    outputs: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Failed:
    """`hint`: what the user can do about it, where that is known."""

    reason: str
    hint: str | None = None


def reference(pipe: Connection, source: str, folder: Path) -> None:
    """Process: write the inputs; answer with the model's outputs in float64, or with None where it
    runs in no float64."""
    _be_quiet()
    try:
        write_inputs(source, folder)
    except Exception as error:  # the source is the user's code and may raise anything
        pipe.send(_failed(error))
        return
    try:
        pipe.send(_exact(source))
    except Exception:  # code that names a dtype may not run in float64
        pipe.send(None)


def prepare(pipe: Connection, name: str, source: str, folder: Path) -> None:
    """Process: make an engine's files and report the seconds it took."""
    _be_quiet()
    start = time.perf_counter()
    try:
        ENGINES[name].prepare(source, folder)
    except Exception as error:  # an engine that cannot run a model loses, it does not end the race
        pipe.send(_failed(error))
        return
    pipe.send(time.perf_counter() - start)


def serve(pipe: Connection, name: str, source: str, folder: Path, cores: Sequence[int]) -> None:
    """Process: open the model on these cores; then, for every number received, that many seconds
    of runs, answered by their times, until None is received."""
    _be_quiet()
    os.sched_setaffinity(0, cores)
    try:
        run, opened = _open(name, source, folder, len(cores))
    except Exception as error:  # see `prepare`
        pipe.send(_failed(error))
        return
    pipe.send(opened)
    while (seconds := pipe.recv()) is not None:
        pipe.send(_laps(run, seconds))


def _open(name: str, source: str, folder: Path, threads: int) -> tuple[Any, Opened]:
    start = time.perf_counter()
    run = ENGINES[name].open(source, folder, threads)
    middle = time.perf_counter()
    outputs = run()
    end = time.perf_counter()
    arrays = tuple(np.array(o) for o in outputs)
    for _ in range(2):  # warm: caches, lazily made plans
        run()
    return run, Opened(middle - start, end - middle, _peak_bytes(), arrays)


def _peak_bytes() -> int:
    """The most memory this process ever had. Not getrusage's: what the parent had is in that."""
    status = Path("/proc/self/status").read_text()
    (kib,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024


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


def _exact(source: str) -> tuple[np.ndarray, ...]:
    from torch.utils import _pytree as pytree

    from graphopt.frontend.widen import exact_outputs

    leaves = pytree.tree_leaves(exact_outputs(*in_torch(source, os.cpu_count() or 1), {}))
    return tuple(t.detach().numpy() for t in leaves if t is not None)


def _be_quiet() -> None:
    """Exporters warn by the page; what matters is answered."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _failed(error: Exception) -> Failed:
    if isinstance(error, GraphoptError):
        return Failed(" ".join(error.message.split())[:_REASON], error.hint)
    lines = str(error).strip().splitlines() or ["no message"]
    return Failed(f"{type(error).__name__}: {lines[0][:_REASON]}")
