"""Progress on stderr: each stage that takes longer than a second gets a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from graphopt.units import format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress

SLOW_S = 1.0
Announce = Callable[[str], None]


@contextmanager
def stages(*, quiet: bool = False) -> Iterator[Announce]:
    """Yields what is called with a stage's name as it starts, and again with how far it is:
    `build`, `build 12/87`. A terminal shows the stage that runs, and how far it is."""
    if quiet:
        yield lambda text: None
    elif sys.stderr.isatty():
        bar = _bar()
        with bar:
            shown = _Stages(bar)
            yield shown.announce
            shown.end()
    else:
        shown = _Stages(None)
        yield shown.announce
        shown.end()


def _bar() -> Progress:
    """A line that moves, from a stage's second second on."""
    from rich.console import Console, RenderableType
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    class Slow(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            slow = [t for t in self.tasks if (t.elapsed or 0.0) >= SLOW_S]
            yield self.make_tasks_table(slow) if slow else ""

    return Slow(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
        transient=True,
    )


class _Stages:
    """One stage runs at a time: the start of one ends the other."""

    def __init__(self, bar: Progress | None) -> None:
        self.bar = bar
        self.name, self.start = "", 0.0

    def announce(self, text: str) -> None:
        name, _, detail = text.partition(" ")
        if name != self.name:
            self.end()
            self.name, self.start = name, time.monotonic()
            if self.bar is not None:
                self.bar.add_task(name, total=None, detail=detail)
        elif self.bar is not None:
            self.bar.update(self.bar.task_ids[-1], detail=detail)

    def end(self) -> None:
        seconds = time.monotonic() - self.start
        if self.bar is not None and self.name:
            self.bar.remove_task(self.bar.task_ids[-1])
            self.bar.refresh()
        if self.name and seconds >= SLOW_S:
            line = f"{self.name}: {format_seconds(seconds)}"
            if self.bar is None:
                click.echo(line, err=True)
            else:
                self.bar.console.print(line, markup=False, highlight=False)
        self.name = ""
