"""Where the examples are, and how their programs are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from environments import ROOT, Environment, create_environment, succeed

Run = Callable[..., str]


@pytest.fixture(scope="session")
def examples() -> Path:
    return ROOT / "examples"


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command that must succeed; returns what it printed."""

    def run(command: Sequence[str | Path], **settings: str) -> str:
        return succeed(
            command, ROOT, {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", **settings}
        )

    return run


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return create_environment(tmp_path / "venv")
