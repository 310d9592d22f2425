"""How the runtime shares a kernel's iterations, and that estimates of it are right."""

from __future__ import annotations

import ctypes
import heapq
import subprocess
from importlib import resources
from itertools import pairwise

import pytest
from graphopt_backends.cpu.build import find_compiler

from graphopt.lower.sharing import largest_share, stretch

Pieces = list[tuple[int, int]]

BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
HOST = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, TASK, ctypes.c_void_p)

EXTENTS = (1, 2, 3, 5, 7, 8, 9, 18, 25, 49, 71, 112, 360, 1000, 100_003)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = resources.files("graphopt_backends.cpu") / "runtime" / "go_runtime.c"
    out = tmp_path_factory.mktemp("runtime") / "go_runtime.so"
    command = [
        *find_compiler().command,
        "-std=gnu11",
        "-O1",
        "-fPIC",
        "-shared",
        "-o",
        out,
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return ctypes.CDLL(str(out))


def shared(library: ctypes.CDLL, threads: int, runs: int, length: int) -> Pieces:
    """The pieces of `runs` times `length` iterations, in the order in which threads take them."""
    pieces: Pieces = []
    body = BODY(lambda _frame, _scratch, begin, end: pieces.append((begin, end)))
    # The first takes all that there is; the others come too late.
    host = HOST(lambda _host, tasks, task, state: [task(state, i) for i in range(tasks)] and None)
    library.go_parallel(
        None, host, None, threads, body, None, None, ctypes.c_size_t(0),
        ctypes.c_int64(runs * length), ctypes.c_int64(length),
    )  # fmt: skip
    return pieces


def loads(pieces: Pieces, threads: int) -> list[int]:
    """What each thread has done at the end, if all are as fast."""
    heap = [0] * threads
    for begin, end in pieces:
        heapq.heapreplace(heap, heap[0] + end - begin)
    return heap


@pytest.mark.compiler
@pytest.mark.parametrize("threads", [2, 3, 4, 16])
@pytest.mark.parametrize("length", [1, 3, 5])
def test_all_iterations_are_shared_and_evenly(
    library: ctypes.CDLL, threads: int, length: int
) -> None:
    for runs in EXTENTS:
        pieces = shared(library, threads, runs, length)
        assert [begin for begin, _ in pieces[:1]] == [0]
        assert all(end == begin for (_, end), (begin, _) in pairwise(pieces))
        assert pieces[-1][1] == runs * length
        most, _ = largest_share(runs, length, threads)
        assert max(loads(pieces, threads)) <= most + (0 if runs < 4 * threads else length), runs
        assert len(pieces) <= 2 * threads * max(2, (runs * length).bit_length())


@pytest.mark.compiler
def test_many_runs_are_not_cut(library: ctypes.CDLL) -> None:
    """Everyone who has some of one prepares it."""
    assert all(begin % 5 == 0 for begin, _ in shared(library, 2, 64, 5))


@pytest.mark.compiler
def test_few_runs_are_cut_once_per_thread(library: ctypes.CDLL) -> None:
    assert shared(library, 2, 1, 5) == [(0, 3), (3, 5)]


def test_tasks_that_do_not_divide_stretch() -> None:
    assert stretch(8) == 1
    assert stretch(7) == pytest.approx((1 + 8 / 7 + 8 / 7) / 3)
    assert stretch(1) == pytest.approx((1 + 2 + 4) / 3)
