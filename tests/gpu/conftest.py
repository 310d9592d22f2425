"""Where artifacts for GPUs come from, and what is run first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gpu_cases import ORDER, Wanted, artifact, wanted

from graphopt.artifact.format import MANIFEST


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.originalname) if _needs_gpu(item) else -1)


def _needs_gpu(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.get_closest_marker("gpu") is not None


def _rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


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
