"""examples/image_classification: by the command line and by the Python API."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt

pytest.importorskip("transformers")

pytestmark = [pytest.mark.torch, pytest.mark.transformers, pytest.mark.compiler, pytest.mark.slow]

Run = Callable[..., str]


def test_by_the_command_line(run: Run, examples: Path, tmp_path: Path) -> None:
    source = f"{examples / 'image_classification' / 'model.py'}:mobilenet"
    told = run(
        [sys.executable, "-m", "graphopt", "compile", source, "-o", tmp_path / "net", "--json"]
    )
    assert json.loads(told)["kernels"] > 10
    scores = graphopt.load(tmp_path / "net")(np.ones((1, 3, 224, 224), np.float32))
    assert scores.shape == (1, 1000)
    assert np.isfinite(scores).all()


def test_by_the_api(run: Run, examples: Path) -> None:
    told = run([sys.executable, examples / "image_classification" / "run.py", "mobilenet"])
    found = re.search(r"top class (\d+), eager (\d+); off by (\S+) of the largest", told)
    assert found is not None, told
    assert found.group(1) == found.group(2)
    assert float(found.group(3)) < 1e-5  # f32 sums of up to 1280 terms through 53 layers
