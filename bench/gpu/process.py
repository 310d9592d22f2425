"""A process that holds the GPU, so that what dies or hangs there takes nothing else with it."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")
_FIRST_LINE = 200
_DYING_S = 5.0


class LostError(Exception):
    """The process raised, died or did not answer in time; the message says which."""


def first_line(error: BaseException) -> str:
    """An exception as one line of a table."""
    said = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {said[:_FIRST_LINE]}"


class Process:
    """Runs functions one after the other; a new process after one that was lost. `is_well` says in
    the process whether it can go on: a fault of a kernel stays with the one it happened in."""

    def __init__(self, is_well: Callable[[], bool]) -> None:
        self._is_well = is_well
        self._process: Any = None
        self._pipe: Connection | None = None

    def call(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module returns. Raises: LostError."""
        if self._process is None or not self._process.is_alive():
            self._start()
        answered, answer, well = self._ask(seconds, function, arguments)
        if not well:
            self.close()
        if not answered:
            raise LostError(answer)
        return answer

    def _ask(self, seconds: float, *message: Any) -> tuple[bool, Any, bool]:
        """Whether there is an answer, it or why there is none, whether the process can go on."""
        assert self._pipe is not None
        try:
            self._pipe.send(message)
            if self._pipe.poll(seconds):
                answer: tuple[bool, Any, bool] = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            self._process.join(_DYING_S)
            return False, f"the process died: status {self._process.exitcode}", False
        return False, f"no answer in {seconds:.0f} s", False

    def _start(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self._is_well))
        self._process.start()
        theirs.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Connection, is_well: Callable[[], bool]) -> None:
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                answer = (True, function(*arguments), is_well())
            except Exception as error:  # what is run may raise anything: it is told
                answer = (False, first_line(error), is_well())
            pipe.send(answer)
