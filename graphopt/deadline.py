"""Run a function for a limited time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class DeadlineError(BaseException):
    """Time is up. A BaseException, so that a pass which catches Exception does not swallow it."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """`function()`, ended by DeadlineError when it takes longer than `seconds`.

    In the main thread an alarm interrupts it. Elsewhere, and where there are no alarms, it runs in
    a thread of its own that is abandoned when time is up: Python cannot stop a thread.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        with _alarm(seconds):
            return function()
    return _in_thread(seconds, function)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise DeadlineError

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:  # an outer alarm, such as a test runner's, goes on where it was
            left = max(remaining - (time.monotonic() - start), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _in_thread(seconds: float, function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed over to the caller's thread, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise DeadlineError
    return results[0]
