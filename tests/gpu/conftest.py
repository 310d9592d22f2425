"""Where artifacts for GPUs come from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gpu_cases import Wanted, artifact, wanted

from graphopt.artifact.format import MANIFEST


@pytest.fixture(scope="session")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """The folder of an artifact by name: prepared before (--gpu-artifacts), or built with nvcc."""
    given = request.config.getoption("--gpu-artifacts")
    folder = Path(given) if given else tmp_path_factory.mktemp("artifacts")
    table: dict[str, Wanted] = {w.name: w for w in wanted()}

    def find(name: str) -> Path:
        if not (folder / name / MANIFEST).is_file() and shutil.which("nvcc") is None:
            pytest.skip(f"no nvcc, and --gpu-artifacts has no {name}")
        if not (folder / name / MANIFEST).is_file() and not table[name].can_be_made:
            pytest.skip(f"Python has no {table[name].package}, with which {name} is compiled")
        return artifact(table[name], folder)

    return find
