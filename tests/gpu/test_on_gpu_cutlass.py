"""Products and convolutions by CUTLASS on a GPU, against float64: each schedule and each kind of
leaf of a tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpu_cases import CUTLASS_FAMILIES, family, inputs_of
from test_on_gpu_kernels import _check

from graphopt.artifact.format import read_manifest
from graphopt.artifact.loader import load

pytestmark = pytest.mark.gpu

Made = Callable[[str], Path]


@pytest.mark.parametrize("name", CUTLASS_FAMILIES)
def test_cutlass_on_gpu(name: str, made: Made):
    """The first run records a graph, the second launches it: parts of tiles meet in a workspace
    that must be clear again."""
    folder = made(name)
    calls = [c.kernel for c in read_manifest(folder).calls]
    assert sum(c.startswith("cutlass") for c in calls) == len(family(name))
    with load(folder) as model:
        _check(model, name)
        _check(model, name)


def test_cutlass_gives_the_same_bits_on_gpu(made: Made):
    """Parts of k are added up in a fixed order."""
    with load(made("cutlass")) as model:
        arrays = model.placed(inputs_of(family("cutlass")))
        first, second = (model.fetched(model.run(arrays)) for _ in range(2))
    for name, got in first.items():
        np.testing.assert_array_equal(got, second[name])
