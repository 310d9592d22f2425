"""ATen's operators that bring elements together by computed places: bags, scattered reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.frontend.aten.indexing import index_write, scatter
from graphopt.frontend.aten.reduction import reduce
from graphopt.frontend.builder import Builder, Mapping, Number, UnsupportedFormError
from graphopt.frontend.dtypes import promote
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import CumsumAttrs, IotaAttrs

_SUM, _MEAN, _MAX = range(3)


def embedding_bag(
    b: Builder, weight: Value, indices: Value, offsets: Value, _scale: bool = False,
    mode: int = _SUM, _sparse: bool = False, factors: Value | None = None,
    include_last: bool = False, padding: int = -1,
) -> Any:  # fmt: skip
    """Rows of `weight`, reduced by bag. offsets: where each bag starts in `indices`."""
    rows, bags, count = b.gather(weight, indices, 0), b.types[0].dims[0], indices.type.numel
    if factors is not None:
        rows = b.mul(rows, b.unsqueeze(b.cast(factors, rows.type.dtype), 1))
    kept = None
    if padding >= 0:
        kept = b.emit("ne", indices, b.full(padding, indices.type.dtype))
        rows = b.where(b.unsqueeze(kept, 1), rows, _NEUTRAL[mode](rows.type.dtype), rows.type.dtype)
    even = _even(offsets, bags, count)
    if even:
        return _even_bags(b, rows, kept, (bags, even), mode), None, None, None
    y = _bags(b, rows, kept, _bag_of_each(b, offsets, count), offsets.type.numel, mode)
    return b.slice(y, 0, 0, bags), None, None, None  # what the last offset ends is in no bag


_NEUTRAL: dict[int, Callable[[DType], Number]] = {
    _SUM: lambda dtype: 0, _MEAN: lambda dtype: 0, _MAX: lambda dtype: lowest(dtype),
}  # fmt: skip
"""What a row that does not count is."""


def _even(offsets: Value, bags: int, count: int) -> int | None:
    """How many each bag holds where that is written: bags given as rows of a matrix."""
    node = offsets.producer
    if node is None or not isinstance(node.attrs, IotaAttrs) or node.attrs.start or not bags:
        return None
    return int(node.attrs.step) if node.attrs.step * bags == count else None


def _even_bags(
    b: Builder, rows: Value, kept: Value | None, bags: tuple[int, int], mode: int
) -> Value:
    """rows: [bags * n, d], kept: [bags * n]."""
    dtype = rows.type.dtype
    rows = b.reshape(rows, (*bags, rows.type.dims[1]))
    if mode != _MAX:
        total = reduce(b, "sum", rows, 1)
        if mode == _SUM:
            return total
        if kept is None:
            return b.div(total, bags[1])
        return _mean(b, total, reduce(b, "sum", b.cast(b.reshape(kept, bags), dtype), 1))
    top = reduce(b, "max", rows, 1)
    if kept is None:
        return top
    any_kept = reduce(b, "any", b.reshape(kept, bags), 1)
    return b.where(b.unsqueeze(any_kept, 1), top, 0, dtype)


def _bag_of_each(b: Builder, offsets: Value, count: int) -> Value:
    """[count]: the bag that each index lies in, the number of bags that have begun less one."""
    dtype = offsets.type.dtype
    ones = b.full(1, dtype, offsets.type.dims)
    begun = index_write(b, b.full(0, dtype, (count + 1,)), 0, offsets, ones, "add")
    places = b.emit("cumsum", b.slice(begun, 0, 0, count), attrs=CumsumAttrs(0))
    return b.sub(places, 1)


def _bags(b: Builder, rows: Value, kept: Value | None, of: Value, bags: int, mode: int) -> Value:
    """rows: [n, d], kept: [n], of: [n], the bag of each. A bag of nothing is 0."""
    dtype = rows.type.dtype
    start = b.full(_NEUTRAL[mode](dtype), dtype, (bags, rows.type.dims[1]))
    y = index_write(b, start, 0, of, rows, "maximum" if mode == _MAX else "add")
    if mode == _SUM:
        return y
    counted = b.full(1, dtype, of.type.dims) if kept is None else b.cast(kept, dtype)
    count = index_write(b, b.full(0, dtype, (bags,)), 0, of, counted, "add")
    if mode == _MEAN:
        return _mean(b, y, count)
    some = b.emit("gt", b.unsqueeze(count, 1), b.full(0, dtype))
    return b.where(some, y, 0, dtype)


def _mean(b: Builder, total: Value, count: Value) -> Value:
    """total: [bags, d], count: [bags]."""
    divisor = b.emit("maximum", count, b.full(1, count.type.dtype))
    return b.div(total, b.unsqueeze(divisor, 1))


def lowest(dtype: DType) -> Number:
    """What every number is at least."""
    return -np.inf if dtype.is_float else int(ml_dtypes.iinfo(dtype.numpy).min)


def highest(dtype: DType) -> Number:
    return np.inf if dtype.is_float else int(ml_dtypes.iinfo(dtype.numpy).max)


# Scattered reductions --------------------------------------------------------------------------


def scatter_reduce(
    b: Builder, x: Value, axis: int, indices: Value, source: Value, how: str,
    *, include_self: bool = True,
) -> Value:  # fmt: skip
    """Elements of `source` that go to the same place of `x`, reduced; with what was there, too."""

    def write(into: Value, values: Value | Number, combine: str | None) -> Value:
        return scatter(b, into, axis, indices, values, combine)

    return _reduced(b, x, source, how, include_self, write)


_COMBINE = {
    "sum": "add", "mean": "add", "prod": "mul", "amax": "maximum", "amin": "minimum",
}  # fmt: skip

Write = Callable[[Value, Value | Number, str | None], Value]
"""`write(into, values, combine)`: values, or one number, at the places that are written."""


def _reduced(
    b: Builder, x: Value, source: Value, how: str, include_self: bool, write: Write
) -> Value:
    dtype = x.type.dtype
    start = x if include_self else write(x, _neutral(how, dtype), None)
    y = write(start, source, _COMBINE[how])
    if how != "mean":
        return y
    count = write(b.full(int(include_self), dtype, x.type.dims), 1, "add")
    count = b.emit("maximum", count, b.full(1, dtype))
    return b.emit("div" if dtype.is_float else "floor_div", y, count)


def _neutral(how: str, dtype: DType) -> Number:
    if how in ("amax", "amin"):
        return lowest(dtype) if how == "amax" else highest(dtype)
    return 1 if how == "prod" else 0


def scatter_by_name(
    b: Builder, x: Value, axis: int, indices: Value, source: Value | Number, *, reduce: str
) -> Value:
    """torch.scatter with reduce="add" or "multiply"."""
    return scatter(b, x, axis, indices, source, "add" if reduce == "add" else "mul")


def index_reduce(
    b: Builder, x: Value, axis: int, indices: Value, source: Value, how: str,
    *, include_self: bool = True,
) -> Value:  # fmt: skip
    """Whole slices go to places `indices`, a vector."""

    def write(into: Value, values: Value | Number, combine: str | None) -> Value:
        rows = (
            b.full(values, x.type.dtype, source.type.dims)
            if not isinstance(values, Value)
            else values
        )
        return index_write(b, into, axis, indices, rows, combine)

    return _reduced(b, x, source, how, include_self, write)


# Places among sorted numbers -------------------------------------------------------------------


def bucketize(
    b: Builder, x: Value | Number, boundaries: Value, *, out_int32: bool = False,
    right: bool = False,
) -> Value:  # fmt: skip
    """How many boundaries [..., n] are below each number, or no higher than it (`right`)."""
    dtype = promote(x, boundaries)
    column = b.operand(x, dtype)
    column = b.unsqueeze(column, column.type.rank)
    rows = b.cast(boundaries, dtype)
    if rows.type.rank > 1:
        rows = b.unsqueeze(rows, rows.type.rank - 1)
    below = b.emit("le" if right else "lt", rows, column)
    return reduce(b, "sum", b.cast(below, b.type.dtype), below.type.rank - 1)


def searchsorted(
    b: Builder, boundaries: Value, x: Value | Number, *, out_int32: bool = False,
    right: bool = False, side: str | None = None, sorter: Value | None = None,
) -> Value:  # fmt: skip
    if sorter is not None:
        raise UnsupportedFormError("searchsorted with a sorter")
    return bucketize(b, x, boundaries, right=right or side == "right")


COLLECTING: dict[str, Mapping] = {
    "aten._embedding_bag.default": embedding_bag,
    "aten._embedding_bag_forward_only.default": embedding_bag,
    "aten.scatter_reduce.two": scatter_reduce,
    "aten.scatter.reduce": scatter_by_name,
    "aten.scatter.value_reduce": scatter_by_name,
    "aten.index_reduce.default": index_reduce,
    "aten.bucketize.Tensor": bucketize,
    "aten.bucketize.Scalar": bucketize,
    "aten.searchsorted.Tensor": searchsorted,
    "aten.searchsorted.Scalar": searchsorted,
}
