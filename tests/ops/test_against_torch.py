"""Every op's meaning beside torch's, in float64, on edge shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Case

from graphopt.check.reference import execute

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

# Sums of tens of products of order 1: both sides round each step to 1.1e-16, in another order.
TOLERANCE = 1e-13


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_equals_torch(case: Case) -> None:
    got = execute(case.graph(), case.operands)
    tensors = (torch.from_numpy(np.array(x)) for x in case.operands)
    want = case.expect(torch, *tensors)
    for ours, theirs in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        expected = theirs.numpy()
        assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE)
