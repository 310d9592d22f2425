"""The emulated kernel tests' cases on a GPU: sizes that no tile divides, layouts, types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gpu_cases import FAMILIES, Wanted, artifact, family, inputs_of, merged

from graphopt.artifact.loader import Model, load
from graphopt.check.reference import execute
from graphopt.driver import Options
from graphopt.ir.types import DType

Made = Callable[[str], Path]

# As in emulation: sums of K products lose about sqrt(K) * 2**-24 of the largest term; halves are
# rounded at most twice.
TOLERANCE = {DType.F32: 70 * 2.0**-24, DType.F16: 2.0**-9, DType.BF16: 2.0**-6}


def _check(model: Model, name: str) -> None:
    cases = family(name)
    arrays = inputs_of(cases)
    results = model.fetched(model.run(model.placed(arrays)))
    wrong = [
        f"{name}: {got.dtype} off by {off:.2g} of {allowed:.2g}"
        for name, case in cases.items()
        for got, off, allowed in _differences(name, case, results)
        if off > allowed
    ]
    assert not wrong, "\n".join(wrong)


def _differences(name, case, results):
    expected = execute(case.graph, list(case.inputs), precision=np.float64)
    for i, wanted in enumerate(expected):
        got = results[f"{name}/{i}"]
        allowed = case.tolerance or TOLERANCE.get(DType.of(got.dtype), 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = wanted.astype(got.dtype).astype(np.float64)
        same = (got.astype(np.float64) == rounded) | (np.isnan(rounded) & (got != got))
        finite = np.isfinite(rounded)
        scale = np.abs(rounded[finite]).max(initial=1.0)
        with np.errstate(invalid="ignore"):
            off = np.where(same, 0.0, np.abs(got.astype(np.float64) - rounded) / scale)
        yield got, float(np.nan_to_num(off, nan=np.inf).max(initial=0.0)), allowed


@pytest.mark.gpu
@pytest.mark.parametrize("name", FAMILIES)
def test_kernels_on_gpu(name: str, made: Made):
    with load(made(name)) as model:
        _check(model, name)


@pytest.mark.compiler
@pytest.mark.parametrize("name", ["scans", "attention"])
def test_a_family_as_one_model_in_emulation(name: str, tmp_path: Path):
    """What the tests above do, without a GPU: proof that the cases are put together rightly, and
    that kernels find their workspace."""
    want = Wanted(name, lambda: merged(family(name)), Options(passes="fuse,plan-memory"))
    with load(artifact(want, tmp_path, "cuda:emulated")) as model:
        _check(model, name)
