"""A small program as an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bias_program import BIAS, COLUMNS, ROWS, add_bias, write_program

from graphopt.artifact.golden import Golden


@pytest.fixture(autouse=True)
def private_records(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> (
    None
):  # fmt: skip
    """Objects may come from the user's cache; records of checked files may not."""
    from graphopt.artifact import hashing
    from graphopt.cache import Cache
    from graphopt.config import Config

    config = Config(tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(hashing, "Cache", lambda section: Cache(section, config))


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)


@pytest.fixture
def artifact(tmp_path: Path, x: np.ndarray) -> Path:
    golden = Golden({"x": x}, {"y": x + BIAS})
    return write_program(add_bias(), tmp_path / "bias", golden=golden)


@pytest.fixture
def edited(artifact: Path) -> Callable[[str, str], Path]:
    """The artifact with a text in its manifest replaced."""

    def edit(old: str, new: str) -> Path:
        path = artifact / "manifest.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return artifact

    return edit
