"""graphopt plugins: who offers what."""

from __future__ import annotations

from typing import Any

import click

from graphopt.cli.console import show_json, show_table, warn
from graphopt.cli.parameters import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the installed distributions that offer passes, backends or pipelines.

    Everything they name is imported, and what cannot be is reported.
    """
    from graphopt.errors import PluginError
    from graphopt.plugins import KINDS, registry

    found = registry()
    rows: dict[str, dict[str, Any]] = {}
    broken = [f"{b.distribution} could not be used: {b.reason}" for b in found.broken]
    for entry in found.entries:
        owner = f"{entry.distribution} {entry.version}"
        row = rows.setdefault(owner, {"distribution": owner, **{kind: [] for kind in KINDS}})
        row[entry.kind].append(entry.name)
        try:
            entry.load()
        except PluginError as error:
            broken.append(error.message)
    if as_json:
        show_json({"plugins": list(rows.values()), "broken": broken})
        return
    show_table(
        ("distribution", "offers", "names"),
        (
            (owner, kind.replace("_", " "), ", ".join(row[kind]))
            for owner, row in rows.items()
            for kind in KINDS
            if row[kind]
        ),
    )
    for problem in broken:
        warn(problem)
