"""The process that builds and runs candidates. It may crash or hang; `measure` kills it and starts
another."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.artifact.machine import cache_bytes
from graphopt.errors import BuildError
from graphopt.target import resolve
from graphopt.tune.bench import Bench
from graphopt.tune.candidate import SYMBOL, Candidate
from graphopt.tune.case import Case, Expected
from graphopt.tune.database import Outcome
from graphopt.tune.memory import Surroundings
from graphopt.tune.messages import Failed, Forget, Prebuild, Prepare, Ready, Start, Time

_REALTIME_S = 30  # of the processor without a pause: only a kernel that hangs needs as much
_WARM_UP = 2


@dataclass(frozen=True)
class _Loaded:
    """A kernel and what it wants: operands rearranged, workspace, a range to run."""

    function: Any
    packed: Mapping[int, np.ndarray]
    scratch_bytes: int
    extent: int


def main(fd: int) -> None:
    """Answer messages until None comes."""
    pipe = Connection(fd)
    with tempfile.TemporaryDirectory(prefix="graphopt-tune-") as folder:
        worker = _Worker(pipe.recv(), Path(folder))
        while (message := pipe.recv()) is not None:
            pipe.send(worker.answer(message))


class _Worker:
    def __init__(self, start: Start, folder: Path) -> None:
        self.target, self.cc, self.core, self.folder = start.target, start.cc, start.core, folder
        self.backend, _ = resolve(f"{start.target.backend}:{start.target.name}")
        self.loaded: dict[str, _Loaded] = {}

    def answer(self, message: object) -> Any:
        if isinstance(message, Case):
            return self._open(message)
        if isinstance(message, Prebuild):
            return self._prebuild(message)
        if isinstance(message, Prepare):
            return self._prepare(message.candidate)
        if isinstance(message, Time):
            return self._time(message)
        assert isinstance(message, Forget)
        return self.loaded.pop(message.kernel, None) and None

    def _open(self, case: Case) -> None:
        self.case = case
        self.loaded.clear()
        self.bench = Bench(case)
        self.surroundings = Surroundings(case.model_bytes, cache_bytes(3) or cache_bytes(2))

    # Building ----------------------------------------------------------------------------------

    def _prebuild(self, message: Prebuild) -> None:
        sources = {name: text for c in message.candidates for name, text in c.sources.items()}
        with contextlib.suppress(BuildError):  # whose fault it is shows when each is built alone
            self.backend.build(sources, self.target, self.folder / "all.a", cc=self.cc)

    def _prepare(self, candidate: Candidate) -> Ready | Failed:
        if candidate.kernel not in self.loaded:
            out = self.folder / f"{candidate.kernel}.so"
            try:
                self.backend.build(candidate.sources, self.target, out, cc=self.cc)
            except BuildError as error:
                return Failed(Outcome.BUILD_FAILED, error.message)
            self.loaded[candidate.kernel] = self._load(candidate, out)
        return self._check(candidate)

    def _load(self, candidate: Candidate, library: Path) -> _Loaded:
        function = getattr(ctypes.CDLL(str(library)), SYMBOL)
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        function.restype = ctypes.c_int64
        extent = max(1, candidate.extent)
        return _Loaded(function, candidate.packed, candidate.scratch_bytes, extent)

    # Checking ----------------------------------------------------------------------------------

    def _check(self, candidate: Candidate) -> Ready | Failed:
        """Run the kernel whole, then in two parts in either order, as threads might."""
        loaded = self.loaded[candidate.kernel]
        whole, middle = (0, loaded.extent), loaded.extent // 2
        parts = [(0, middle), (middle, loaded.extent)]
        took: list[int] = []
        for ranges in ([whole], parts, parts[::-1])[: 3 if middle else 1]:
            self.bench.poison()
            arguments = self._lay_out(loaded)
            start = time.perf_counter_ns()
            for begin, end in ranges:
                loaded.function(*arguments, begin, end)
            took.append(time.perf_counter_ns() - start)
            problem = self._problem(loaded)
            if problem:
                return Failed(Outcome.WRONG, problem)
        return Ready(min(took))

    def _lay_out(self, loaded: _Loaded) -> tuple[Any, int]:
        """A kernel's operands where it will find them: (pointers, workspace)."""
        return self.bench.lay_out(loaded.packed, loaded.scratch_bytes)

    def _problem(self, loaded: _Loaded) -> str:
        """What a run did that it should not have."""
        problem = self.bench.trespass(loaded.packed, loaded.scratch_bytes)
        for i, (got, expected) in enumerate(
            zip(self.bench.results, self.case.results, strict=True)
        ):
            found = problem or _difference(got.bytes, expected)
            problem = f"result {i} {found}" if found and not problem else problem
        return problem

    # Timing ------------------------------------------------------------------------------------

    def _time(self, message: Time) -> tuple[list[int], list[int]]:
        pair = [self.loaded[k] for k in message.kernels]
        times: tuple[list[int], list[int]] = ([], [])
        with undisturbed(self.core):
            for r in range(-_WARM_UP, message.rounds):
                for i in (0, 1) if r % 2 else (1, 0):
                    arguments = self._lay_out(pair[i])
                    self.surroundings.pass_by(self.bench.near)
                    taken = pair[i].function(*arguments, 0, pair[i].extent)
                    if r >= 0:
                        times[i].append(int(taken))
        return times


def _difference(memory: np.ndarray, expected: Expected) -> str:
    from graphopt.artifact.verify import difference

    found = difference("result", expected.read(memory), expected.values)
    if not found.agrees:
        return "is NaN or infinite where it should not be"
    if found.relative > expected.tolerance:
        return f"is off by {found.relative:.2g} of its largest magnitude"
    return ""


@contextlib.contextmanager
def undisturbed(core: int) -> Iterator[None]:
    """On one core alone and, where the system permits, ahead of every ordinary process there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    realtime = _realtime()
    try:
        yield
    finally:
        if realtime:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, before)


def _realtime() -> bool:
    import resource

    try:  # the limit first: without it a kernel that hangs would hold the core for good
        resource.setrlimit(resource.RLIMIT_RTTIME, (_REALTIME_S * 1_000_000,) * 2)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        time.sleep(1e-4)  # the limit counts from here, not from the sections before
    except (OSError, ValueError, AttributeError):
        return False
    return True
