"""How the runtime shares a kernel's iterations, and that estimates of it are right."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Callable, Sequence
from importlib import resources

import pytest
from graphopt_backends.cpu.build import find_compiler

from graphopt.lower.sharing import largest_share, stretch

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
HOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, TASK, ctypes.c_void_p)

RUNS = (1, 2, 3, 5, 7, 8, 9, 18, 25, 49, 71, 112, 360, 1003)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = resources.files("graphopt_backends.cpu") / "runtime" / "go_runtime.c"
    out = tmp_path_factory.mktemp("runtime") / "go_runtime.so"
    flags = ("-std=gnu11", "-O1", "-fPIC", "-shared")
    command = [*find_compiler().command, *flags, "-o", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return ctypes.CDLL(str(out))


class Clock:
    """Threads that take turns in simulated time: an iteration takes one unit of it."""

    def __init__(self, starts: Sequence[int]) -> None:
        self.now = dict(enumerate(starts))
        self.changed = threading.Condition()

    def wait(self, thread: int, duration: int) -> None:
        """Until this thread has worked so long, and all others are as far."""
        with self.changed:
            self.now[thread] += duration
            self.changed.notify_all()
            self.changed.wait_for(lambda: (self.now[thread], thread) == self._first(), timeout=60)

    def leave(self, thread: int) -> None:
        with self.changed:
            del self.now[thread]
            self.changed.notify_all()

    def _first(self) -> tuple[int, int]:
        return min((time, thread) for thread, time in self.now.items())


def shared(
    library: ctypes.CDLL, runs: int, length: int, starts: Sequence[int]
) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """What each thread takes of `runs` times `length` iterations, and when it ends, if it begins at
    the time in `starts`."""
    clock, pieces = Clock(starts), [[] for _ in starts]
    ends, index = [0] * len(starts), threading.local()

    def body(_frame: int, _scratch: int, begin: int, end: int) -> None:
        pieces[index.thread].append((begin, end))
        clock.wait(index.thread, end - begin)
        ends[index.thread] = clock.now[index.thread]

    def run(thread: int, task: Callable[[int, int], None], state: int) -> None:
        index.thread = thread
        clock.wait(thread, 0)
        task(state, thread)
        clock.leave(thread)

    def host(_host: int, tasks: int, task: Callable[[int, int], None], state: int) -> None:
        assert tasks == len(starts)
        running = [threading.Thread(target=run, args=(i, task, state)) for i in range(tasks)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    library.go_parallel(
        None, HOST(host), None, len(starts), BODY(body), None, None, ctypes.c_size_t(0),
        ctypes.c_int64(runs * length), ctypes.c_int64(length),
    )  # fmt: skip
    return pieces, ends


@pytest.mark.compiler
@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 5])
def test_all_is_done_once_and_evenly(library: ctypes.CDLL, threads: int, length: int) -> None:
    for runs in RUNS:
        pieces, ends = shared(library, runs, length, [0] * threads)
        done = sorted(i for taken in pieces for piece in taken for i in range(*piece))
        assert done == list(range(runs * length))
        assert max(ends) == largest_share(runs, length, threads)[0], runs


@pytest.mark.compiler
def test_who_is_late_is_helped(library: ctypes.CDLL) -> None:
    pieces, ends = shared(library, 100, 1, [0, 60])
    assert max(ends) <= 82
    assert sum(end - begin for begin, end in pieces[1]) <= 22


@pytest.mark.compiler
def test_a_thread_begins_where_it_always_does(library: ctypes.CDLL) -> None:
    """What it wrote then is in its cache."""
    for starts in ([0, 0], [0, 9], [9, 0]):
        pieces, _ = shared(library, 100, 1, starts)
        assert [taken[0][0] for taken in pieces] == [0, 50]


@pytest.mark.compiler
def test_many_runs_are_not_cut(library: ctypes.CDLL) -> None:
    """Everyone who has some of one prepares it."""
    pieces, _ = shared(library, 64, 5, [0, 0])
    assert all(begin % 5 == 0 for taken in pieces for begin, _ in taken)


@pytest.mark.compiler
def test_few_runs_are_cut_once_per_thread(library: ctypes.CDLL) -> None:
    assert shared(library, 1, 5, [0, 0])[0] == [[(0, 3)], [(3, 5)]]


def test_tasks_that_do_not_divide_stretch() -> None:
    assert stretch(8) == 1
    assert stretch(7) == pytest.approx((1 + 8 / 7 + 8 / 7) / 3)
    assert stretch(1) == pytest.approx((1 + 2 + 4) / 3)
