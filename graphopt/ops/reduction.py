"""Reductions over axes, and the ops that scan or select along one axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType, TensorType
from graphopt.ops.base import Attrs, OpDef
from graphopt.ops.define import (
    check_axes,
    check_axis,
    check_bool,
    check_float,
    check_not_empty,
    check_number,
    define,
    static_extent,
)


@dataclass(frozen=True)
class ReduceAttrs(Attrs):
    """`axes` to reduce; `keepdims` leaves them as 1. No axes: nothing is reduced."""

    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True)
class SumAttrs(ReduceAttrs):
    """In the operand's dtype: integers wrap."""


@dataclass(frozen=True)
class MeanAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class MaxAttrs(ReduceAttrs):
    """nan wins."""


@dataclass(frozen=True)
class MinAttrs(ReduceAttrs):
    """nan wins."""


@dataclass(frozen=True)
class ProdAttrs(ReduceAttrs):
    """In the operand's dtype: integers wrap."""


@dataclass(frozen=True)
class AnyAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class AllAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class AxisAttrs(Attrs):
    """One axis, counted from the front."""

    axis: int


@dataclass(frozen=True)
class ArgmaxAttrs(AxisAttrs):
    """Index of the first largest element; of the first nan where there is one."""

    keepdims: bool = False


@dataclass(frozen=True)
class ArgminAttrs(AxisAttrs):
    """Index of the first smallest element; of the first nan where there is one."""

    keepdims: bool = False


@dataclass(frozen=True)
class CumsumAttrs(AxisAttrs): ...


@dataclass(frozen=True)
class TopkAttrs(Attrs):
    """The `k` largest (or smallest) along `axis`, in order; equal ones by position; nan is larger
    than everything."""

    k: int
    axis: int
    largest: bool = True


def reduced_type(x: TensorType, axes: tuple[int, ...], keepdims: bool) -> TensorType:
    """x without `axes`, or with 1 in their place."""
    if keepdims:
        return TensorType(x.dtype, tuple(1 if i in axes else d for i, d in enumerate(x.shape)))
    return TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def _any(name: str, x: TensorType) -> None:
    del name, x


def _reduce(
    name: str,
    attrs: type[ReduceAttrs],
    f: Callable[..., Any],
    check: Callable[[str, TensorType], None],
    *,
    needs_element: bool = False,
) -> OpDef:
    def infer(x: TensorType, a: ReduceAttrs) -> TensorType:
        check(name, x)
        check_axes(name, x, a.axes)
        if needs_element:
            check_not_empty(name, x, a.axes)
        return reduced_type(x, a.axes, a.keepdims)

    def reference(x: np.ndarray, a: ReduceAttrs) -> np.ndarray:
        return np.asarray(f(x, axis=a.axes, keepdims=a.keepdims)).astype(x.dtype, copy=False)

    return define(name, attrs, infer, reference, _one_each, kind="reduction", operands=1)


def _mean(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    """Of nothing: nan. np.mean warns of that."""
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return np.asarray(total / x.dtype.type(math.prod(x.shape[a] for a in axis)))


def _arg(name: str, attrs: type[Attrs], f: Callable[..., Any]) -> OpDef:
    def infer(x: TensorType, a: Any) -> TensorType:
        check_axis(name, x, a.axis)
        check_not_empty(name, x, (a.axis,))
        return reduced_type(x, (a.axis,), a.keepdims).with_dtype(DType.I64)

    def reference(x: np.ndarray, a: Any) -> np.ndarray:
        return np.asarray(f(x, axis=a.axis, keepdims=a.keepdims), np.int64)

    return define(name, attrs, infer, reference, _one_each, kind="reduction", operands=1)


def _one_each(x: TensorType, _: Attrs) -> int:
    return x.numel


def _cumsum_infer(x: TensorType, a: CumsumAttrs) -> TensorType:
    check_number("cumsum", x)
    check_axis("cumsum", x, a.axis)
    return x


def _cumsum(x: np.ndarray, a: CumsumAttrs) -> np.ndarray:
    return np.cumsum(x, axis=a.axis, dtype=x.dtype)


def _topk_infer(x: TensorType, a: TopkAttrs) -> tuple[TensorType, TensorType]:
    check_axis("topk", x, a.axis)
    extent = static_extent("topk", x, a.axis)
    if not 0 <= a.k <= extent:
        raise IRError(f"topk: k={a.k}, but axis {a.axis} of {x} has {extent} elements",
                      hint=f"choose k in [0, {extent}]")  # fmt: skip
    shape = tuple(a.k if i == a.axis else d for i, d in enumerate(x.shape))
    return TensorType(x.dtype, shape), TensorType(DType.I64, shape)


def _topk(x: np.ndarray, a: TopkAttrs) -> tuple[np.ndarray, np.ndarray]:
    if a.largest:
        # Sorting the mirror image and reading it backwards keeps equal elements in order, without
        # negating (which has no inverse for the least integer) and with nan in front.
        order = np.argsort(np.flip(x, a.axis), axis=a.axis, kind="stable")
        order = x.shape[a.axis] - 1 - np.flip(order, a.axis)
    else:
        order = np.argsort(x, axis=a.axis, kind="stable")
    order = np.take(order, np.arange(a.k), axis=a.axis)
    return np.take_along_axis(x, order, axis=a.axis), order.astype(np.int64)


OPS = (
    _reduce("sum", SumAttrs, np.sum, check_number),
    _reduce("mean", MeanAttrs, _mean, check_float),
    _reduce("max", MaxAttrs, np.max, _any, needs_element=True),
    _reduce("min", MinAttrs, np.min, _any, needs_element=True),
    _reduce("prod", ProdAttrs, np.prod, check_number),
    _reduce("any", AnyAttrs, np.any, check_bool),
    _reduce("all", AllAttrs, np.all, check_bool),
    _arg("argmax", ArgmaxAttrs, np.argmax),
    _arg("argmin", ArgminAttrs, np.argmin),
    define("cumsum", CumsumAttrs, _cumsum_infer, _cumsum, _one_each, kind="reduction", operands=1),
    define("topk", TopkAttrs, _topk_infer, _topk, _one_each, kind="reduction", operands=1),
)
