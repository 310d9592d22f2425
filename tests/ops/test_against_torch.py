"""Every op's meaning beside torch's, in float64, on edge shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Case

from graphopt.check.reference import execute
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.ops import OPS
from graphopt.rewrite import infer_types

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

# Sums of tens of products of order 1: both sides round each step to 1.1e-16, in another order.
TOLERANCE = 1e-13


@pytest.mark.parametrize("case", [c for c in CASES if c.expect is not None], ids=lambda c: c.id)
def test_equals_torch(case: Case) -> None:
    got = execute(one_node(case), case.operands)
    tensors = (torch.from_numpy(np.array(x)) for x in case.operands)
    assert case.expect is not None
    want = case.expect(torch, *tensors)
    for ours, theirs in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        expected = theirs.numpy()
        assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE)


def one_node(case: Case) -> Graph:
    inputs = tuple(Value(TensorType.of(x), name=f"x{i}") for i, x in enumerate(case.operands))
    op = OPS[case.op]
    node = Node(op, inputs, case.attrs, infer_types(op, inputs, case.attrs))
    return Graph(inputs, (node,), node.results)
