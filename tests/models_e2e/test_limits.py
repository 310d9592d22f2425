"""What running a model may cost at most in memory and code: of a C program that does nothing else.

Times have limits, too, and are measured by `python -m bench.limits`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from models import MODELS, TINY

from bench.limits import CODE_LIMITS, build_host, memory_limit, run_host
from graphopt.compilation import Compilation
from graphopt.driver import build

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.compiler,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc"),
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compilation]:
    """A model's artifact, made once."""

    @cache
    def made(model: str) -> Compilation:
        module, inputs = {**MODELS, **TINY}[model]()
        return build(module, inputs, out=tmp_path_factory.mktemp(model) / "artifact")

    return made


@pytest.mark.parametrize("model", ["tiny_resnet", "tiny_bert", "mobilenet_v2"])
def test_peak_memory(model: str, compiled: Callable[[str], Compilation], tmp_path: Path) -> None:
    artifact = compiled(model).artifact
    assert artifact is not None
    found = run_host(build_host(artifact, tmp_path / "host"), artifact, 5)
    assert found["peak"] <= memory_limit(found)
    # All weights are read and all of the arena is written: less would be a peak not measured.
    assert found["peak"] > found["empty"] + found["arena"]


@pytest.mark.parametrize("model", CODE_LIMITS)
def test_code_section(model: str, compiled: Callable[[str], Compilation]) -> None:
    assert 0 < compiled(model).report.code_bytes < CODE_LIMITS[model]
