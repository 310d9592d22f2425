"""Progress: what is slow is shown, what is quick is not."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from graphopt.cli import progress
from graphopt.cli.console import show_table
from graphopt.cli.progress import stages


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In place of stderr; no fixture, since capturing begins anew after those."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "SLOW_S", 0.1)
    return screen


def test_a_terminal_shows_the_stage_and_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with stages() as announce:
        announce("trace")
        announce("build")
        announce("build 3/7")
        time.sleep(0.4)
        announce("link")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(r"build 0:00:00 3/7", shown)
    assert len(re.findall(r"^build: \d+ ms$", shown.replace("\r", "\n"), re.MULTILINE)) == 1
    assert "trace" not in shown
    assert "link" not in shown


def test_a_file_gets_one_line_a_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SLOW_S", 0.1)
    with stages() as announce:
        announce("trace")
        announce("build")
        time.sleep(0.15)
        announce("build 7/7")
        announce("link")
    assert re.fullmatch(r"build: \d+ ms\n", capsys.readouterr().err)


def test_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with stages(quiet=True) as announce:
        announce("build")
        time.sleep(0.15)
    assert screen.getvalue() == ""


def test_an_error_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)

    def fail() -> None:
        with stages() as announce:
            announce("build")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert screen.getvalue().count("\x1b[?25l") == 1 == screen.getvalue().count("\x1b[?25h")


def test_a_terminal_wraps_a_table_and_a_pipe_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ("layers[0]", "word " * 40, 7)
    show_table(("name", "text", "count"), [row], numbers=("count",))
    header, line = capsys.readouterr().out.splitlines()
    assert line == f"layers[0]  {'word ' * 40}      7"
    assert header == f"name       {'text'.ljust(200)}  count"
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "80")
    show_table(("name", "text", "count"), [row], numbers=("count",))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("word") == 40
    assert "layers[0]" in shown
