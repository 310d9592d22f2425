"""The race: engines in processes of their own take turns on the same cores."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.artifact.verify import difference
from graphopt.check.peers import worker
from graphopt.check.peers.engines import ARTIFACT, ENGINES, OURS
from graphopt.errors import GraphoptError

Progress = Callable[[str], None]
_PREPARE_S, _OPEN_S, _LAP_S = 900.0, 900.0, 120.0


@dataclass
class Lap:
    """One engine on one model. `times` holds a list of seconds per round; `failure` says why there
    is none. `error` is the largest difference from eager in float64 over the output's largest
    magnitude, NaN where the model runs in no float64. `known_median_s` is that of all runs where
    `rounds` holds only the median of each."""

    engine: str
    prepare_s: float = 0.0
    open_s: float = 0.0
    first_s: float = 0.0
    peak_bytes: int = 0
    artifact_bytes: int = 0
    error: float = 0.0
    failure: str = ""
    rounds: list[list[float]] = field(default_factory=list)
    known_median_s: float | None = None

    @property
    def median_s(self) -> float:
        if self.known_median_s is not None:
            return self.known_median_s
        times = [t for r in self.rounds for t in r]
        return statistics.median(times) if times else float("nan")

    def ratio_to(self, other: Lap) -> float:
        """Median over rounds of this engine's time over the other's, round by round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)


@dataclass(frozen=True)
class Contender:
    """An engine that opened the model and waits to be asked."""

    lap: Lap
    process: BaseProcess
    pipe: Connection


def race(
    source: str,
    engines: Sequence[str],
    *,
    artifact: Path | None = None,
    threads: int = 1,
    rounds: int = 7,
    seconds: float = 0.4,
    progress: Progress = lambda text: None,
) -> list[Lap]:
    """Time engines on one model: `rounds` rounds, in each every engine runs for `seconds`.

    source: a SOURCE string. artifact: what graphopt runs; without one it compiles. The order turns
    by one place each round. Outputs are compared with eager in float64.
    Raises: GraphoptError for an unknown engine, and for a model that cannot be loaded.
    """
    cores = _checked(engines, threads)
    with tempfile.TemporaryDirectory(prefix="graphopt-race-") as name:
        folder = Path(name)
        progress("reference")
        expected = _reference(source, folder)
        laps = [_prepared(e, source, folder, artifact, progress) for e in engines]
        contenders: list[Contender] = []
        try:
            for lap in laps:
                if not lap.failure:
                    progress(f"open {lap.engine}")
                    _opened(lap, source, folder, cores, contenders, expected)
            _turns(contenders, rounds, seconds, progress)
        finally:
            _end(contenders)
    return laps


def _checked(engines: Sequence[str], threads: int) -> list[int]:
    """The cores to run on. Raises: GraphoptError for what cannot be raced."""
    unknown = [e for e in engines if e not in ENGINES]
    if unknown:
        raise GraphoptError(
            f"there is no engine {unknown[0]!r}", hint=f"choose among {', '.join(ENGINES)}"
        )
    if sys.platform != "linux":
        raise GraphoptError(
            "engines are raced on Linux alone: they are bound to cores",
            hint="`graphopt bench DIR` times an artifact by itself",
        )
    if ENGINES["eager"].missing():
        raise GraphoptError(
            "torch is not installed, and every engine's model comes from it",
            hint="run `pip install 'graphopt[torch]'`",
        )
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise GraphoptError(
            f"a race of {threads} threads needs as many cores; there are {len(cores)}",
            hint=f"give --threads {len(cores)} or less",
        )
    return cores[-threads:]


def _reference(source: str, folder: Path) -> tuple[np.ndarray, ...] | None:
    """Inputs into the folder; the outputs in float64, if the model runs in it."""
    process, pipe = _start(worker.reference, source, folder)
    answer = _receive(pipe, _PREPARE_S)
    process.kill()
    if isinstance(answer, worker.Failed):
        raise GraphoptError(answer.reason, hint=answer.hint or "run the model by itself")
    return None if answer is None else tuple(answer)


def _prepared(
    engine: str, source: str, folder: Path, artifact: Path | None, progress: Progress
) -> Lap:
    progress(f"prepare {engine}")
    lap = Lap(engine)
    missing = ENGINES[engine].missing()
    if missing:
        lap.failure = f"not installed: pip install {' '.join(missing)}"
        return lap
    before = _bytes_in(folder)
    if engine == OURS and artifact is not None:
        shutil.copytree(artifact, folder / ARTIFACT)
    process, pipe = _start(worker.prepare, engine, source, folder)
    answer = _receive(pipe, _PREPARE_S)
    process.join(10)
    process.kill()
    if isinstance(answer, worker.Failed):
        lap.failure = answer.reason
    else:
        lap.prepare_s = answer
        lap.artifact_bytes = _bytes_in(folder) - before
    return lap


def _opened(
    lap: Lap,
    source: str,
    folder: Path,
    cores: Sequence[int],
    contenders: list[Contender],
    expected: Sequence[np.ndarray] | None,
) -> None:
    process, pipe = _start(worker.serve, lap.engine, source, folder, cores)
    answer = _receive(pipe, _OPEN_S)
    if isinstance(answer, worker.Failed):
        lap.failure = answer.reason
        process.kill()
        return
    lap.open_s, lap.first_s, lap.peak_bytes = answer.open_s, answer.first_s, answer.peak_bytes
    lap.error = _error(answer.outputs, expected)
    contenders.append(Contender(lap, process, pipe))


def _turns(
    contenders: Sequence[Contender], rounds: int, seconds: float, progress: Progress
) -> None:
    """Engines in turn, another one first each round. One that fails leaves the race."""
    running = list(contenders)
    for r in range(rounds):
        progress(f"race {r + 1}/{rounds}")
        turn = r % max(1, len(running))
        for c in (*running[turn:], *running[:turn]):
            c.pipe.send(seconds)
            answer = _receive(c.pipe, _LAP_S)
            if isinstance(answer, worker.Failed):
                c.lap.failure, c.lap.rounds = answer.reason, []
                running.remove(c)
            else:
                c.lap.rounds.append(answer)


def _end(contenders: Sequence[Contender]) -> None:
    for c in contenders:
        with contextlib.suppress(OSError):  # one that has died
            c.pipe.send(None)
    for c in contenders:
        c.process.join(10)
        c.process.kill()


def _error(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray] | None) -> float:
    if expected is None:
        return float("nan")
    if [a.shape for a in outputs] != [b.shape for b in expected]:
        return float("inf")
    found = [difference("", a, b) for a, b in zip(outputs, expected, strict=True)]
    return max((d.relative if d.agrees else float("inf") for d in found), default=0.0)


# Processes ---------------------------------------------------------------------------------------


def _start(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    return process, here


def _receive(pipe: Connection, timeout_s: float) -> Any:
    """What a worker answers; Failed when it is too slow or dies."""
    try:
        if pipe.poll(timeout_s):
            return pipe.recv()
    except EOFError:
        return worker.Failed("its process died")
    return worker.Failed(f"no answer within {timeout_s:g} s")


def _bytes_in(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
