"""What running a model may cost at most in memory and code: of a C program that does nothing else.

Times have limits, too, and are measured by `python -m bench.limits`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from models import MODELS, TINY

from bench.limits import CODE_LIMITS, build_host, memory_limit, run_host
from graphopt.driver import build

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.compiler,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc"),
]


def _artifact(model: str, out: Path) -> Path:
    module, inputs = {**MODELS, **TINY}[model]()
    return build(module, inputs, out=out).artifact or out


@pytest.mark.parametrize("model", ["tiny_resnet", "tiny_bert", "mobilenet_v2"])
def test_peak_memory(model: str, tmp_path: Path) -> None:
    artifact = _artifact(model, tmp_path / "artifact")
    found = run_host(build_host(artifact, tmp_path / "host"), artifact, 5)
    assert found["peak"] <= memory_limit(found)
    # All weights are read and all of the arena is written: less would be a peak not measured.
    assert found["peak"] > found["empty"] + found["arena"]


@pytest.mark.parametrize("model", CODE_LIMITS)
def test_code_section(model: str, tmp_path: Path) -> None:
    module, inputs = MODELS[model]()
    made = build(module, inputs, out=tmp_path / "artifact")
    assert 0 < made.report.code_bytes < CODE_LIMITS[model]
