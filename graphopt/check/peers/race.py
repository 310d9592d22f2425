"""The race: engines in processes of their own take turns on the same cores."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.check.peers import worker
from graphopt.check.peers.engines import ENGINES
from graphopt.errors import GraphoptError

Progress = Callable[[str], None]
_PREPARE_S, _OPEN_S, _LAP_S = 900.0, 900.0, 120.0


@dataclass
class Lap:
    """One engine on one model. `times` holds a list of seconds per round; `failure` says why there
    is none. `error` is the largest difference from eager over the output's largest magnitude."""

    engine: str
    prepare_s: float = 0.0
    open_s: float = 0.0
    first_s: float = 0.0
    peak_bytes: int = 0
    artifact_bytes: int = 0
    error: float = 0.0
    failure: str = ""
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def median_s(self) -> float:
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
    threads: int = 1,
    rounds: int = 7,
    seconds: float = 0.4,
    progress: Progress = lambda text: None,
) -> list[Lap]:
    """Time engines on one model: `rounds` rounds, in each every engine runs for `seconds`.

    source: a SOURCE string. The order turns by one place each round. Outputs are compared with the
    engine "eager" if it takes part. Raises: GraphoptError for an unknown engine.
    """
    unknown = [e for e in engines if e not in ENGINES]
    if unknown:
        raise GraphoptError(
            f"there is no engine {unknown[0]!r}", hint=f"choose among {', '.join(ENGINES)}"
        )
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    with tempfile.TemporaryDirectory(prefix="graphopt-race-") as folder:
        laps = [_prepared(e, source, Path(folder), progress, e == engines[0]) for e in engines]
        contenders: list[Contender] = []
        outputs: dict[str, tuple[np.ndarray, ...]] = {}
        try:
            for lap in laps:
                if not lap.failure:
                    progress(f"{lap.engine}: opening")
                    _opened(lap, source, Path(folder), cores, contenders, outputs)
            _compare(laps, outputs)
            _turns(contenders, rounds, seconds, progress)
        finally:
            _end(contenders)
    return laps


def _prepared(engine: str, source: str, folder: Path, progress: Progress, first: bool) -> Lap:
    progress(f"{engine}: preparing")
    lap = Lap(engine)
    before = _bytes_in(folder)
    process, pipe = _start(worker.prepare, engine, source, folder, first)
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
    outputs: dict[str, tuple[np.ndarray, ...]],
) -> None:
    process, pipe = _start(worker.serve, lap.engine, source, folder, cores)
    answer = _receive(pipe, _OPEN_S)
    if isinstance(answer, worker.Failed):
        lap.failure = answer.reason
        process.kill()
        return
    lap.open_s, lap.first_s, lap.peak_bytes = answer.open_s, answer.first_s, answer.peak_bytes
    outputs[lap.engine] = answer.outputs
    contenders.append(Contender(lap, process, pipe))


def _turns(
    contenders: Sequence[Contender], rounds: int, seconds: float, progress: Progress
) -> None:
    """Engines in turn, another one first each round. One that fails leaves the race."""
    running = list(contenders)
    for r in range(rounds):
        progress(f"round {r + 1} of {rounds}")
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
        c.process.kill()
        c.process.join(10)


def _compare(laps: Sequence[Lap], outputs: dict[str, tuple[np.ndarray, ...]]) -> None:
    expected = outputs.get("eager")
    for lap in laps:
        if expected is None or lap.engine not in outputs:
            continue
        pairs = zip(outputs[lap.engine], expected, strict=False)
        lap.error = max(_relative(a, b) for a, b in pairs)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    scale = float(np.abs(b).max(initial=0.0)) or 1.0
    return float(np.abs(a.astype(np.float64) - b).max(initial=0.0)) / scale


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
