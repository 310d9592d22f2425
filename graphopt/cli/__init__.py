"""The terminal: `graphopt COMMAND`. Nothing is imported before it is needed."""

from __future__ import annotations

import gc


def main() -> None:
    """The entry point. Never returns: exits with one of the codes of `graphopt.cli.errors`."""
    from graphopt.cli.group import cli

    try:
        cli(prog_name="graphopt")
    finally:
        gc.freeze()  # else torch's objects are searched once more on the way out: a second
