"""ATen's operators that bring elements together by computed places: bags, scattered reductions."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from graphopt.frontend.aten.indexing import scatter
from graphopt.frontend.aten.reduction import reduce
from graphopt.frontend.builder import Builder, Mapping, Number, UnsupportedFormError, axis_of
from graphopt.frontend.dtypes import promote
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import IotaAttrs

_SUM, _MEAN, _MAX = range(3)


def embedding_bag(
    b: Builder, weight: Value, indices: Value, offsets: Value, _scale: bool = False,
    mode: int = _SUM, _sparse: bool = False, factors: Value | None = None,
    include_last: bool = False, padding: int = -1,
) -> Any:  # fmt: skip
    """Rows of `weight`, reduced by bag. offsets: where each bag starts in `indices`."""
    bags = b.types[0].dims[0]
    even = _even(offsets, bags, indices.type.numel)
    rows = b.gather(weight, indices, 0)
    if factors is not None:
        rows = b.mul(rows, b.unsqueeze(b.cast(factors, rows.type.dtype), 1))
    lead = (1, indices.type.numel) if even is None else (bags, even)
    rows = b.reshape(rows, (*lead, weight.type.dims[1]))
    inside = b.full(True, DType.BOOL, lead) if even else _members(b, indices, offsets, bags)
    if padding >= 0:
        kept = b.emit("ne", b.reshape(indices, lead), b.full(padding, indices.type.dtype))
        inside = b.emit("and", inside, kept)
    return _bag(b, rows, inside, mode), None, None, None


def _even(offsets: Value, bags: int, count: int) -> int | None:
    """How many each bag holds where that is written: bags given as rows of a matrix."""
    node = offsets.producer
    if node is None or not isinstance(node.attrs, IotaAttrs) or node.attrs.start or not bags:
        return None
    return int(node.attrs.step) if node.attrs.step * bags == count else None


def _members(b: Builder, indices: Value, offsets: Value, bags: int) -> Value:
    """[bags, n]: which indices lie in which bag."""
    count = indices.type.numel
    starts = b.slice(offsets, 0, 0, bags)
    ends = b.slice(offsets, 0, 1, bags + 1)
    if ends.type.numel < bags:
        ends = b.concat([ends, b.full(count, offsets.type.dtype, (1,))], 0)
    place = b.iota(0, 1, count, offsets.type.dtype)
    after = b.emit("ge", place, b.unsqueeze(starts, 1))
    return b.emit("and", after, b.emit("lt", place, b.unsqueeze(ends, 1)))


def _bag(b: Builder, rows: Value, inside: Value, mode: int) -> Value:
    """rows: [bags or 1, n, d], inside: [bags, n]. A bag of nothing is 0."""
    dtype, wide = rows.type.dtype, b.unsqueeze(inside, 2)
    if mode == _MAX:
        top = reduce(b, "max", b.where(wide, rows, lowest(dtype), dtype), 1)
        return b.where(reduce(b, "any", wide, 1), top, 0, dtype)
    total = reduce(b, "sum", b.where(wide, rows, 0, dtype), 1)
    if mode == _SUM:
        return total
    count = reduce(b, "sum", b.cast(wide, dtype), 1)
    return b.div(total, b.emit("maximum", count, b.full(1, dtype)))


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
    if how == "sum" and include_self:
        return scatter(b, x, axis, indices, source, True)
    axis, dtype = axis_of(axis, x.type.rank), x.type.dtype
    if _others(indices, axis) != _others(x, axis):
        raise UnsupportedFormError(f"scatter_reduce with reduce={how!r} of a part of x")
    for i, n in enumerate(indices.type.dims):
        source = b.slice(source, i, 0, n)
    behind = (1,) * (x.type.rank - axis)
    place = b.reshape(
        b.iota(0, 1, x.type.dims[axis], indices.type.dtype), (x.type.dims[axis], *behind)
    )
    hit = b.emit("eq", b.unsqueeze(indices, axis), place)
    found = reduce(b, "any", hit, axis + 1)
    given = b.where(hit, b.unsqueeze(source, axis), _neutral(how, dtype), dtype)
    y = reduce(b, _REDUCERS[how][0], given, axis + 1)
    if include_self:
        y = b.emit(_REDUCERS[how][1], x, y)
    if how == "mean":
        count = reduce(b, "sum", b.cast(hit, dtype), axis + 1)
        count = b.add(count, 1) if include_self else b.emit("maximum", count, b.full(1, dtype))
        y = b.emit("div" if dtype.is_float else "floor_div", y, count)
    return b.where(found, y, x, dtype)


_REDUCERS = {
    "sum": ("sum", "add"), "mean": ("sum", "add"), "prod": ("prod", "mul"),
    "amax": ("max", "maximum"), "amin": ("min", "minimum"),
}  # fmt: skip


def _neutral(how: str, dtype: DType) -> Number:
    if how in ("amax", "amin"):
        return lowest(dtype) if how == "amax" else highest(dtype)
    return 1 if how == "prod" else 0


def _others(x: Value, axis: int) -> tuple[int, ...]:
    return x.type.dims[:axis] + x.type.dims[axis + 1 :]


def scatter_by_name(
    b: Builder, x: Value, axis: int, indices: Value, source: Value | Number, *, reduce: str
) -> Value:
    """torch.scatter with reduce="add" or "multiply"."""
    if not isinstance(source, Value):
        source = b.full(source, x.type.dtype, indices.type.dims)
    return scatter_reduce(b, x, axis, indices, source, {"add": "sum"}.get(reduce, "prod"))


def index_reduce(
    b: Builder, x: Value, axis: int, indices: Value, source: Value, how: str,
    *, include_self: bool = True,
) -> Value:  # fmt: skip
    """Whole slices go to places `indices`, a vector."""
    axis = axis_of(axis, x.type.rank)
    column = b.reshape(indices, (indices.type.numel, *(1,) * (x.type.rank - axis - 1)))
    wide = b.expand(column, source.type.dims)
    return scatter_reduce(b, x, axis, wide, source, how, include_self=include_self)


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
