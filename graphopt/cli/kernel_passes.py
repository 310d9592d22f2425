"""graphopt kernel-passes: the kernel passes."""

from __future__ import annotations

import click

from graphopt.cli.parameters import json_option
from graphopt.cli.passlist import show_passes


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the kernel passes: what each promises about values, and its options with defaults."""
    show_passes("kernel_passes", as_json)
