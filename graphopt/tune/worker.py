"""The process that builds and runs candidates. It may crash or hang; `measure` kills it and starts
another."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.config import Config
from graphopt.errors import BuildError, GraphoptError
from graphopt.target import resolve
from graphopt.tune.bench import Bench
from graphopt.tune.candidate import MESSAGE, SCRATCH, SYMBOL, Candidate
from graphopt.tune.case import Case, Expected
from graphopt.tune.database import Outcome
from graphopt.tune.messages import Failed, Forget, Prebuild, Prepare, Ready, Start, Time

_REALTIME_S = 30  # of the processor without a pause: only a kernel that hangs needs as much
_WARM_UP = 2


@dataclass(frozen=True)
class _Loaded:
    """A kernel and what it wants: operands rearranged, workspace, a range to run."""

    library: ctypes.CDLL
    function: Any
    packed: Mapping[int, np.ndarray]
    scratch_bytes: int
    extent: int

    def run(self, pointers: Any, scratch: int, begin: int, end: int) -> int:
        """Nanoseconds that iterations [begin, end) took. Raises: GraphoptError when they could not
        be run."""
        return _checked(self.library, self.function(pointers, scratch, begin, end))


def _checked(library: ctypes.CDLL, answer: int) -> int:
    """What a library returned. Raises: GraphoptError for what says that something failed."""
    if answer < 0:
        told = getattr(library, MESSAGE)
        told.restype = ctypes.c_char_p
        raise GraphoptError(told().decode())
    return answer


def _asked_scratch(library: ctypes.CDLL) -> int:
    """The workspace that a library asks for itself; 0 for one that does not."""
    function = getattr(library, SCRATCH, None)
    if function is None:
        return 0
    function.restype = ctypes.c_int64
    return _checked(library, function())


def main(fd: int) -> None:
    """Answer messages until the other side is gone, by a kill perhaps: then nobody else tidies."""
    pipe = Connection(fd)
    start = pipe.recv()
    tempfile.tempdir = start.folder  # compilers' files, too
    worker = _Worker(start)
    try:
        while True:
            pipe.send(worker.answer(pipe.recv()))
    except (EOFError, ConnectionError):
        shutil.rmtree(start.folder, ignore_errors=True)


class _Worker:
    def __init__(self, start: Start) -> None:
        self.target, self.cc, self.core = start.target, start.cc, start.core
        self.folder = Path(start.folder)
        self.backend, _ = resolve(f"{start.target.backend}:{start.target.name}")
        self.memory = self.backend.memory(start.target)
        self.loaded: dict[str, _Loaded] = {}

    def answer(self, message: object) -> Any:
        """Failed where the device refused: its state may be lost, and this process's with it."""
        try:
            return self._answer(message)
        except GraphoptError as error:
            return Failed(Outcome.CRASHED, error.message)

    def _answer(self, message: object) -> Any:
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
        self.bench = Bench(case, self.memory)
        self.surroundings = self.memory.surroundings(case.model_bytes)

    # Building ----------------------------------------------------------------------------------

    def _prebuild(self, message: Prebuild) -> None:
        with ThreadPoolExecutor(Config.from_environment().jobs) as pool:
            for built in [pool.submit(self._build, c) for c in message.candidates]:
                with contextlib.suppress(BuildError):  # it is told when that one is prepared
                    built.result()

    def _build(self, candidate: Candidate) -> Path:
        """The candidate's library, made unless it is there. Raises: BuildError."""
        out = self.folder / f"{candidate.kernel}.so"
        if not out.is_file():
            self.backend.build(candidate.sources, self.target, out, cc=self.cc)
        return out

    def _prepare(self, candidate: Candidate) -> Ready | Failed:
        if candidate.kernel not in self.loaded:
            try:
                out = self._build(candidate)
            except BuildError as error:
                return Failed(Outcome.BUILD_FAILED, error.message)
            self.loaded[candidate.kernel] = self._load(candidate, out)
        return self._check(candidate)

    def _load(self, candidate: Candidate, library: Path) -> _Loaded:
        opened = ctypes.CDLL(str(library))
        function = getattr(opened, SYMBOL)
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        function.restype = ctypes.c_int64
        extent = max(1, candidate.extent)
        scratch_bytes = _asked_scratch(opened) or candidate.scratch_bytes
        return _Loaded(opened, function, candidate.packed, scratch_bytes, extent)

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
                loaded.run(*arguments, begin, end)
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
            found = problem or _difference(got.read(), expected)
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
                    taken = pair[i].run(*arguments, 0, pair[i].extent)
                    if r >= 0:
                        times[i].append(taken)
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
