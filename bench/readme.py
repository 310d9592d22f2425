"""The README's table of results, from a run of the bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from graphopt.check.peers import Lap, table

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def fill(
    readme: Path, results: Mapping[str, Sequence[Lap]], *, day: str, machine: str, picture: str
) -> None:
    """Replace what stands between the markers. Raises: ValueError where there are none."""
    text = readme.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{readme} has no {START} .. {END}")
    block = f"Measured on {day}, {machine}.\n\n{table(results)}\n\n![{machine}]({picture})"
    readme.write_text(f"{before}{START}\n{block}\n{END}{after}", encoding="utf-8")
