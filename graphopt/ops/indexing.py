"""Ops whose addresses are data. Negative indices count from the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs, NoAttrs
from graphopt.ops.define import (
    check_axis,
    check_indices,
    check_not_empty,
    check_number,
    check_same_dtype,
    define,
    static_extent,
)
from graphopt.ops.reduction import AxisAttrs


@dataclass(frozen=True)
class GatherAttrs(AxisAttrs):
    """np.take along `axis`: x[a, d, b], idx[i, j] -> [a, i, j, b]."""


@dataclass(frozen=True)
class TakeAlongAttrs(AxisAttrs):
    """torch.gather along `axis`: the result has the shape of the indices."""


COMBINE = {"add": np.add, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum}
"""What a scatter that accumulates does with an element and what is there. nan wins over both."""


@dataclass(frozen=True)
class ScatterNdAttrs(Attrs):
    """`accumulate` combines instead of overwriting; an element overwritten twice keeps the last."""

    accumulate: bool = False
    combine: str = "add"


@dataclass(frozen=True)
class ScatterAlongAttrs(AxisAttrs):
    """torch.scatter (or scatter_add, scatter_reduce) along `axis`."""

    accumulate: bool = False
    combine: str = "add"


def _gather_infer(x: TensorType, i: TensorType, a: GatherAttrs) -> TensorType:
    check_indices("gather", i)
    check_axis("gather", x, a.axis)
    if 0 not in i.shape:
        check_not_empty("gather", x, (a.axis,))
    return TensorType(x.dtype, (*x.shape[: a.axis], *i.shape, *x.shape[a.axis + 1 :]))


def _check_along(name: str, x: TensorType, i: TensorType, axis: int) -> None:
    check_indices(name, i)
    check_axis(name, x, axis)
    if i.rank != x.rank:
        raise IRError(f"{name}: indices {i} and {x} differ in rank", hint="expand the indices")
    for at, (extent, limit) in enumerate(zip(i.shape, x.shape, strict=True)):
        fits = extent <= limit if isinstance(extent, int) and isinstance(limit, int) else True
        if at != axis and not fits:
            raise IRError(f"{name}: axis {at} of indices {i} is longer than that of {x}",
                          hint="only the gathered axis may be longer")  # fmt: skip


def _take_along_infer(x: TensorType, i: TensorType, a: TakeAlongAttrs) -> TensorType:
    _check_along("take_along", x, i, a.axis)
    if 0 not in i.shape:
        check_not_empty("take_along", x, (a.axis,))
    return TensorType(x.dtype, i.shape)


def _grid(i: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """Subscripts of the elements that indices along one axis name."""
    grid: list[Any] = list(np.ogrid[tuple(slice(n) for n in i.shape)])
    grid[axis] = i
    return tuple(grid)


def _take_along(x: np.ndarray, i: np.ndarray, a: TakeAlongAttrs) -> np.ndarray:
    return np.asarray(x[_grid(i, a.axis)])


def _indexed_shape(name: str, x: TensorType, i: TensorType) -> TensorType:
    """x at idx[..., r]: the leading axes of idx, then what r indices leave of x."""
    check_indices(name, i)
    if i.rank < 1:
        raise IRError(f"{name}: indices {i} are a scalar", hint="expected [..., r]")
    depth = static_extent(name, i, i.rank - 1)
    if depth > x.rank:
        raise IRError(f"{name}: {depth} indices for each element of {x}",
                      hint=f"the last axis of the indices is at most {x.rank}")  # fmt: skip
    return TensorType(x.dtype, (*i.shape[:-1], *x.shape[depth:]))


def _gather_nd_infer(x: TensorType, i: TensorType, _: NoAttrs) -> TensorType:
    return _indexed_shape("gather_nd", x, i)


def _subscripts(i: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.moveaxis(i, -1, 0))


def _gather_nd(x: np.ndarray, i: np.ndarray, _: NoAttrs) -> np.ndarray:
    # r = 0 names the whole of x at every position, which () alone would not repeat.
    return x[_subscripts(i)] if i.shape[-1] else np.broadcast_to(x, (*i.shape[:-1], *x.shape))


def _check_scatter(name: str, x: TensorType, u: TensorType, a: Any) -> None:
    check_same_dtype(name, x, u)
    if a.accumulate:
        check_number(name, x)
    if a.combine not in COMBINE:
        names = ", ".join(f'"{c}"' for c in COMBINE)
        raise IRError(f"{name}: no combination {a.combine!r}", hint=f"use one of {names}")


def _scatter_nd_infer(x: TensorType, i: TensorType, u: TensorType, a: ScatterNdAttrs) -> TensorType:
    _check_scatter("scatter_nd", x, u, a)
    expected = _indexed_shape("scatter_nd", x, i)
    if u.shape != expected.shape:
        raise IRError(f"scatter_nd: updates {u} do not fit {x} at {i}", hint=f"expected {expected}")
    return x


def _scattered(x: np.ndarray, at: tuple[np.ndarray, ...], u: np.ndarray, a: Any) -> np.ndarray:
    out = x.copy()
    if a.accumulate:
        COMBINE[a.combine].at(out, at, u)
    else:
        out[at] = u
    return out


def _scatter_nd(x: np.ndarray, i: np.ndarray, u: np.ndarray, a: ScatterNdAttrs) -> np.ndarray:
    return _scattered(x, _subscripts(i), u, a)


def _scatter_along_infer(
    x: TensorType, i: TensorType, u: TensorType, a: ScatterAlongAttrs
) -> TensorType:
    _check_scatter("scatter_along", x, u, a)
    _check_along("scatter_along", x, i, a.axis)
    if u.shape != i.shape:
        raise IRError(f"scatter_along: updates {u} and indices {i} differ in shape",
                      hint="slice or expand the updates")  # fmt: skip
    return x


def _scatter_along(x: np.ndarray, i: np.ndarray, u: np.ndarray, a: ScatterAlongAttrs) -> np.ndarray:
    return _scattered(x, _grid(i, a.axis), u, a)


def _gather(x: np.ndarray, i: np.ndarray, a: GatherAttrs) -> np.ndarray:
    return np.asarray(np.take(x, i, a.axis))


def _updates(x: TensorType, i: TensorType, u: TensorType, a: Any) -> int:
    return u.numel if a.accumulate else 0


OPS = (
    define("gather", GatherAttrs, _gather_infer, _gather, kind="movement", operands=2),
    define("take_along", TakeAlongAttrs, _take_along_infer, _take_along,
           kind="movement", operands=2),
    define("gather_nd", NoAttrs, _gather_nd_infer, _gather_nd, kind="opaque", operands=2),
    define("scatter_nd", ScatterNdAttrs, _scatter_nd_infer, _scatter_nd, _updates,
           kind="opaque", operands=3),
    define("scatter_along", ScatterAlongAttrs, _scatter_along_infer, _scatter_along, _updates,
           kind="opaque", operands=3),
)  # fmt: skip
