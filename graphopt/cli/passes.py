"""graphopt passes: the graph passes."""

from __future__ import annotations

import click

from graphopt.cli.parameters import json_option
from graphopt.cli.passlist import show_passes


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the graph passes: what each promises about values, and its options with their defaults.

    They run in the order that --passes gives, or that of an optimization level.
    """
    show_passes("passes", as_json)
