"""The pages in docs/ and the README: their files are written, their commands run, outputs compared.

What a fenced block's first line says decides: "```python PATH" (or toml, c) is a file; "```python"
alone is run; "```console" holds commands after `$`, each followed by what it prints, where `...`
stands for anything; "```ir" is a graph that must survive parsing and printing. Others are shown.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import ROOT, Environment

from graphopt.ir.text import parse, print_graph

pytest.importorskip("torch")
pytest.importorskip("hatchling")
pytest.importorskip("optuna")

pytestmark = [pytest.mark.torch, pytest.mark.compiler]

PAGES = ("README.md", "docs/architecture.md", "docs/artifact.md", "docs/ir.md",
         "docs/tuning.md", "docs/writing-a-pass.md")  # fmt: skip
_FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRESS = re.compile(r"^[\w -]+: [\d.]+ m?s$")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    path: str
    text: str


def _blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    return [
        Block(text.count("\n", 0, m.start()) + 1, m.group(1), m.group(2) or "", m.group(3))
        for m in _FENCE.finditer(text)
    ]


def _commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    command, expected = "", []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
        else:
            expected.append(line)
    yield command, expected


def _matches(shown: str, expected: list[str]) -> bool:
    """`...` alone on a line stands for lines, inside of one for part of it; several spaces for
    any number, as columns are as wide as what they hold."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            words = map(re.escape, re.split(" {2,}", line.strip()))
            pattern += " *" + " +".join(words).replace(re.escape("..."), ".*") + r" *\n"
    lines = [x for x in shown.splitlines() if not _PROGRESS.match(x) and x.strip()]
    return re.fullmatch(pattern, "".join(f"{x}\n" for x in lines)) is not None


def _run(block: Block, page: str, folder: Path, environment: Environment) -> None:
    for command, expected in _commands(block):
        done = environment.popen(command, folder)
        fails = any(line.startswith("error:") for line in expected)
        where = f"{page}:{block.line}: {command}\n{done.stdout}"
        assert (done.returncode != 0) == fails, where
        wanted = [line for line in expected if line.strip()]
        assert not wanted or _matches(done.stdout, wanted), where


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_so(page: str, environment: Environment, tmp_path: Path) -> None:
    if "$ cc " in (ROOT / page).read_text() and shutil.which("cc") is None:
        pytest.skip("there is no cc")
    folder = tmp_path / "work"
    folder.mkdir()
    for block in _blocks(page):
        if block.path:
            (folder / block.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.path).write_text(block.text)
        elif block.language == "console":
            _run(block, page, folder, environment)
        elif block.language == "ir":
            graph = parse(block.text)
            assert parse(print_graph(graph)) == graph, f"{page}:{block.line}"
        elif block.language == "python":
            subprocess.run(
                [sys.executable, "-c", block.text], cwd=folder, check=True, env={**os.environ}
            )


FOLDERS = ("backends", "bench", "docs", "examples", "graphopt", "passes", "tests")
MARKDOWN = [*ROOT.glob("*.md"), *(p for f in FOLDERS for p in sorted((ROOT / f).rglob("*.md")))]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        assert (page.parent / link).exists(), f"{link} in {page}"
