"""Progress on stderr: each stage that takes longer than a second gets a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SLOW_S = 1.0
Announce = Callable[[str], None]


@contextmanager
def stages(*, quiet: bool = False) -> Iterator[Announce]:
    """Yields what is called with a stage's name as it starts, and again with how far it is:
    `build`, `build 12/87`. On a terminal the lines move; in a file each stage is there once."""
    if quiet:
        yield lambda text: None
        return
    bars = _bars()
    with bars:
        shown = _Stages(bars)
        try:
            yield shown.announce
        finally:
            shown.end()


def _bars() -> Progress:
    """A progress display that leaves out what is quick."""
    from rich.console import Console, RenderableType
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    class Slow(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            slow = [t for t in self.tasks if (t.elapsed or 0.0) >= SLOW_S]
            if slow:
                yield self.make_tasks_table(slow)

    return Slow(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=Console(stderr=True),
    )


class _Stages:
    """One stage runs at a time: the start of one ends the other."""

    name: str
    task: TaskID | None

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.name, self.task = "", None

    def announce(self, text: str) -> None:
        name, _, detail = text.partition(" ")
        if name != self.name:
            self.end()
            self.name, self.task = name, self.bars.add_task(name, total=None, detail=detail)
        elif self.task is not None:
            self.bars.update(self.task, detail=detail)

    def end(self) -> None:
        if self.task is not None:
            self.bars.update(self.task, total=1, completed=1)
            self.bars.stop_task(self.task)  # or its clock would go on
            self.task = None
