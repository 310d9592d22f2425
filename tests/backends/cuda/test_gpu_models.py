"""Models the whole way to an artifact for a GPU, run in emulation, against eager in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import TINY
from traced_models import tiny

from graphopt.artifact.device import DeviceModel
from graphopt.artifact.loader import load
from graphopt.check.artifact import TOLERANCE, TOLERANCES
from graphopt.driver import Options, build

pytestmark = [pytest.mark.transformers, pytest.mark.compiler]

LIBRARIES = "cublaslt,cudnn"
HALVES = {"fp16": "f16", "bf16": "bf16"}


def _check(name: str, out: Path, options: Options) -> DeviceModel:
    traced = tiny(name)
    made = build(traced.graph, target="cuda:emulated", out=out, options=options)
    assert made.report.arena_bytes <= 1.15 * made.report.arena_lower_bound
    model = load(out)
    results = model.run(traced.inputs())
    limit = TOLERANCES.get(HALVES.get(options.precision, ""), TOLERANCE)
    for output, wanted in traced.exact().items():
        off = np.abs(results[output] - wanted).max() / np.abs(wanted).max()
        assert off <= limit, f"{output} is off by {off:.2g}"
    return model


def test_a_vision_model_by_libraries(tmp_path: Path):
    with _check("tiny_resnet", tmp_path / "m", Options(vendor=LIBRARIES)) as model:
        launches = model.manifest.extra["launches"]
        assert model.manifest.extra["libraries"] == {"cublaslt": 1, "cudnn": 19}
        assert launches["libraries"] == 20
        # what is left: the input's layout, a pool with its border, and the last mean
        assert launches["kernels"] == 4
        assert launches["before"] > 60
        assert model.manifest.extra["unmeasured"]


def test_a_language_model_in_halves(tmp_path: Path):
    options = Options(vendor="none", precision="bf16")
    with _check("tiny_distilbert", tmp_path / "m", options) as model:
        assert model.manifest.precision == "bf16"
        assert model.manifest.extra["libraries"] == {}
        types = {r.dtype for c in model.manifest.calls for r in c.results}
        assert "bf16" in types


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--emulate-all"):
        pytest.skip("takes --emulate-all")


@pytest.mark.slow
@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize("vendor", ["none", LIBRARIES])
@pytest.mark.parametrize("name", sorted(TINY))
def test_every_model(name: str, vendor: str, tmp_path: Path):
    _check(name, tmp_path / "m", Options(vendor=vendor)).close()


@pytest.mark.slow
@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize("precision", sorted(HALVES))
@pytest.mark.parametrize("name", ["tiny_convnext", "tiny_llama", "tiny_swin", "tiny_vit"])
def test_halves(name: str, precision: str, tmp_path: Path):
    _check(name, tmp_path / "m", Options(vendor=LIBRARIES, precision=precision)).close()
