"""Writes under a bool mask, in every form that torch has, against torch itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from test_aten_coverage import Call
from torch import Tensor

from graphopt.check import execute
from graphopt.frontend.dtypes import as_numpy
from graphopt.frontend.torch_export import trace

pytestmark = pytest.mark.torch

X = torch.arange(60.0).reshape(3, 4, 5)


def _mask(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(7)) > 0.5


def _values(*shape: int) -> Tensor:
    return -torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


ROWS, COLUMNS, ALL, LEADING = _mask(3, 4), _mask(4, 5), _mask(3, 4, 5), _mask(3)
N_ROWS, N_COLUMNS, N_ALL, N_LEADING = (int(m.sum()) for m in (ROWS, COLUMNS, ALL, LEADING))
assert all(n > 1 for n in (N_ROWS, N_COLUMNS, N_ALL, N_LEADING))


def _check(function: Callable[..., Tensor], *inputs: Tensor) -> Any:
    """The graph, which moves values and adds them once: exactly torch's result."""
    graph = trace(Call(function).eval(), inputs)
    result = execute(graph, [as_numpy(t) for t in inputs])[0]
    np.testing.assert_array_equal(result, function(*inputs).numpy())
    return graph


SCATTERED = [
    ("element by element", X, ALL, _values(N_ALL)),
    ("more than it takes", X, ALL, _values(70)),
    ("rows", X, ROWS[..., None], _values(N_ROWS, 5)),
    ("rows and a part of one", X, ROWS[..., None], _values(N_ROWS * 5 + 3)),
    ("planes", X, LEADING[:, None, None], _values(N_LEADING, 4, 5)),
    ("a mask of fewer axes", X, COLUMNS, _values(3 * N_COLUMNS)),
    ("a mask of more axes", X[0], ALL, _values(N_ALL)),
    ("one truth", X, torch.tensor(True), _values(60)),
    ("nothing", X, torch.zeros(3, 4, 5, dtype=torch.bool), _values(0)),
    ("numbers of another type", X.long(), ALL, _values(N_ALL).long()),
]


@pytest.mark.parametrize(("x", "mask", "source"), [c[1:] for c in SCATTERED],
                         ids=[c[0] for c in SCATTERED])  # fmt: skip
def test_masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> None:
    _check(lambda x, m, s: x.masked_scatter(m, s), x, mask, source)


def test_an_expanded_mask_moves_rows() -> None:
    """As a model puts embeddings of images among those of text."""
    graph = _check(
        lambda x, m, s: x.masked_scatter(m[..., None].expand_as(x), s), X, ROWS, _values(N_ROWS, 5)
    )
    gathers = [n for n in graph.nodes if n.op.name == "gather"]
    assert [n.operands[1].type.dims for n in gathers] == [(3, 4)]


def test_values_that_run_out_come_again() -> None:
    """What torch refuses when it runs has a meaning here, and reads nothing outside."""
    inputs = X[0, 0], torch.tensor([True, True, False, True, True]), _values(2)
    graph = trace(Call(lambda x, m, s: x.masked_scatter(m, s)).eval(), inputs)
    result = execute(graph, [as_numpy(t) for t in inputs])[0]
    np.testing.assert_array_equal(result, [-1, -2, 2, -2, -2])


PUT = [
    ("a row each", ROWS, 0, _values(N_ROWS, 5)),
    ("one row", ROWS, 0, _values(5)),
    ("one row, an axis of one", ROWS, 0, _values(1, 5)),
    ("a number each", ROWS, 0, _values(N_ROWS, 1)),
    ("a number", ROWS, 0, torch.tensor(-3.0)),
    ("planes", LEADING, 0, _values(N_LEADING, 4, 5)),
    ("one plane", LEADING, 0, _values(4, 5)),
    ("elements", ALL, 0, _values(N_ALL)),
    ("one element", ALL, 0, _values(1)),
    ("columns", COLUMNS, 1, _values(3, N_COLUMNS)),
    ("columns, for every row", COLUMNS, 1, _values(N_COLUMNS)),
    ("an axis between", _mask(4), 1, _values(3, int(_mask(4).sum()), 5)),
    ("an axis between, for all", _mask(4), 1, _values(1, 5)),
]


@pytest.mark.parametrize("accumulate", [False, True], ids=["put", "add"])
@pytest.mark.parametrize(("mask", "at", "values"), [c[1:] for c in PUT], ids=[c[0] for c in PUT])
def test_index_put(mask: Tensor, at: int, values: Tensor, accumulate: bool) -> None:
    def put(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
        return torch.ops.aten.index_put(x, [None] * at + [m], v, accumulate)

    _check(put, X, mask, values)
