"""Tensors of no elements: every op with each of its extents 0, by the reference and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from op_cases import CASES

from graphopt.artifact.loader import address_of, load
from graphopt.check import execute
from graphopt.driver import Options, build
from graphopt.errors import IRError
from graphopt.ir.graph import Graph, Value
from graphopt.ir.infer import infer
from graphopt.ir.text import parse
from graphopt.ir.types import TensorType
from graphopt.ops import (
    OPS,
    AttentionAttrs,
    Attrs,
    ConvAttrs,
    ExpandAttrs,
    LinearAttrs,
    NoAttrs,
    ReshapeAttrs,
    SliceAttrs,
    SumAttrs,
)
from graphopt.rewrite import Rewriter

TOLERANCE = 8 * 2.0**-24
"""Of the largest magnitude: means of five numbers in float32."""

Call = tuple[str, tuple[np.ndarray, ...], Attrs]
"""op, operands, attributes"""

_UNDEFINED = {"gather_nd", "scatter_nd", "scatter_along"}
"""Ops whose infer knows no values: positions in an axis of no elements are outside."""


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _cut() -> Iterator[Call]:
    """Every case of the table with each of its extents made 0 in all operands."""
    seen = set()
    for case in CASES:
        for extent in {d for o in case.operands for d in o.shape if d}:
            operands = tuple(
                o[tuple(slice(0) if d == extent else slice(None) for d in o.shape)]
                for o in case.operands
            )
            key = (case.op, tuple((o.dtype, o.shape) for o in operands), case.attrs)
            if key in seen:
                continue
            seen.add(key)
            yield case.op, operands, case.attrs


_WRITTEN: tuple[Call, ...] = (
    ("reshape", (ones(0, 3),), ReshapeAttrs((6, 0))),
    ("expand", (ones(1, 3),), ExpandAttrs((0, 3))),
    ("slice", (ones(4, 3),), SliceAttrs((2, 0), (2, 3), (1, 1))),
    ("sum", (ones(2, 0, 3),), SumAttrs((0, 1))),
    ("linear", (ones(2, 0), ones(3, 0), ones(3)), LinearAttrs()),
    ("linear", (ones(0, 4), ones(3, 4), ones(3)), LinearAttrs()),
    ("matmul", (ones(2, 0), ones(0, 3)), NoAttrs()),
    (
        "conv",
        (ones(2, 0, 5, 5), ones(3, 0, 3, 3), ones(3)),
        ConvAttrs((1, 1), ((1, 1), (1, 1)), (1, 1)),
    ),
    ("conv", (ones(2, 0, 5, 5), ones(3, 0, 3, 3)), ConvAttrs((2, 2), ((0, 0), (0, 0)), (1, 1))),
    ("concat", (ones(2, 0), ones(2, 3)), OPS["concat"].attrs(1)),
    ("attention", (ones(1, 2, 3, 4), ones(1, 2, 0, 4), ones(1, 2, 0, 4)), AttentionAttrs(0.5)),
    ("attention", (ones(1, 2, 3, 0), ones(1, 2, 3, 0), ones(1, 2, 3, 4)), AttentionAttrs(0.5)),
)


def _accepted() -> list[Call]:
    out = []
    for op, operands, attrs in (*_cut(), *_WRITTEN):
        try:
            infer(OPS[op], [TensorType.of(o) for o in operands], attrs)
        except IRError:
            continue
        if op in _UNDEFINED and all(d for d in operands[1].shape):
            continue
        out.append((op, operands, attrs))
    return out


CALLS = _accepted()


def _together(calls: list[Call]) -> tuple[Graph, list[np.ndarray]]:
    """One graph of all calls: compiling it once is what makes this test quick."""
    arrays = [x for _, operands, _ in calls for x in operands]
    inputs = tuple(Value(TensorType.of(x), name=f"x{i}") for i, x in enumerate(arrays))
    rw = Rewriter(Graph(inputs, (), ()))
    values = iter(rw.inputs)
    for op, operands, attrs in calls:
        node = rw.insert(op, [next(values) for _ in operands], attrs)
        rw.outputs.extend(node.results)
    return rw.freeze(), arrays


def test_no_op_is_left_out() -> None:
    sources = {"constant", "fused", "full", "iota"}
    assert {op for op, _, _ in CALLS} == set(OPS) - sources


@pytest.mark.compiler
@pytest.mark.parametrize("level", ["O0", "O2"])
def test_compiles_and_means_what_the_reference_says(level: str, tmp_path: Path) -> None:
    calls = [c for c in CALLS if c[0] != "gather_nd"]  # has no lowering
    calls = [(op, tuple(_single(x) for x in operands), attrs) for op, operands, attrs in calls]
    graph, arrays = _together(calls)
    made = build(graph, out=tmp_path / "artifact", options=Options(level=level))
    assert made.artifact is not None

    results = load(made.artifact)(*arrays)

    for result, wanted in zip(results, execute(graph, arrays), strict=True):
        largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
        np.testing.assert_allclose(result, wanted, rtol=0, atol=TOLERANCE * largest)


def _single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype == np.float64 else x


@pytest.mark.compiler
@pytest.mark.torch
def test_empty_tensors_of_torch_are_passed(tmp_path: Path) -> None:
    """Whose address is NULL."""
    torch = pytest.importorskip("torch")
    graph = parse("""
        %x = input : f32[0,3]
        %y = input : f32[2,3]
        %z = concat %x, %y {axis=0}
        %r = relu %x
        return %z, %r""")
    made = build(graph, out=tmp_path / "artifact")
    y = torch.randn(2, 3)

    whole, empty = load(made.artifact)(torch.empty(0, 3), y)

    assert torch.equal(whole, y)
    assert empty.shape == (0, 3)
    address = address_of(torch.empty(0, 3))
    assert address
    assert address % 16 == 0, "as models for GPUs ask of every tensor"
