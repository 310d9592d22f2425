"""Ops whose addresses are data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs, NoAttrs, OpDef
from graphopt.ops.reduction import AxisAttrs, check_axis


@dataclass(frozen=True)
class GatherAttrs(AxisAttrs):
    """np.take along `axis`; negative indices count from the end."""


@dataclass(frozen=True)
class TakeAlongAttrs(AxisAttrs):
    """torch.gather along `axis`."""


@dataclass(frozen=True)
class ScatterNdAttrs(Attrs):
    """`accumulate` adds instead of overwriting."""

    accumulate: bool = False


@dataclass(frozen=True)
class ScatterAlongAttrs(AxisAttrs):
    """torch.scatter (or scatter_add) along `axis`."""

    accumulate: bool = False


def _integers(name: str, i: TensorType) -> None:
    if not i.dtype.is_integer:
        raise IRError(f"{name}: indices {i} are not integers", hint="insert a cast to i64")


def _gather_infer(x: TensorType, i: TensorType, a: GatherAttrs) -> TensorType:
    _integers("gather", i)
    check_axis("gather", x, a.axis)
    return TensorType(x.dtype, (*x.shape[: a.axis], *i.shape, *x.shape[a.axis + 1 :]))


def _take_along_infer(x: TensorType, i: TensorType, a: TakeAlongAttrs) -> TensorType:
    _integers("take_along", i)
    check_axis("take_along", x, a.axis)
    if i.rank != x.rank:
        raise IRError(f"take_along: indices {i} and {x} differ in rank", hint="expand the indices")
    return TensorType(x.dtype, i.shape)


def _take_along(x: np.ndarray, i: np.ndarray, a: TakeAlongAttrs) -> np.ndarray:
    grid = list(np.ogrid[tuple(slice(n) for n in i.shape)])
    grid[a.axis] = i
    return x[tuple(grid)]


def _gather_nd_infer(x: TensorType, i: TensorType, _: NoAttrs) -> TensorType:
    _integers("gather_nd", i)
    depth = i.dims[-1]
    if depth > x.rank:
        raise IRError(f"gather_nd: {depth} indices per element of {x}", hint="at most the rank")
    return TensorType(x.dtype, (*i.shape[:-1], *x.shape[depth:]))


def _gather_nd(x: np.ndarray, i: np.ndarray, _: NoAttrs) -> np.ndarray:
    return x[tuple(np.moveaxis(i, -1, 0))]


def _scatter_nd_infer(x: TensorType, i: TensorType, u: TensorType, a: ScatterNdAttrs) -> TensorType:
    _integers("scatter_nd", i)
    if u.shape != (*i.shape[:-1], *x.shape[i.dims[-1] :]) or u.dtype != x.dtype:
        raise IRError(f"scatter_nd: updates {u} do not fit {x} at {i}", hint="as gather_nd's result")
    del a
    return x


def _scatter_nd(x: np.ndarray, i: np.ndarray, u: np.ndarray, a: ScatterNdAttrs) -> np.ndarray:
    out, at = x.copy(), tuple(np.moveaxis(i, -1, 0))
    if a.accumulate:
        np.add.at(out, at, u)
    else:
        out[at] = u
    return out


def _scatter_along_infer(x: TensorType, i: TensorType, u: TensorType, a: ScatterAlongAttrs) -> TensorType:
    _integers("scatter_along", i)
    check_axis("scatter_along", x, a.axis)
    if u.shape != i.shape or i.rank != x.rank:
        raise IRError(f"scatter_along: updates {u} at {i} do not fit {x}", hint="equal shapes")
    return x


def _scatter_along(x: np.ndarray, i: np.ndarray, u: np.ndarray, a: ScatterAlongAttrs) -> np.ndarray:
    out = x.copy()
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in i.shape)])
    grid[a.axis] = i
    if a.accumulate:
        np.add.at(out, tuple(grid), u)
    else:
        out[tuple(grid)] = u
    return out


OPS = (
    OpDef("gather", GatherAttrs, _gather_infer, lambda x, i, a: np.take(x, i, a.axis), kind="movement"),
    OpDef("take_along", TakeAlongAttrs, _take_along_infer, _take_along, kind="movement"),
    OpDef("gather_nd", NoAttrs, _gather_nd_infer, _gather_nd, kind="movement"),
    OpDef("scatter_nd", ScatterNdAttrs, _scatter_nd_infer, _scatter_nd),
    OpDef("scatter_along", ScatterAlongAttrs, _scatter_along_infer, _scatter_along),
)
