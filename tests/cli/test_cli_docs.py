"""docs/cli.md and the commands say the same."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest

from graphopt.cli.group import COMMANDS

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def _command(name: str) -> click.Command:
    found: click.Command = importlib.import_module(f"graphopt.cli.{name.replace('-', '_')}").command
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_shown_with_its_output(name: str) -> None:
    assert re.search(rf"^\$ .*graphopt {name}\b", DOCS, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_named(name: str) -> None:
    options = [o for p in _command(name).params for o in p.opts if o.startswith("--")]
    assert [o for o in options if not re.search(rf"{o}\b", DOCS)] == []


def test_no_option_is_made_up() -> None:
    known = {o for name in COMMANDS for p in _command(name).params for o in p.opts}
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCS))
    assert shown <= known | {"--help"}


def test_every_environment_variable_is_named() -> None:
    import graphopt.config

    source = Path(graphopt.config.__file__ or "").read_text(encoding="utf-8")
    read = set(re.findall(r'get\("(GRAPHOPT_\w+)"', source))
    assert read
    assert set(re.findall(r"GRAPHOPT_[A-Z]+\b", DOCS)) - {"GRAPHOPT_COMPLETE"} == read
