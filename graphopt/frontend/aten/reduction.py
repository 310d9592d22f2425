"""ATen's reductions, scans and selections along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from graphopt.frontend.builder import (
    Builder,
    Mapping,
    Number,
    UnsupportedFormError,
    axes_of,
    axis_of,
)
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import (
    AllAttrs,
    AnyAttrs,
    ArgmaxAttrs,
    ArgminAttrs,
    CumsumAttrs,
    MaxAttrs,
    MeanAttrs,
    MinAttrs,
    ProdAttrs,
    SumAttrs,
    TopkAttrs,
)

Axes = int | Sequence[int] | None
_ATTRS: dict[str, Any] = {
    "sum": SumAttrs, "mean": MeanAttrs, "max": MaxAttrs, "min": MinAttrs, "prod": ProdAttrs,
    "any": AnyAttrs, "all": AllAttrs,
}  # fmt: skip


def reduce(b: Builder, op: str, x: Value, axes: Axes = None, keepdims: bool = False) -> Value:
    """`op` over the axes (None: all); over none of them it is x itself."""
    which = axes_of(axes, x.type.rank)
    return b.emit(op, x, attrs=_ATTRS[op](which, keepdims)) if which else x


def arithmetic(op: str) -> Mapping:
    """sum, mean, prod: in the result's dtype, which `dtype=` or integer promotion chose."""

    def run(b: Builder, x: Value, axes: Axes = None, keepdim: bool = False, **_: object) -> Value:
        return reduce(b, op, b.cast(x, b.type.dtype), axes, keepdim)

    return run


def extremum(op: str) -> Mapping:
    return lambda b, x, axes=None, keepdim=False: reduce(b, op, x, axes, keepdim)


def truth(op: str) -> Mapping:
    def run(b: Builder, x: Value, axes: Axes = None, keepdim: bool = False) -> Value:
        return b.cast(reduce(b, op, b.truth(x), axes, keepdim), b.type.dtype)

    return run


def with_index(op: str) -> Mapping:
    """max.dim, min.dim: values and the index of one of them."""

    def run(b: Builder, x: Value, axis: int, keepdim: bool = False) -> tuple[Value, Value]:
        return reduce(b, op, x, axis, keepdim), arg(f"arg{op}")(b, x, axis, keepdim)

    return run


def arg(op: str) -> Mapping:
    attrs: Any = {"argmax": ArgmaxAttrs, "argmin": ArgminAttrs}[op]

    def run(b: Builder, x: Value, axis: int | None = None, keepdim: bool = False) -> Value:
        if x.type.dtype is DType.BOOL:
            x = b.cast(x, DType.U8)
        if axis is None or x.type.rank == 0:
            flat = b.emit(op, b.reshape(x, (x.type.numel,)), attrs=attrs(0, False))
            return b.reshape(flat, (1,) * x.type.rank if keepdim else ())
        return b.emit(op, x, attrs=attrs(axis_of(axis, x.type.rank), keepdim))

    return run


def logsumexp(b: Builder, x: Value, axes: Axes, keepdim: bool = False) -> Value:
    """Shifted by the maximum; where that is infinite the shift is 0. Of nothing: -inf."""
    x = b.cast(x, b.type.dtype)
    if not x.type.numel:
        return b.full(-math.inf, b.type.dtype, b.type.dims)
    top = reduce(b, "max", x, axes, True)
    top = b.where(b.emit("isinf", top), 0, top, x.type.dtype)
    total = reduce(b, "sum", b.emit("exp", b.sub(x, top)), axes, True)
    return b.reshape(b.add(b.emit("log", total), top), b.type.dims)


def variance(
    b: Builder, x: Value, axes: Axes = None, *, correction: Number | None = None,
    keepdim: bool = False,
) -> Value:  # fmt: skip
    """Around the mean; divided by n - correction (1 by default)."""
    centred = b.sub(x, reduce(b, "mean", x, axes, True))
    squares = b.mul(centred, centred)
    which = axes_of(axes, x.type.rank)
    count = math.prod(x.type.dims[i] for i in which)
    divisor = count - (1 if correction is None else correction)
    if divisor == count:
        return reduce(b, "mean", squares, axes, keepdim)
    total = reduce(b, "sum", squares, axes, keepdim)
    return b.mul(total, 1 / divisor if divisor > 0 else math.inf)


def var_dim(
    b: Builder, x: Value, axes: Axes, unbiased: bool = True, keepdim: bool = False
) -> Value:
    return variance(b, x, axes, correction=int(unbiased), keepdim=keepdim)


def var_default(b: Builder, x: Value, unbiased: bool = True) -> Value:
    return variance(b, x, None, correction=int(unbiased))


def std(var: Mapping) -> Mapping:
    return lambda b, *args, **kwargs: b.emit("sqrt", var(b, *args, **kwargs))


def var_mean(b: Builder, x: Value, axes: Axes = None, **kwargs: Any) -> tuple[Value, Value]:
    mean = reduce(b, "mean", x, axes, kwargs.get("keepdim", False))
    return variance(b, x, axes, **kwargs), mean


def vector_norm(
    b: Builder, x: Value, order: Number = 2, axes: Axes = None, keepdim: bool = False, **_: object
) -> Value:
    x = b.emit("abs", b.cast(x, b.type.dtype))
    if order == 2:
        return b.emit("sqrt", reduce(b, "sum", b.mul(x, x), axes, keepdim))
    if order == 1:
        return reduce(b, "sum", x, axes, keepdim)
    if math.isinf(order):
        return reduce(b, "max" if order > 0 else "min", x, axes, keepdim)
    if order == 0:
        return reduce(b, "sum", b.cast(b.truth(x), x.type.dtype), axes, keepdim)
    powers = b.emit("pow", x, b.full(order, x.type.dtype))
    total = reduce(b, "sum", powers, axes, keepdim)
    return b.emit("pow", total, b.full(1 / order, x.type.dtype))


def norm(
    b: Builder, x: Value, order: Number | None = 2, axes: Axes = None, keepdim: bool = False,
    **_: object,
) -> Value:  # fmt: skip
    return vector_norm(b, x, 2 if order is None else order, axes, keepdim)


def cumsum(b: Builder, x: Value, axis: int, **_: object) -> Value:
    x = b.cast(x, b.type.dtype)
    if x.type.rank == 0:
        return x
    return b.emit("cumsum", x, attrs=CumsumAttrs(axis_of(axis, x.type.rank)))


def topk(
    b: Builder, x: Value, k: int, axis: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[Value, ...]:
    if x.type.rank == 0:
        return x, b.full(0, DType.I64)
    return b.emit_all("topk", x, attrs=TopkAttrs(k, axis_of(axis, x.type.rank), largest))


def sort(b: Builder, x: Value, axis: int = -1, descending: bool = False) -> tuple[Value, ...]:
    extent = x.type.dims[axis] if x.type.rank else 1
    return topk(b, x, extent, axis, descending)


def sort_stable(
    b: Builder, x: Value, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Value, ...]:
    return sort(b, x, dim, descending)


def kthvalue(b: Builder, x: Value, k: int, axis: int = -1, keepdim: bool = False) -> Any:
    values, indices = topk(b, x, k, axis, False)
    axis = axis_of(axis, x.type.rank)
    picked = (b.slice(v, axis, k - 1, k) for v in (values, indices))
    return tuple(b.reshape(p, t.dims) for p, t in zip(picked, b.types, strict=True))


def median(b: Builder, x: Value, axis: int, keepdim: bool = False) -> Any:
    return kthvalue(b, x, (x.type.dims[axis] + 1) // 2, axis, keepdim)


def median_of_all(b: Builder, x: Value) -> Value:
    flat = b.reshape(x, (x.type.numel,))
    values, _ = topk(b, flat, (x.type.numel + 1) // 2, 0, False)
    return b.select(values, 0, -1)


def dist(b: Builder, x: Value, y: Value, order: Number = 2) -> Value:
    return vector_norm(b, b.sub(x, y), order)


def cdist(b: Builder, x: Value, y: Value, order: Number = 2, _: int | None = None) -> Value:
    """Distances of each row of x [..., n, d] to each of y [..., m, d]."""
    rank = x.type.rank
    apart = b.sub(b.unsqueeze(x, rank - 1), b.unsqueeze(y, y.type.rank - 2))
    return vector_norm(b, apart, order, rank)


def count_nonzero(b: Builder, x: Value, axes: Axes = None) -> Value:
    return reduce(b, "sum", b.cast(b.truth(x), DType.I64), axes)


def histc(b: Builder, x: Value, bins: int = 100, low: Number = 0, high: Number = 0) -> Value:
    """How many elements lie in each of equal bins; the last one holds its upper edge, too."""
    if low == high:
        raise UnsupportedFormError("histc between the least and the largest element")
    edges = np.asarray(torch.linspace(low, high, bins + 1), x.type.dtype.numpy)
    column = b.reshape(x, (x.type.numel, 1))
    above = b.emit("ge", column, b.constant(edges[:-1], "edges"))
    below = b.emit("lt", column, b.constant(edges[1:], "edges"))
    last = b.constant(np.arange(bins) == bins - 1, "last")
    top = b.emit("and", b.emit("eq", column, b.full(high, x.type.dtype)), last)
    inside = b.emit("and", above, b.emit("or", below, top))
    return reduce(b, "sum", b.cast(inside, b.type.dtype), 0)


REDUCTION: dict[str, Mapping] = {
    "aten.sum.default": arithmetic("sum"),
    "aten.sum.dim_IntList": arithmetic("sum"),
    "aten.mean.default": arithmetic("mean"),
    "aten.mean.dim": arithmetic("mean"),
    "aten.prod.default": arithmetic("prod"),
    "aten.prod.dim_int": arithmetic("prod"),
    "aten.amax.default": extremum("max"),
    "aten.amin.default": extremum("min"),
    "aten.max.default": extremum("max"),
    "aten.min.default": extremum("min"),
    "aten.max.dim": with_index("max"),
    "aten.min.dim": with_index("min"),
    "aten.aminmax.default": lambda b, x, dim=None, keepdim=False: (
        reduce(b, "min", x, dim, keepdim),
        reduce(b, "max", x, dim, keepdim),
    ),
    "aten.any.default": truth("any"),
    "aten.any.dim": truth("any"),
    "aten.any.dims": truth("any"),
    "aten.all.default": truth("all"),
    "aten.all.dim": truth("all"),
    "aten.all.dims": truth("all"),
    "aten.argmax.default": arg("argmax"),
    "aten.argmin.default": arg("argmin"),
    "aten.logsumexp.default": logsumexp,
    "aten.var.correction": variance,
    "aten.var.dim": var_dim,
    "aten.var.default": var_default,
    "aten.std.correction": std(variance),
    "aten.std.dim": std(var_dim),
    "aten.std.default": std(var_default),
    "aten.var_mean.correction": var_mean,
    "aten.var_mean.dim": lambda b, x, axes, unbiased=True, keepdim=False: var_mean(
        b, x, axes, correction=int(unbiased), keepdim=keepdim
    ),
    "aten.dist.default": dist,
    "aten._cdist_forward.default": cdist,
    "aten.linalg_vector_norm.default": vector_norm,
    "aten.norm.Scalar": norm,
    "aten.norm.ScalarOpt_dim": norm,
    "aten.cumsum.default": cumsum,
    "aten.topk.default": topk,
    "aten.sort.default": sort,
    "aten.sort.stable": sort_stable,
    "aten.argsort.default": lambda b, *args, **kwargs: sort(b, *args, **kwargs)[1],
    "aten.argsort.stable": lambda b, *args, **kwargs: sort_stable(b, *args, **kwargs)[1],
    "aten.kthvalue.default": kthvalue,
    "aten.median.dim": median,
    "aten.median.default": median_of_all,
    "aten.histc.default": histc,
    "aten.count_nonzero.default": count_nonzero,
    "aten.count_nonzero.dim_IntList": count_nonzero,
}
