"""Output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal

import click


def show_json(data: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(data, indent=2))


def show_table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Container[str] = ()
) -> None:
    """Rows under titles; the columns in `numbers` are aligned right. Nothing is cut off: a terminal
    wraps long cells, a pipe gets lines as long as they need to be."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    right = [title in numbers for title in titles]
    if sys.stdout.isatty():
        _wrapped_table(titles, cells, right)
        return
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for row in (titles, *cells):
        padded = (
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _wrapped_table(
    titles: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_edge=False, pad_edge=False, header_style="bold")
    for title, is_number in zip(titles, right, strict=True):
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=is_number)
    for row in cells:
        table.add_row(*map(Text, row))
    Console(markup=False, highlight=False, emoji=False).print(table)


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and what there is to say about them, one a line."""
    shown = [(name, str(value)) for name, value in facts]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}")


def heading(text: str) -> None:
    """A title after an empty line."""
    click.echo()
    click.secho(text, bold=True)


def warn(text: str) -> None:
    """On stderr: something is wrong, and the command goes on."""
    click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(text, err=True)
