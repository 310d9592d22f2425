"""The commands by name. Listing them imports none: `graphopt --help` answers at once."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from graphopt.cli.errors import OK, exit_code
from graphopt.errors import GraphoptError

COMMANDS: Mapping[str, str] = {
    "compile": "Compile a model to a self-contained artifact.",
    "run": "Run an artifact on arrays from files.",
    "bench": "Time an artifact or a model, alone or beside other engines.",
    "profile": "Write a trace of an artifact's runs and a roofline of its kernels.",
    "tune": "Search the schedules of a model's kernels on this machine.",
    "inspect": "Show what is in an artifact, without running it.",
    "verify": "Check an artifact's files and results, kernel by kernel if asked.",
    "opt": "Run graph passes on a model or on IR text, and print the result.",
    "explain": "Show where a pass fired in a model, and where it nearly did.",
    "bisect": "Find the rewrite that makes a compile wrong or slow.",
    "passes": "List the graph passes.",
    "kernel-passes": "List the kernel passes.",
    "ops": "List the operators of the graph IR.",
    "targets": "List what code can be generated for.",
    "plugins": "List the installed plugins, the broken ones too.",
}
"""Each command is `graphopt.cli.NAME:command`, and its one-line help is this text."""


class Commands(click.Group):
    """The program. Errors become text on stderr and an exit code here, and only here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"graphopt.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.name, command.short_help = cmd_name, COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`graphopt --help` lists the commands"
            raise GraphoptError(f"there is no command {name!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that is gone shows here, not at exit
        except BrokenPipeError:  # `graphopt ops | head`: it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
        return result

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            kwargs["standalone_mode"] = False
            result = super().main(*args, **kwargs)
        except Exception as error:  # whatever it is, the user gets text and a code
            sys.exit(exit_code(error))
        sys.exit(result if isinstance(result, int) else OK)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="SOURCE is file.py:function or package.module:function, which returns a model and its "
    "example inputs, or model.pt2, or IR text: model.go.txt.",
)
@click.version_option(package_name="graphopt", message="graphopt %(version)s")
def cli() -> None:
    """Compile PyTorch models to fast, small, self-contained programs."""
