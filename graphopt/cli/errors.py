"""What went wrong, on stderr, and the exit codes.

0 done; 1 the command's finding is bad (`verify`: results differ); 2 a mistake that the user can
mend; 70 a bug in graphopt; 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from graphopt.errors import GraphoptError

OK, BAD, USER_ERROR, BUG, INTERRUPTED = 0, 1, 2, 70, 130


def exit_code(error: Exception) -> int:
    """Print an error as its kind deserves, and return the code to exit with."""
    if isinstance(error, GraphoptError):
        return _user_error(error.message, error.hint)
    if isinstance(error, click.ClickException):
        return _usage_error(error)
    if isinstance(error, click.Abort):
        click.secho("interrupted", fg="red", err=True)
        return INTERRUPTED
    return _bug(error)


def _user_error(message: str, hint: str | None) -> int:
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    if hint:
        click.secho("hint: ", fg="cyan", bold=True, nl=False, err=True)
        click.echo(hint, err=True)
    return USER_ERROR


def _usage_error(error: click.ClickException) -> int:
    """A wrong command line, in the style of all other errors."""
    message = error.format_message().rstrip(".")
    path = getattr(getattr(error, "ctx", None), "command_path", "graphopt")
    hint = f"`{path} --help` says what it takes"
    if isinstance(error, click.NoSuchOption):
        message = f"{path} has no option {error.option_name!r}"
        if error.possibilities:
            hint = f"did you mean {error.possibilities[0]!r}?"
    return _user_error(message[:1].lower() + message[1:], hint)


def _bug(error: Exception) -> int:
    import traceback

    traceback.print_exception(error, file=sys.stderr)
    click.secho(f"internal error: {type(error).__name__}: {error}", fg="red", bold=True, err=True)
    click.echo("hint: this is a bug in graphopt; report it with the text above", err=True)
    return BUG
