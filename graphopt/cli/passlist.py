"""What `graphopt passes` and `graphopt kernel-passes` print."""

from __future__ import annotations

import inspect
from typing import Any

import click

from graphopt.cli.console import show_json, show_table, warn
from graphopt.errors import PluginError
from graphopt.plugins import Entry, registry


def show_passes(kind: str, as_json: bool) -> None:
    """The passes of a kind of plugin entry; those that cannot be imported are reported."""
    rows: list[dict[str, Any]] = []
    broken = [f"{b.distribution} could not be used: {b.reason}" for b in registry().broken]
    for entry in sorted(registry().of(kind), key=lambda e: e.name):
        try:
            rows.append(_row(entry))
        except PluginError as error:
            broken.append(error.message)
    if as_json:
        show_json({kind: rows, "broken": broken})
        return
    if rows:
        _show(rows)
    else:
        click.echo(f"no {kind.replace('_', ' ')} are installed")
    for problem in broken:
        warn(problem)


def _show(rows: list[dict[str, Any]]) -> None:
    show_table(
        ("pass", "numerics", "options", "from", "what it does"),
        (
            (r["name"], r["numerics"], _options(r["options"]), r["distribution"], r["summary"])
            for r in rows
        ),
    )


def _row(entry: Entry) -> dict[str, Any]:
    """Raises: PluginError for a pass that cannot be imported or made."""
    from graphopt.stages import default_options

    cls = entry.load()
    return {
        "name": entry.name,
        "numerics": _numerics(cls, entry),
        "options": default_options(cls, entry.name),
        "distribution": f"{entry.distribution} {entry.version}",
        "summary": _summary(cls, entry.name),
    }


def _numerics(cls: Any, entry: Entry) -> str:
    """What the class promises, or a pass made with the default options."""
    from graphopt.passbase import Numerics

    promised = getattr(cls, "numerics", None)
    if isinstance(promised, Numerics):
        return str(promised)
    try:
        return str(cls().numerics)
    except Exception as error:  # a plugin's constructor may raise anything
        raise PluginError(
            f"pass {entry.name} of {entry.distribution} {entry.version} cannot be made: "
            f"{type(error).__name__}: {error}"
        ) from error


def _summary(cls: type, name: str) -> str:
    """The first sentence of what the module says after `name: `, or else of the docstring."""
    text = inspect.getdoc(inspect.getmodule(cls)) or ""
    text = text.partition(": ")[2] if text.startswith(f"{name}: ") else inspect.getdoc(cls) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = paragraph.partition(". ")[0].rstrip(".")
    return sentence[:1].upper() + sentence[1:]


def _options(defaults: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in defaults.items())
