"""Every operator that models are known to need imports and means what torch means by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from aten_cases import CASES, CENSUS, MORE, TEXT
from torch.utils import _pytree as pytree

from graphopt.check import execute
from graphopt.frontend.dtypes import as_numpy
from graphopt.frontend.torch_export import export, import_exported, trace
from graphopt.ir.verify import verify

pytestmark = pytest.mark.torch

TOLERANCE = 2e-5
"""Of the largest magnitude, f32 against f32: sums of up to 30 terms and functions of 2 ulp."""


class Call(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


class Everything(torch.nn.Module):
    """All cases as one model, which costs one export: inputs and results by operator."""

    def forward(self, inputs: dict[str, tuple[Any, ...]]) -> dict[str, list[Any]]:
        return {name: pytree.tree_leaves(CASES[name][0](*inputs[name])) for name in CASES}


@dataclass(frozen=True)
class Imported:
    called: frozenset[str]
    results: Mapping[str, Sequence[np.ndarray]]
    expected: Mapping[str, Sequence[np.ndarray]]


@pytest.fixture(scope="module")
def imported() -> Imported:
    inputs = {name: case[1] for name, case in CASES.items()}
    program = export(Everything(), (inputs,))
    graph = import_exported(program)
    verify(graph)
    leaves, structure = pytree.tree_flatten(Everything()(inputs))
    results = execute(graph, [as_numpy(t) for t in pytree.tree_leaves(inputs)])
    return Imported(
        frozenset(str(n.target) for n in program.graph.nodes if n.op == "call_function"),
        pytree.tree_unflatten(results, structure),
        pytree.tree_unflatten([as_numpy(t) for t in leaves], structure),
    )


@pytest.mark.parametrize("name", [*CENSUS, *TEXT, *MORE])
def test_operator_imports_with_its_meaning(name: str, imported: Imported) -> None:
    assert f"aten.{name}" in imported.called, "the case calls another operator"
    pairs = list(zip(imported.results[name], imported.expected[name], strict=True))
    assert pairs
    for result, expected in pairs:
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
        scale = float(np.abs(expected.astype(np.float64)).max(initial=1.0))
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.transformers
def test_experts_of_transformers() -> None:
    """They call an operator of their own where torch has no grouped product to export."""
    pytest.importorskip("transformers.integrations.moe")
    call = torch.ops.transformers.grouped_mm_fallback
    arguments = (torch.randn(4, 3), torch.randn(2, 3, 5), torch.tensor([1, 4]))

    (result,) = execute(trace(Call(call), arguments), [as_numpy(t) for t in arguments])

    np.testing.assert_allclose(result, call(*arguments), rtol=0, atol=TOLERANCE)


DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts_between_all_types(source: torch.dtype) -> None:
    values = torch.tensor([0.0, 1.0, 2.5, 100.0, 3.99]).to(source)
    casts = Call(lambda x: tuple(x.to(target) for target in DTYPES))

    graph = import_exported(export(casts, (values,)))

    results = execute(graph, [as_numpy(values)])
    for result, target in zip(results, DTYPES, strict=True):
        expected = as_numpy(values.to(target))
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
