"""Reductions, norms, products and attention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphopt.ops import (
    AllAttrs,
    AnyAttrs,
    ArgmaxAttrs,
    ArgminAttrs,
    AttentionAttrs,
    BatchNormAttrs,
    CumsumAttrs,
    GroupNormAttrs,
    LayerNormAttrs,
    LinearAttrs,
    LogSoftmaxAttrs,
    MaxAttrs,
    MeanAttrs,
    MinAttrs,
    ProdAttrs,
    RmsNormAttrs,
    SoftmaxAttrs,
    SumAttrs,
    TopkAttrs,
)
from op_cases.base import NO, RNG, Case, along, bools, ints, named, normal, positive

# Reductions and norms --------------------------------------------------------------------------

_REDUCE_AXES = (((1,), False), ((0, 2), True), ((0, 1, 2), False))


def _reductions() -> Iterator[Case]:
    x = normal(3, 4, 5)
    for axes, keep in _REDUCE_AXES:
        label = f"{''.join(map(str, axes))}{'k' if keep else ''}"
        for op, attrs, name in (
            ("sum", SumAttrs, "sum"),
            ("mean", MeanAttrs, "mean"),
            ("max", MaxAttrs, "amax"),
            ("min", MinAttrs, "amin"),
        ):
            yield Case(
                op,
                label,
                (x,),
                attrs(axes, keep),
                lambda t, x, n=name, a=axes, k=keep: getattr(t, n)(x, dim=a, keepdim=k),
            )
        yield Case(
            "any",
            label,
            (x > 1.5,),
            AnyAttrs(axes, keep),
            lambda t, x, a=axes, k=keep: t.any(x, dim=a, keepdim=k),
        )
        yield Case(
            "all",
            label,
            (x > -1.5,),
            AllAttrs(axes, keep),
            lambda t, x, a=axes, k=keep: t.all(x, dim=a, keepdim=k),
        )
    yield Case("prod", "1", (x,), ProdAttrs((1,)), lambda t, x: t.prod(x, 1))
    yield Case("sum", "no axes", (x,), SumAttrs(()), lambda t, x: x)
    yield Case("sum", "empty", (normal(2, 0),), SumAttrs((1,)), lambda t, x: t.sum(x, 1))
    i = ints(-9, 9, 3, 4, dtype=np.int32)
    yield Case("sum", "i32", (i,), SumAttrs((0,)), lambda t, x: t.sum(x, 0, dtype=t.int32))
    yield Case("max", "i32", (i,), MaxAttrs((1,), True), lambda t, x: t.amax(x, 1, keepdim=True))
    nan = np.array([[1.0, math.nan, 3.0], [4.0, 2.0, 4.0]])
    yield Case("max", "nan", (nan,), MaxAttrs((1,)), lambda t, x: t.amax(x, 1))
    for op, attrs in (("argmax", ArgmaxAttrs), ("argmin", ArgminAttrs)):
        for axis, keep in ((0, False), (2, True)):
            yield Case(
                op,
                f"{axis}",
                (x,),
                attrs(axis, keep),
                lambda t, x, o=op, a=axis, k=keep: getattr(t, o)(x, a, k),
            )
        yield Case(op, "nan", (nan,), attrs(1), along(op, 1))
        yield Case(op, "size 1", (normal(3, 1),), attrs(1), along(op, 1))
    yield Case("cumsum", "1", (x,), CumsumAttrs(1), along("cumsum", 1))
    yield Case("cumsum", "i64", (ints(-5, 5, 6),), CumsumAttrs(0), along("cumsum", 0))
    for largest in (True, False):
        for values in (x, RNG.permutation(60).reshape(3, 4, 5)):
            yield Case(
                "topk",
                f"{values.dtype}-{largest}",
                (values,),
                TopkAttrs(3, 1, largest),
                lambda t, x, b=largest: tuple(t.topk(x, 3, 1, b)),
            )
    yield Case("topk", "nan", (nan[:1],), TopkAttrs(2, 1), lambda t, x: tuple(t.topk(x, 2, 1)))


def _norms() -> Iterator[Case]:
    x = normal(2, 6, 3, 5)
    for axis in (0, 1, 3):
        yield Case("softmax", f"{axis}", (x,), SoftmaxAttrs(axis), along("softmax", axis))
        yield Case(
            "log_softmax", f"{axis}", (x,), LogSoftmaxAttrs(axis), along("log_softmax", axis)
        )
    large = np.array([[1000.0, 999.0, -math.inf], [-math.inf, 0.0, 3.0]])
    yield Case("softmax", "large", (large,), SoftmaxAttrs(1), along("softmax", 1))
    yield Case("log_softmax", "large", (large,), LogSoftmaxAttrs(1), along("log_softmax", 1))
    yield Case("softmax", "size 1", (normal(4, 1),), SoftmaxAttrs(1), along("softmax", 1))
    for axes in (1, 2):
        shape = x.shape[-axes:]
        w, b = normal(*shape), normal(*shape)
        yield Case(
            "layer_norm",
            f"{axes}",
            (x, w, b),
            LayerNormAttrs(axes, 1e-5),
            lambda t, x, w, b: t.nn.functional.layer_norm(x, w.shape, w, b, 1e-5),
        )
        yield Case(
            "rms_norm",
            f"{axes}",
            (x, w),
            RmsNormAttrs(axes, 1e-6),
            lambda t, x, w: t.nn.functional.rms_norm(x, w.shape, w, 1e-6),
        )
    for shape in ((2, 6, 3, 5), (1, 6), (3, 6, 4)):
        x, w, b = normal(*shape), normal(6), normal(6)
        for groups in (1, 3) if len(shape) == 2 else (1, 3, 6):  # torch wants two values a group
            yield Case(
                "group_norm",
                f"{len(shape)}d-{groups}",
                (x, w, b),
                GroupNormAttrs(groups, 1e-5),
                lambda t, x, w, b, g=groups: t.nn.functional.group_norm(x, g, w, b, 1e-5),
            )
        yield Case(
            "batch_norm",
            f"{len(shape)}d",
            (x, w, b, normal(6), positive(6)),
            BatchNormAttrs(1e-3),
            lambda t, x, w, b, m, v: t.nn.functional.batch_norm(x, m, v, w, b, eps=1e-3),
        )


# Contractions ----------------------------------------------------------------------------------


def _products() -> Iterator[Case]:
    for a, b in (
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 1)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((1, 1), (1, 1)),
        ((2, 3, 0), (2, 0, 4)),
    ):
        yield Case("matmul", f"{a}{b}", (normal(*a), normal(*b)), NO, named("matmul"))
    for dtype in (np.int8, np.int32, np.int64):
        a, b = ints(-99, 99, 3, 7, dtype=dtype), ints(-99, 99, 7, 2, dtype=dtype)
        yield Case("matmul", np.dtype(dtype).name, (a, b), NO, named("matmul"))
    huge = ints(-(2**31), 2**31, 2, 3), ints(-(2**31), 2**31, 3, 2)
    yield Case("matmul", "beyond 2**53", huge, NO, named("matmul"))
    for shape in ((4,), (3, 4), (2, 1, 3, 4)):
        x, w = normal(*shape), normal(5, 4)
        yield Case(
            "linear",
            f"{len(shape)}d",
            (x, w),
            LinearAttrs(),
            lambda t, *xs: t.nn.functional.linear(*xs),
        )
        yield Case(
            "linear",
            f"{len(shape)}d-bias",
            (x, w, normal(5)),
            LinearAttrs(),
            lambda t, *xs: t.nn.functional.linear(*xs),
        )


def _of_experts() -> Iterator[Case]:
    """Empty groups, rows of none, one group of all."""
    for ends in ([2, 2, 6], [0, 0, 0], [6, 6, 6], [1, 3, 5]):
        for dtype in (np.int32, np.int64):
            operands = normal(6, 4), normal(3, 4, 5), np.array(ends, dtype)
            yield Case("grouped_matmul", f"{ends}-{np.dtype(dtype).name}", operands, NO, _by_ends)
    for index in ([2, 0, 0, 1], [-1, 3, 2, 1]):
        operands = normal(4, 2, 5), normal(3, 5, 7), np.array(index)
        yield Case("gathered_matmul", f"{index}", operands, NO, _by_index)
    whole = ints(-9, 9, 4, 2, 5), ints(-9, 9, 3, 5, 7), np.array([0, 2, 5, 1], np.int32)
    yield Case("gathered_matmul", "int", whole, NO, _by_index)
    one = ints(-9, 9, 3, 5), ints(-9, 9, 1, 5, 7), np.array([2])
    yield Case("grouped_matmul", "int", one, NO, _by_ends)


def _by_ends(t: Any, x: Any, w: Any, ends: Any) -> Any:
    starts = t.cat([ends.new_zeros(1), ends[:-1]])
    row = t.arange(len(x))[:, None]
    inside = (row >= starts) & (row < ends)
    return t.einsum("sk,ekn,se->sn", x, w, inside.to(x.dtype))


def _by_index(t: Any, x: Any, w: Any, index: Any) -> Any:
    chosen = t.arange(len(w)) == index[:, None]
    return t.einsum("bmk,ekn,be->bmn", x, w, chosen.to(x.dtype))


# Attention -------------------------------------------------------------------------------------


def _attentions() -> Iterator[Case]:
    for label, s, t_, h, hk, causal in (
        ("plain", 5, 5, 2, 2, False),
        ("causal", 5, 5, 2, 2, True),
        ("causal s < t", 3, 6, 2, 2, True),
        ("causal s > t", 6, 3, 1, 1, True),
        ("grouped", 4, 5, 6, 2, False),
        ("one key", 4, 1, 4, 1, False),
        ("one query", 1, 7, 2, 2, False),
    ):
        operands = (normal(2, h, s, 8), normal(2, hk, t_, 8), normal(2, hk, t_, 3))
        yield Case(
            "attention",
            label,
            operands,
            AttentionAttrs(0.3, causal),
            lambda t, q, k, v, c=causal: t.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=c, scale=0.3, enable_gqa=True
            ),
        )
    for s, t_, causal, window in ((6, 6, False, 2), (6, 6, True, 3), (2, 7, False, 4),
                                  (7, 2, True, 1)):  # fmt: skip
        apart = np.arange(s)[:, None] - np.arange(t_)
        near = (np.abs(apart) < window) & ((apart >= 0) | (not causal))
        yield Case(
            "attention",
            f"window {window} of {s}x{t_}",
            (normal(2, 2, s, 8), normal(2, 2, t_, 8), normal(2, 2, t_, 3)),
            AttentionAttrs(0.3, causal, window),
            lambda t, q, k, v, m=near: t.nn.functional.scaled_dot_product_attention(
                q, k, v, t.tensor(m), scale=0.3
            ),
        )
    q, k, v = normal(2, 4, 3, 8), normal(2, 4, 5, 8), normal(2, 4, 5, 8)
    keep = bools(2, 1, 3, 5)
    keep[..., 0] = True
    holes = keep.copy()
    holes[1, 0, 2] = False  # one row sees nothing
    for label, mask in (
        ("bool", keep),
        ("float", normal(4, 3, 5)),
        ("row", normal(1, 5)),
        ("nothing", holes),
    ):
        yield Case(
            "attention",
            f"mask {label}",
            (q, k, v, mask),
            AttentionAttrs(1.0),
            lambda t, q, k, v, m: t.nn.functional.scaled_dot_product_attention(
                q, k, v, m, scale=1.0
            ),
        )


CASES: tuple[Case, ...] = tuple(
    case
    for family in (_reductions, _norms, _products, _of_experts, _attentions)
    for case in family()
)
