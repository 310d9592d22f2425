"""Reductions over axes, and the ops that scan or select along one axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType, TensorType
from graphopt.ops.base import Attrs, OpDef


@dataclass(frozen=True)
class ReduceAttrs(Attrs):
    """`axes` in ascending order; `keepdims` leaves them as 1."""

    axes: tuple[int, ...]
    keepdims: bool = False


@dataclass(frozen=True)
class SumAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class MeanAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class MaxAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class MinAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class ProdAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class AnyAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class AllAttrs(ReduceAttrs): ...


@dataclass(frozen=True)
class AxisAttrs(Attrs):
    axis: int


@dataclass(frozen=True)
class ArgmaxAttrs(AxisAttrs):
    """Index of the first largest element."""

    keepdims: bool = False


@dataclass(frozen=True)
class ArgminAttrs(AxisAttrs):
    """Index of the first smallest element."""

    keepdims: bool = False


@dataclass(frozen=True)
class CumsumAttrs(AxisAttrs): ...


@dataclass(frozen=True)
class TopkAttrs(Attrs):
    """The `k` largest (or smallest) along `axis`, in order; equal ones by position."""

    k: int
    axis: int
    largest: bool = True


def check_axis(name: str, x: TensorType, axis: int) -> None:
    """Raises: IRError for an axis outside the tensor."""
    if not 0 <= axis < max(x.rank, 1):
        raise IRError(
            f"{name}: axis {axis} is outside {x}", hint=f"choose an axis in [0, {x.rank - 1}]"
        )


def reduced_type(x: TensorType, axes: tuple[int, ...], keepdims: bool) -> TensorType:
    if keepdims:
        return TensorType(x.dtype, tuple(1 if i in axes else d for i, d in enumerate(x.shape)))
    return TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def _reduce(name: str, attrs: type[ReduceAttrs], f: Callable[..., Any]) -> OpDef:
    def infer(x: TensorType, a: ReduceAttrs) -> TensorType:
        for axis in a.axes:
            check_axis(name, x, axis)
        return reduced_type(x, a.axes, a.keepdims)

    def reference(x: np.ndarray, a: ReduceAttrs) -> np.ndarray:
        return np.asarray(f(x, axis=a.axes, keepdims=a.keepdims)).astype(x.dtype, copy=False)

    return OpDef(name, attrs, infer, reference, lambda x, _: x.numel, kind="reduction")


def _arg(name: str, attrs: type[Attrs], f: Callable[..., Any]) -> OpDef:
    def infer(x: TensorType, a: Any) -> TensorType:
        check_axis(name, x, a.axis)
        return reduced_type(x, (a.axis,), a.keepdims).with_dtype(DType.I64)

    def reference(x: np.ndarray, a: Any) -> np.ndarray:
        return np.asarray(f(x, axis=a.axis, keepdims=a.keepdims), np.int64)

    return OpDef(name, attrs, infer, reference, lambda x, _: x.numel, kind="opaque")


def _cumsum_infer(x: TensorType, a: CumsumAttrs) -> TensorType:
    check_axis("cumsum", x, a.axis)
    return x


def _topk_infer(x: TensorType, a: TopkAttrs) -> tuple[TensorType, TensorType]:
    check_axis("topk", x, a.axis)
    extent = x.shape[a.axis]
    if isinstance(extent, int) and not 0 <= a.k <= extent:
        raise IRError(f"topk: k={a.k} of {extent} elements", hint=f"choose k <= {extent}")
    shape = tuple(a.k if i == a.axis else d for i, d in enumerate(x.shape))
    return TensorType(x.dtype, shape), TensorType(DType.I64, shape)


def _topk(x: np.ndarray, a: TopkAttrs) -> tuple[np.ndarray, np.ndarray]:
    key = -x if a.largest and x.dtype.kind == "f" else x
    if a.largest and x.dtype.kind != "f":
        key = -x.astype(np.int64)
    order = np.argsort(key, axis=a.axis, kind="stable")
    order = np.take(order, np.arange(a.k), axis=a.axis)
    return np.take_along_axis(x, order, axis=a.axis), order.astype(np.int64)


OPS = (
    _reduce("sum", SumAttrs, np.sum),
    _reduce("mean", MeanAttrs, np.mean),
    _reduce("max", MaxAttrs, np.max),
    _reduce("min", MinAttrs, np.min),
    _reduce("prod", ProdAttrs, np.prod),
    _reduce("any", AnyAttrs, np.any),
    _reduce("all", AllAttrs, np.all),
    _arg("argmax", ArgmaxAttrs, np.argmax),
    _arg("argmin", ArgminAttrs, np.argmin),
    OpDef("cumsum", CumsumAttrs, _cumsum_infer,
          lambda x, a: np.cumsum(x, axis=a.axis, dtype=x.dtype), lambda x, _: x.numel),
    OpDef("topk", TopkAttrs, _topk_infer, _topk, lambda x, _: x.numel),
)  # fmt: skip
