"""Candidates in a worker process: built, checked, then timed in turns with a rival. Whatever one
does to that process, the next finds a fresh one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from graphopt.errors import GraphoptError, InternalError
from graphopt.target import Target
from graphopt.tune.candidate import Candidate
from graphopt.tune.case import Case
from graphopt.tune.database import Outcome
from graphopt.tune.messages import Failed, Forget, Prebuild, Prepare, Ready, Start, Time

_MAIN = "from graphopt.tune.worker import main; main({fd})"
_START_S = 120.0
_KEPT = 4
"""Kernels that stay loaded: each holds a copy of its weights."""
_SLOWEST = 50
"""Times as long as the rival takes: then a candidate counts as hanging."""


@dataclass(frozen=True)
class Patience:
    """Seconds that a build may take, and a run on top of what it is expected to."""

    build_s: float = 180.0
    run_s: float = 20.0


@dataclass(frozen=True)
class Duel:
    """Nanoseconds of single runs, round by round."""

    times: tuple[int, ...]
    rival_times: tuple[int, ...]


class Measurer:
    """A worker process and the region it has open. Candidates are pinned to one core when timed."""

    def __init__(
        self,
        target: Target,
        *,
        cc: str | None = None,
        core: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.target, self.cc = target, cc
        self.core = max(os.sched_getaffinity(0)) if core is None else core
        self._case: Case | None = None
        self._worker: _Worker | None = None
        self._ready: dict[str, int] = {}

    def open(self, case: Case) -> None:
        """Measure this region from now on. Raises: GraphoptError when its operands find no room."""
        self._case = case
        self._ready.clear()
        if self._worker is not None:
            _check_open(self._ask(case, _START_S))

    def prebuild(self, candidates: Sequence[Candidate]) -> None:
        """Compile several at once; what fails here fails again, alone, in `prepare`."""
        if len(candidates) > 1:
            self._ask(Prebuild(tuple(candidates)), self.patience.build_s)

    def prepare(self, candidate: Candidate, rival: Candidate | None = None) -> Failed | None:
        """Build and check. What went wrong, or None. `rival` is one of the same region, ready
        before, that tells how long a run may take."""
        if candidate.kernel in self._ready:  # and the last to be forgotten
            self._ready[candidate.kernel] = self._ready.pop(candidate.kernel)
            return None
        run_s = _SLOWEST * self._ready.get(rival.kernel, 0) / 1e9 if rival else 0.0
        seconds = self.patience.build_s + self.patience.run_s + run_s
        answer = self._ask(Prepare(candidate), seconds)
        if isinstance(answer, Failed):
            self._stop()  # what it wrote where may show later, and in another kernel
            return answer
        assert isinstance(answer, Ready)
        self._ready[candidate.kernel] = answer.run_ns
        if len(self._ready) > _KEPT:
            oldest = next(iter(self._ready))
            del self._ready[oldest]
            self._ask(Forget(oldest), _START_S)
        return None

    def duel(self, candidate: Candidate, rival: Candidate, rounds: int) -> Duel | Failed:
        """Time a candidate in turns with a rival that has run before."""
        for one in (rival, candidate):
            failed = self.prepare(one)
            if failed and one is candidate:
                return failed
            if failed:
                raise InternalError(f"{one.kernel} was well and is not: {failed.message}")
        run_s = _SLOWEST * rounds * self._ready[rival.kernel] / 1e9
        answer = self._ask(
            Time((candidate.kernel, rival.kernel), rounds), self.patience.run_s + run_s
        )
        if isinstance(answer, Failed):
            self._stop()
            return answer
        return Duel(*map(tuple, answer))

    def renew(self) -> None:
        """Go on in another process: other physical memory, which may suit a kernel more or less."""
        self._stop()

    def close(self) -> None:
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # The process -------------------------------------------------------------------------------

    def _ask(self, message: object, seconds: float) -> Any:
        """The worker's answer, or Failed when there is none."""
        if self._worker is None:
            self._worker = _Worker(self.target, self.cc, self.core)
            if self._case is not None and message is not self._case:
                _check_open(self._worker.ask(self._case, _START_S))
        answer = self._worker.ask(message, seconds)
        if isinstance(answer, Failed) and not self._worker.lives:
            self._stop()
        return answer

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
        self._worker = None
        self._ready.clear()


def _check_open(answer: object) -> None:
    """Raises: GraphoptError when a worker could not make ready for a region."""
    if isinstance(answer, Failed):
        raise GraphoptError(
            f"a region cannot be measured: {answer.message}",
            hint="free some memory, or tune a smaller batch",
        )


class _Worker:
    """A running process. It leads a group, so that compilers it started end with it."""

    def __init__(self, target: Target, cc: str | None, core: int) -> None:
        self.lives = True
        self.folder = tempfile.TemporaryDirectory(
            prefix="graphopt-tune-", ignore_cleanup_errors=True
        )
        self.pipe, there = Pipe()
        fd = there.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN.format(fd=fd)],
            pass_fds=[fd],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        there.close()
        with contextlib.suppress(OSError):
            self.pipe.send(Start(target, cc, core, self.folder.name))

    def ask(self, message: object, seconds: float) -> Any:
        try:
            self.pipe.send(message)
            if self.pipe.poll(seconds):
                return self.pipe.recv()
        except (EOFError, OSError):
            self.lives = False
            return Failed(Outcome.CRASHED, _death(self.process))
        self.lives = False
        return Failed(Outcome.TIMED_OUT, f"it took longer than {seconds:.0f} s")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _close(self.pipe)
        self.folder.cleanup()


def _close(pipe: Connection) -> None:
    with contextlib.suppress(OSError):
        pipe.close()


def _death(process: subprocess.Popen[bytes]) -> str:
    """How a process ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(10)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"it exited with {code}"
    return "it closed its pipe"
