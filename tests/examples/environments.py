"""Commands run as a user runs them, and environments to run them in."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def succeed(command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, which also sees every package of this one."""

    folder: Path

    def shell(self, command: str, folder: Path = ROOT) -> str:
        """Run a line of shell that must succeed; returns what it printed."""
        done = self.popen(command, folder)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def popen(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a line of shell; standard error is part of its output."""
        settings = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
            # Packages come from here alone: nothing is fetched, hatchling is installed already.
            "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }  # fmt: skip
        return subprocess.run(
            ["bash", "-c", command], cwd=folder, env=settings, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def create_environment(folder: Path) -> Environment:
    """With the commands python, pip, pytest and graphopt."""
    venv.EnvBuilder(symlinks=True).create(folder)
    inside = next((folder / "lib").glob("python*/site-packages"))
    parents = [p for p in (*site.getsitepackages(), *sys.path) if p.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({parent!r})" for parent in dict.fromkeys(parents)]
    (inside / "parents.pth").write_text("\n".join(lines) + "\n")
    for name in ("pip", "pytest", "graphopt"):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {name} "$@"\n')
        script.chmod(0o755)
    return Environment(folder)
