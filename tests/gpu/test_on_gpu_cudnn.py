"""Attention by cuDNN on a GPU, against float64: masks, grouped heads, tensors in one buffer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gpu_cases import family
from test_on_gpu_kernels import _check

from graphopt.artifact.format import read_manifest
from graphopt.artifact.loader import load
from graphopt.errors import GraphoptError

pytestmark = pytest.mark.gpu


def test_attention_by_cudnn_on_gpu(made: Callable[[str], Path]):
    """The first run records a graph, the second launches it."""
    folder = made("cudnn_attention")
    calls = [c.kernel for c in read_manifest(folder).calls]
    assert sum(c.startswith("cudnn_attention") for c in calls) == len(family("cudnn_attention"))
    try:
        opened = load(folder)
    except GraphoptError as error:
        if not error.message.startswith("cuDNN is version"):
            raise
        pytest.skip(error.message)
    with opened as model:
        _check(model, "cudnn_attention")
        _check(model, "cudnn_attention")
