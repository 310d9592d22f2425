"""graphopt ops: the operators of the graph IR."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

import click

from graphopt.cli.console import show_json, show_table
from graphopt.cli.parameters import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the operators of the graph IR and their attributes."""
    from graphopt.ops import OPS
    from graphopt.syntax.literals import field_types

    ops = sorted(OPS.values(), key=lambda op: (op.kind, op.name))
    rows = [
        (op.name, op.kind, {n: _type(t) for n, t in field_types(op.attrs).items()}) for op in ops
    ]
    if as_json:
        show_json(
            {"ops": [dict(zip(("name", "kind", "attributes"), r, strict=True)) for r in rows]}
        )
        return
    show_table(
        ("op", "kind", "attributes"),
        (
            (name, kind, ", ".join(f"{n}={t}" for n, t in attrs.items()))
            for name, kind, attrs in rows
        ),
    )


def _type(hint: Any) -> str:
    """An attribute's type as its literal looks: `int`, `[int, ..]`, `int or none`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        return f"[{_type(args[0])}, ..]" if args[-1] is ... else f"[{', '.join(map(_type, args))}]"
    if origin in (Union, UnionType):
        return " or ".join(map(_type, args))
    return "none" if hint is type(None) else str(hint.__name__).lower()
