"""ATen's scans other than cumsum: ceil(log2 n) steps, each over twice the reach of the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphopt.frontend.builder import Builder, Mapping, axis_of
from graphopt.ir.graph import Value
from graphopt.ir.types import DType

Values = tuple[Value, ...]
Combine = Callable[[Builder, Values, Values], Values]
"""Associative: (what earlier elements give, what later ones give) to what both give."""


def _scan(b: Builder, xs: Values, axis: int, combine: Combine) -> Values:
    """Element i of the results combines elements 0 to i."""
    extent, reach = xs[0].type.dims[axis], 1
    while reach < extent:
        earlier = tuple(b.slice(x, axis, 0, extent - reach) for x in xs)
        later = tuple(b.slice(x, axis, reach, extent) for x in xs)
        heads = (b.slice(x, axis, 0, reach) for x in xs)
        tails = combine(b, earlier, later)
        xs = tuple(b.concat([h, t], axis) for h, t in zip(heads, tails, strict=True))
        reach *= 2
    return xs


def scan(combine: Combine) -> Mapping:
    def run(b: Builder, x: Value, axis: int, **_: object) -> Value:
        x = b.cast(x, b.type.dtype)
        return _scan(b, (x,), axis_of(axis, x.type.rank), combine)[0] if x.type.rank else x

    return run


def _product(b: Builder, x: Values, y: Values) -> Values:
    return (b.mul(x[0], y[0]),)


def _log_add_exp(b: Builder, x: Values, y: Values) -> Values:
    top = b.emit("maximum", x[0], y[0])
    apart = b.emit("neg", b.emit("abs", b.sub(x[0], y[0])))
    total = b.add(top, b.emit("log1p", b.emit("exp", apart)))
    return (b.where(b.emit("isinf", top), top, total, top.type.dtype),)


def extremum(op: str) -> Mapping:
    """cummax ("ge") and cummin ("le"): values, and the place of the last one that is equal."""

    def combine(b: Builder, x: Values, y: Values) -> Values:
        later = b.emit(op, y[0], x[0])
        if y[0].type.dtype.is_float:
            later = b.emit("or", later, b.emit("isnan", y[0]))
        return tuple(b.where(later, q, p, p.type.dtype) for p, q in zip(x, y, strict=True))

    def run(b: Builder, x: Value, axis: int) -> Any:
        if not x.type.rank:
            return x, b.full(0, DType.I64)
        axis = axis_of(axis, x.type.rank)
        behind = (1,) * (x.type.rank - axis - 1)
        places = b.reshape(b.iota(0, 1, x.type.dims[axis], DType.I64), (x.type.dims[axis], *behind))
        return _scan(b, (x, b.expand(places, x.type.dims)), axis, combine)

    return run


SCANS: dict[str, Mapping] = {
    "aten.cumprod.default": scan(_product),
    "aten.logcumsumexp.default": scan(_log_add_exp),
    "aten.cummax.default": extremum("ge"),
    "aten.cummin.default": extremum("le"),
}
