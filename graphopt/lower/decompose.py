"""Norms and softmax in terms of sums, maxima and pointwise ops: what a row kernel is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType
from graphopt.ops import (
    FullAttrs,
    MaxAttrs,
    ReshapeAttrs,
    SumAttrs,
)
from graphopt.rewrite import Rewriter


def decomposed(body: Graph) -> Graph:
    """The same region with every norm, softmax and mean written out. Reductions left: sum, max,
    min, prod, any, all. Reassociates."""
    rw = Rewriter(body)
    for node in rw.nodes:
        rule = _RULES.get(node.op.name)
        if rule is not None:
            written_out = rule(_Build(rw, node), node)
            rw.set_type(written_out, node.result.type)
            rw.replace(node.result, written_out)
    return rw.freeze()


class _Build:
    """Emits nodes at one node's location, keeping dtypes in step."""

    def __init__(self, rw: Rewriter, node: Node) -> None:
        self.rw, self.loc = rw, node.loc

    def __call__(self, op: str, *operands: Value) -> Value:
        return self.rw.emit(op, *operands, loc=self.loc)

    def full(self, value: float, dtype: DType) -> Value:
        return self.rw.emit("full", attrs=FullAttrs(value, (), dtype), loc=self.loc)

    def sum(self, x: Value, axes: tuple[int, ...]) -> Value:
        return self.rw.emit("sum", x, attrs=SumAttrs(axes, True), loc=self.loc)

    def max(self, x: Value, axes: tuple[int, ...]) -> Value:
        return self.rw.emit("max", x, attrs=MaxAttrs(axes, True), loc=self.loc)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        return self.rw.emit("reshape", x, attrs=ReshapeAttrs(shape), loc=self.loc)

    def mean(self, x: Value, axes: tuple[int, ...]) -> Value:
        count = math.prod(x.type.dims[a] for a in axes)
        return self("mul", self.sum(x, axes), self.full(1 / count, x.type.dtype))

    def normalized(self, x: Value, axes: tuple[int, ...], eps: float) -> Value:
        """(x - mean) * rsqrt(var + eps), variance in two passes: no cancellation."""
        centred = self("sub", x, self.mean(x, axes))
        variance = self.mean(self("mul", centred, centred), axes)
        scale = self("rsqrt", self("add", variance, self.full(eps, x.type.dtype)))
        return self("mul", centred, scale)


def _trailing(x: Value, count: int) -> tuple[int, ...]:
    return tuple(range(x.type.rank - count, x.type.rank))


def _mean(b: _Build, node: Node) -> Value:
    (x,), a = node.operands, node.attrs
    out = b.mean(x, a.axes)  # type: ignore[attr-defined]
    return out if a.keepdims else b.reshape(out, node.result.type.dims)  # type: ignore[attr-defined]


def _softmax(b: _Build, node: Node) -> Value:
    (x,), axes = node.operands, (node.attrs.axis,)  # type: ignore[attr-defined]
    e = b("exp", b("sub", x, b.max(x, axes)))  # shift first: exp(89) overflows f32
    return b("mul", e, b("reciprocal", b.sum(e, axes)))


def _log_softmax(b: _Build, node: Node) -> Value:
    (x,), axes = node.operands, (node.attrs.axis,)  # type: ignore[attr-defined]
    shifted = b("sub", x, b.max(x, axes))
    return b("sub", shifted, b("log", b.sum(b("exp", shifted), axes)))


def _layer_norm(b: _Build, node: Node) -> Value:
    x, weight, bias = node.operands
    y = b.normalized(x, _trailing(x, node.attrs.axes), node.attrs.eps)  # type: ignore[attr-defined]
    return b("add", b("mul", y, weight), bias)


def _rms_norm(b: _Build, node: Node) -> Value:
    x, weight = node.operands
    mean = b.mean(b("mul", x, x), _trailing(x, node.attrs.axes))  # type: ignore[attr-defined]
    scale = b("rsqrt", b("add", mean, b.full(node.attrs.eps, x.type.dtype)))  # type: ignore[attr-defined]
    return b("mul", b("mul", x, scale), weight)


def _group_norm(b: _Build, node: Node) -> Value:
    x, weight, bias = node.operands
    n, c, *spatial = x.type.dims
    groups = node.attrs.groups  # type: ignore[attr-defined]
    grouped = b.reshape(x, (n, groups, c // groups, *spatial))
    axes = tuple(range(2, grouped.type.rank))
    y = b.normalized(grouped, axes, node.attrs.eps)  # type: ignore[attr-defined]
    per_channel = (1, groups, c // groups, *(1 for _ in spatial))
    y = b("add", b("mul", y, b.reshape(weight, per_channel)), b.reshape(bias, per_channel))
    return b.reshape(y, x.type.dims)


_RULES: Mapping[str, Callable[[_Build, Node], Value]] = {
    "mean": _mean,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
}
