"""The terminal: `graphopt COMMAND`. Nothing is imported before it is needed."""

from __future__ import annotations


def main() -> None:
    """The entry point. Never returns: exits with one of the codes of `graphopt.cli.errors`."""
    from graphopt.cli.group import cli

    cli(prog_name="graphopt")
