"""What torch cannot say about the ops: 16-bit rounding, symbolic shapes, costs, ties, coverage."""

from __future__ import annotations

import dataclasses
import math
import typing

import numpy as np
import pytest
from op_cases import CASES, Case

from graphopt.check.reference import execute
from graphopt.ir.text import parse, print_graph
from graphopt.ir.types import DType, SymDim, TensorType
from graphopt.ops import (
    OPS,
    AttentionAttrs,
    Attrs,
    AvgPoolAttrs,
    ConcatAttrs,
    ConvAttrs,
    ConvTransposeAttrs,
    ExpandAttrs,
    LinearAttrs,
    NoAttrs,
    OpDef,
    ReshapeAttrs,
    ResizeAttrs,
    SliceAttrs,
    SoftmaxAttrs,
    SumAttrs,
    TopkAttrs,
    contraction,
)
from graphopt.ops.erf import erf
from graphopt.ops.window import pool_counts, resize_taps

# Their data stands beside the graph, or their meaning in a body: tests/check covers both.
_NOT_ALONE = {"constant", "fused"}


def test_every_op_has_a_case() -> None:
    assert {c.op for c in CASES} == set(OPS) - _NOT_ALONE


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_text_round_trips(case: Case) -> None:
    graph = case.graph()
    assert parse(print_graph(graph)) == graph


@pytest.mark.parametrize("op", OPS.values(), ids=lambda o: o.name)
def test_attributes_can_be_written_as_text(op: OpDef) -> None:
    for hint in typing.get_type_hints(op.attrs).values():
        assert _writable(hint), hint


def _writable(hint: object) -> bool:
    inner = [a for a in typing.get_args(hint) if a is not Ellipsis]
    return (
        all(map(_writable, inner)) if inner else hint in (int, float, bool, str, DType, type(None))
    )


_HALF_CASES = [c for c in CASES if any(x.dtype.kind == "f" for x in c.operands)]


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16], ids=str)
@pytest.mark.parametrize("case", _HALF_CASES, ids=lambda c: c.id)
def test_half_precision_rounds_once(case: Case, dtype: DType) -> None:
    """As float32 on the same 16-bit operands, rounded at the end."""
    with np.errstate(over="ignore"):
        half = [x.astype(dtype.numpy) if x.dtype.kind == "f" else x for x in case.operands]
    got = execute(case.graph(dtype), half)
    want = execute(case.graph(dtype), half, precision=np.float32)
    for ours, single in zip(got, want, strict=True):
        with np.errstate(over="ignore"):
            expected = single.astype(ours.dtype)
        assert DType.of(ours.dtype) in (dtype, DType.of(single.dtype))
        # as float64: numpy's comparison does not know bf16's nan
        np.testing.assert_array_equal(ours.astype(np.float64), expected.astype(np.float64))


def test_operands_survive() -> None:
    """No reference writes into its operands, which other nodes still read."""
    for case in CASES:
        before = [x.copy() for x in case.operands]
        execute(case.graph(), case.operands)
        for x, kept in zip(case.operands, before, strict=True):
            np.testing.assert_array_equal(x, kept)


def test_erf_is_within_4_ulp() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), np.geomspace(1e-300, 10, 500), [0.46875, 4.0]])
    want = np.array([math.erf(v) for v in x])
    assert np.max(np.abs(erf(x) - want) / np.spacing(np.abs(want))) <= 4
    special = np.array([math.inf, -math.inf, -0.0, math.nan])
    np.testing.assert_array_equal(erf(special), [1.0, -1.0, -0.0, math.nan])
    assert np.signbit(erf(special)[2])


def test_topk_keeps_ties_in_order_and_needs_no_negation() -> None:
    x = np.array([3, np.iinfo(np.int64).min, 3, 7, 7])
    values, order = OPS["topk"].reference(x, TopkAttrs(4, 0))
    assert (values.tolist(), order.tolist()) == ([7, 7, 3, 3], [3, 4, 0, 2])
    values, order = OPS["topk"].reference(x, TopkAttrs(2, 0, largest=False))
    assert order.tolist() == [1, 0]


def test_convolution_by_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns larger than the budget are made a few rows at a time, to the same result."""
    cases = [c for c in CASES if c.op == "conv"]
    whole = [execute(c.graph(), c.operands)[0] for c in cases]
    monkeypatch.setattr(contraction, "_COLUMN_ELEMENTS", 40)
    for case, expected in zip(cases, whole, strict=True):
        np.testing.assert_allclose(execute(case.graph(), case.operands)[0], expected, rtol=1e-13)


def test_pool_counts_is_a_scalar_where_all_are_equal() -> None:
    even = AvgPoolAttrs((2, 2), (2, 2), ((0, 0), (0, 0)))
    assert pool_counts((4, 4), even).shape == ()
    ceil = AvgPoolAttrs((2,), (2,), ((0, 1),), count_include_pad=False)
    assert pool_counts((3,), ceil).tolist() == [2.0, 1.0]


def test_resize_taps_sum_to_one() -> None:
    for mode in ("nearest", "bilinear", "bicubic"):
        taps = resize_taps(5, 9, ResizeAttrs((9,), mode), 0)
        np.testing.assert_allclose(sum(w for _, w in taps), 1.0, rtol=1e-14)
        assert all(i.min() >= 0 and i.max() <= 4 for i, _ in taps)


# Symbolic shapes -------------------------------------------------------------------------------

_N = SymDim("n", 1, 8)


def _t(*shape: int | SymDim, dtype: DType = DType.F32) -> TensorType:
    return TensorType(dtype, shape)


@pytest.mark.parametrize(
    ("op", "operands", "attrs", "expected"),
    [
        ("add", [_t(_N, 3), _t(3)], NoAttrs(), _t(_N, 3)),
        ("linear", [_t(_N, 4), _t(5, 4)], LinearAttrs(), _t(_N, 5)),
        ("matmul", [_t(_N, 3, 4), _t(_N, 4, 2)], NoAttrs(), _t(_N, 3, 2)),
        ("softmax", [_t(_N, 4)], SoftmaxAttrs(0), _t(_N, 4)),
        ("sum", [_t(_N, 4)], SumAttrs((1,)), _t(_N)),
        ("reshape", [_t(_N, 12)], ReshapeAttrs((-1, 3, 4)), _t(_N, 3, 4)),
        ("expand", [_t(_N, 1)], ExpandAttrs((2, -1, 3)), _t(2, _N, 3)),
        ("slice", [_t(_N, 4)], SliceAttrs((0, 1), (8, 3), (1, 1)), _t(_N, 2)),
        ("concat", [_t(_N, 4), _t(_N, 1)], ConcatAttrs(1), _t(_N, 5)),
        (
            "conv",
            [_t(_N, 3, 8, 8), _t(4, 3, 3, 3)],
            ConvAttrs((1, 1), ((1, 1), (1, 1)), (1, 1)),
            _t(_N, 4, 8, 8),
        ),
        (
            "attention",
            [_t(1, 2, _N, 4), _t(1, 2, _N, 4), _t(1, 2, _N, 4)],
            AttentionAttrs(1.0),
            _t(1, 2, _N, 4),
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_symbolic_dims_pass_through(
    op: str, operands: list[TensorType], attrs: Attrs, expected: TensorType
) -> None:
    assert OPS[op].infer(*operands, attrs) == expected


# Costs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "operands", "attrs", "expected"),
    [
        ("matmul", [_t(2, 3, 4), _t(4, 5)], NoAttrs(), 2 * 2 * 3 * 4 * 5),
        ("linear", [_t(3, 4), _t(5, 4), _t(5)], LinearAttrs(), 2 * 3 * 4 * 5 + 3 * 5),
        ("linear", [_t(_N, 4), _t(5, 4)], LinearAttrs(), 2 * 8 * 4 * 5),
        (
            "conv",
            [_t(1, 4, 6, 6), _t(8, 2, 3, 3)],
            ConvAttrs((1, 1), ((1, 1), (1, 1)), (1, 1), 2),
            2 * 8 * 36 * 2 * 9,
        ),
        (
            "conv_transpose",
            [_t(1, 4, 3, 3), _t(4, 2, 2, 2)],
            ConvTransposeAttrs((2, 2), (0, 0), (0, 0), (1, 1)),
            2 * 4 * 9 * 2 * 4,
        ),
        (
            "grouped_matmul",
            [_t(6, 4), _t(3, 4, 5), _t(3, dtype=DType.I32)],
            NoAttrs(),
            2 * 6 * 4 * 5,
        ),
        (
            "gathered_matmul",
            [_t(6, 2, 4), _t(3, 4, 5), _t(6, dtype=DType.I64)],
            NoAttrs(),
            2 * 12 * 4 * 5,
        ),
        ("add", [_t(4, 1), _t(3)], NoAttrs(), 12),
        ("sum", [_t(4, 3)], SumAttrs((0,)), 12),
        ("reshape", [_t(4)], ReshapeAttrs((2, 2)), 0),
        (
            "attention",
            [_t(1, 2, 3, 4), _t(1, 2, 5, 4), _t(1, 2, 5, 6)],
            AttentionAttrs(1.0),
            2 * 3 * 5 * (8 + 12 + 10),
        ),
        ("attention", [_t(1, 2, 4, 4)] * 3, AttentionAttrs(1.0, True), 2 * 10 * (8 + 8 + 10)),
        ("attention", [_t(1, 1, 4, 4)] * 3, AttentionAttrs(1.0, window=2), 10 * (8 + 8 + 10)),
        ("attention", [_t(1, 1, 4, 4)] * 3, AttentionAttrs(1.0, True, 2), 7 * (8 + 8 + 10)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_flops(op: str, operands: list[TensorType], attrs: Attrs, expected: int) -> None:
    assert OPS[op].flops(*operands, attrs) == expected


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 3, 9])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 7), (3, 8), (8, 3), (0, 4), (4, 0)])
def test_scores_that_are_seen(queries: int, keys: int, causal: bool, window: int) -> None:
    attrs = AttentionAttrs(1.0, causal, window)
    seen = attrs.seen(queries, keys)
    assert attrs.scores(queries, keys) == seen.sum()
    for rows, columns in ((1, 3), (2, 1), (3, 2)):
        tiles = [
            part.size
            for i in range(0, queries, rows)
            for j in range(0, keys, columns)
            if (part := seen[i : i + rows, j : j + columns]).any()
        ]
        assert attrs.scores(queries, keys, rows, columns) >= sum(tiles)
        if not window:
            assert attrs.scores(queries, keys, rows, columns) == sum(tiles)


def test_attributes_are_frozen() -> None:
    for op in OPS.values():
        assert dataclasses.is_dataclass(op.attrs)
        assert op.attrs.__dataclass_params__.frozen, op.name
