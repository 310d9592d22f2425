"""Where the examples are, and how their programs are run: as a user runs them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Run = Callable[..., str]


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command that must succeed; returns what it printed."""

    def run(command: Sequence[str | Path], **settings: str) -> str:
        done = subprocess.run(
            list(map(str, command)),
            cwd=EXAMPLES.parent,
            env={**os.environ, "COLUMNS": "100", **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
