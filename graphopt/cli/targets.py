"""graphopt targets: what code can be generated for."""

from __future__ import annotations

import dataclasses

import click

from graphopt.cli.console import show_json, show_table, warn
from graphopt.cli.parameters import json_option
from graphopt.units import format_binary


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List what code can be generated for: the values of --target."""
    from graphopt.target import all_targets

    found, broken = all_targets()
    if as_json:
        rows = [
            {
                **dataclasses.asdict(row),
                "name": f"{entry.name}:{name}",
                "features": sorted(row.features),
                "distribution": f"{entry.distribution} {entry.version}",
            }
            for entry, name, row in found
        ]
        show_json({"targets": rows, "broken": broken})
        return
    show_table(
        ("target", "arch", "isa", "f32 lanes", "registers", "L1", "L2", "from"),
        (
            (
                f"{entry.name}:{name}", row.arch, row.isa, row.lanes_f32, row.vector_registers,
                format_binary(row.l1_bytes), format_binary(row.l2_bytes), entry.distribution,
            )
            for entry, name, row in found
        ),
        numbers=("f32 lanes", "registers", "L1", "L2"),
    )  # fmt: skip
    for problem in broken:
        warn(problem)
