"""Every model of the zoo, the whole way: traced, optimized under the gate, compiled, run, compared.

The artifact's outputs must lie within 1e-4 of eager's, computed in float64, relative to the
output's largest magnitude: what the project promises for float32. The tiny models hold every pass
to its numerics on the way. Of full size there are those whose kernels differ most, with few of
their repeated layers; with `--full-size`, every model with all its layers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import MODELS, SHALLOW, TINY
from traced_models import tiny

from graphopt.artifact.loader import load
from graphopt.compilation import DEFAULT_LEVEL
from graphopt.driver import Options, build
from graphopt.frontend import Traced, trace_model

TOLERANCE = 1e-4
DIFFERENT = {
    "resnet50", "regnet_y_040", "mobilenet_v2", "convnext_tiny", "swin_tiny", "bert_base", "gpt2",
    "whisper_tiny_encoder", "unet", "conv1d", "conv3d", "resizer",
}  # fmt: skip
"""One of each kind of layer: bottlenecks, groups, strips, depthwise 7x7, windows, masked and causal
attention, 1500 tokens, transposed convolutions, one axis and three, resizes."""

pytestmark = [pytest.mark.transformers, pytest.mark.compiler]


def check(
    traced: Traced, out: Path, *, gated: bool, level: str = DEFAULT_LEVEL, target: str = "cpu"
) -> None:
    options = Options(level, verify_each=gated)
    compilation = build(traced.graph, target=target, out=out, options=options)
    report = compilation.report
    assert report.arena_bytes <= 1.15 * report.arena_lower_bound
    assert compilation.artifact is not None
    results = load(compilation.artifact).run(traced.inputs())
    exact = traced.exact()
    assert list(results) == list(exact)
    for name, wanted in exact.items():
        off = np.abs(np.asarray(results[name]) - wanted).max() / np.abs(wanted).max()
        assert off <= TOLERANCE, f"{name} is off by {off:.2g}"


@pytest.mark.parametrize("name", sorted(TINY))
def test_tiny(name: str, tmp_path: Path) -> None:
    check(tiny(name), tmp_path / "artifact", gated=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_full_size(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    everything = request.config.getoption("--full-size")
    if not everything and name not in DIFFERENT:
        pytest.skip("its kernels are much like another's; --full-size compiles it")
    models = MODELS if everything else SHALLOW
    check(trace_model(*models[name]()), tmp_path / "artifact", gated=False)
