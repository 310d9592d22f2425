"""Every model of the zoo on a GPU, against eager in float64 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_cases import HALVES
from models import MODELS, TINY

from graphopt.artifact.loader import load
from graphopt.check.artifact import TOLERANCE, TOLERANCES
from graphopt.frontend import trace_model

pytestmark = [pytest.mark.gpu, pytest.mark.transformers]

Made = Callable[[str], Path]


def _check(built: Any, folder: Path, tolerance: float = TOLERANCE) -> None:
    traced = trace_model(*built)
    with load(folder) as model:
        results = model.fetched(model.run(model.placed(traced.inputs())))
    for name, wanted in traced.exact().items():
        off = np.abs(results[name].astype(np.float64) - wanted).max() / np.abs(wanted).max()
        assert off <= tolerance, f"{name} is off by {off:.2g}"


@pytest.mark.parametrize("name", sorted(TINY))
def test_tiny_on_gpu(name: str, made: Made):
    _check(TINY[name](), made(name))


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_bert"])
def test_without_libraries_on_gpu(name: str, made: Made):
    _check(TINY[name](), made(f"{name}-no-vendor"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", HALVES)
def test_halves_on_gpu(name: str, precision: str, made: Made):
    limit = TOLERANCES[{"fp16": "f16"}.get(precision, precision)]
    _check(TINY[name](), made(f"{name}-{precision}"), limit)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_full_size_on_gpu(name: str, made: Made):
    _check(MODELS[name](), made(name))


def test_torch_tensors_on_gpu(made: Made):
    """Read where they lie, on torch's current stream, on one's own, in a captured graph."""
    import torch

    module, inputs = TINY["tiny_resnet"]()
    x = inputs[0].cuda()
    with load(made("tiny_resnet")) as model, torch.no_grad():
        wanted = module(inputs[0]).cuda()  # on the CPU: cuDNN would round factors to tf32
        torch.testing.assert_close(model(x), wanted, rtol=1e-3, atol=1e-3)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            got = model(x)
        stream.synchronize()
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
        other = torch.cuda.Stream()
        other.wait_stream(torch.cuda.current_stream())
        named = model.run({model.inputs[0].name: x}, stream=other)
        other.synchronize()
        torch.testing.assert_close(named[model.outputs[0].name], wanted, rtol=1e-3, atol=1e-3)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = model(x)
        graph.replay()
        torch.cuda.synchronize()
        torch.testing.assert_close(captured, wanted, rtol=1e-3, atol=1e-3)


def test_host_tensors_are_refused_on_gpu(made: Made):
    import torch

    from graphopt.errors import InputError

    with load(made("tiny_resnet")) as model:
        x = torch.zeros(model.inputs[0].shape)
        with pytest.raises(InputError, match="given a tensor on cpu"):
            model(x)
        with pytest.raises(InputError, match="in host memory"):
            model(x.numpy())


def test_out_of_memory_on_gpu_leaves_the_process_alive(made: Made):
    import torch

    from graphopt.errors import ArtifactError

    folder = made("tiny_resnet")
    load(folder).close()  # what libraries hold for good, they hold
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - (2 << 20)), dtype=torch.uint8, device="cuda")
    opened = []
    try:
        with pytest.raises(ArtifactError, match="out of device memory") as caught:
            opened.extend(load(folder) for _ in range(64))
        assert "bytes" in str(caught.value)
    finally:
        for model in opened:
            model.close()
    del hog
    torch.cuda.empty_cache()
    with load(folder) as model:
        arrays = {t.name: np.zeros(t.shape, np.float32) for t in model.inputs}
        model.fetched(model.run(model.placed(arrays)))
