"""decompose-pooling: adaptive pools and pools with a varying divisor, in simpler terms."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import (
    AdaptiveAvgPoolAttrs,
    AvgPoolAttrs,
    MeanAttrs,
    TransposeAttrs,
)
from graphopt.ops.window import adaptive_matrix, pool_counts
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class DecomposePooling(RewritePass):
    """A pool over the whole image becomes a mean, one whose output divides its input an
    avg_pool, any other a product with an averaging matrix per axis. An average pool that does not
    count its padding becomes a sum times a constant image of 1/count.

    Numerics: reassociates. Refuses: average pools with one divisor.
    """

    name: ClassVar[str] = "decompose-pooling"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = (AdaptiveAvgPoolAttrs, AvgPoolAttrs)

    def plan(self, node: Node) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        attrs = node.attrs
        if isinstance(attrs, AdaptiveAvgPoolAttrs):
            return Plan(node)
        assert isinstance(attrs, AvgPoolAttrs)
        if _covers_input(node, attrs):
            return Plan(node)
        if attrs.count_include_pad or attrs.divisor is not None or not any(map(any, attrs.padding)):
            return Reject("its divisor is the same everywhere")
        return Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        attrs = node.attrs
        if isinstance(attrs, AvgPoolAttrs):
            whole = _covers_input(node, attrs)
            rw.replace(node.result, (_mean if whole else _counted)(rw, node, attrs))
        elif isinstance(attrs, AdaptiveAvgPoolAttrs):
            rw.replace(node.result, _adaptive(rw, node, attrs))


def _covers_input(node: Node, attrs: AvgPoolAttrs) -> bool:
    """One window, exactly the image."""
    return node.operands[0].type.dims[2:] == attrs.kernel and not any(map(any, attrs.padding))


def _mean(rw: Rewriter, node: Node, attrs: AvgPoolAttrs) -> Value:
    (x,) = node.operands
    mean = rw.emit("mean", x, attrs=MeanAttrs(tuple(range(2, x.type.rank)), True), loc=node.loc)
    if attrs.divisor in (None, prod(attrs.kernel)):
        return mean
    scale = np.asarray(prod(attrs.kernel) / attrs.divisor, x.type.dtype.numpy)
    return rw.emit("mul", mean, rw.constant(scale, name="pool.scale"), loc=node.loc)


def _counted(rw: Rewriter, node: Node, attrs: AvgPoolAttrs) -> Value:
    (x,) = node.operands
    counts = pool_counts(x.type.dims[2:], attrs)
    total = rw.emit(
        "avg_pool",
        x,
        attrs=dataclasses.replace(attrs, count_include_pad=True, divisor=1),
        loc=node.loc,
    )
    scale = (1 / counts).reshape(1, 1, *counts.shape).astype(x.type.dtype.numpy)
    return rw.emit("mul", total, rw.constant(scale, name="pool.scale"), loc=node.loc)


def _adaptive(rw: Rewriter, node: Node, attrs: AdaptiveAvgPoolAttrs) -> Value:
    (x,) = node.operands
    first = x.type.rank - len(attrs.size)
    extents = x.type.dims[first:]
    if all(s == 1 for s in attrs.size):
        axes = tuple(range(first, x.type.rank))
        return rw.emit("mean", x, attrs=MeanAttrs(axes, True), loc=node.loc)
    if all(e % s == 0 for e, s in zip(extents, attrs.size, strict=True)) and first == 2:
        k = tuple(e // s for e, s in zip(extents, attrs.size, strict=True))
        none = tuple((0, 0) for _ in k)
        return rw.emit("avg_pool", x, attrs=AvgPoolAttrs(k, k, none), loc=node.loc)
    for i, size in enumerate(attrs.size):
        x = _along(rw, x, first + i, size, node)
    return x


def _along(rw: Rewriter, x: Value, axis: int, size: int, node: Node) -> Value:
    """Average windows along one axis: a product with a [size, extent] matrix."""
    last = x.type.rank - 1
    perm = list(range(x.type.rank))
    perm[axis], perm[last] = perm[last], perm[axis]
    matrix = adaptive_matrix(x.type.dims[axis], size).astype(x.type.dtype.numpy)
    weight = rw.constant(matrix, name="adaptive_pool")
    swap = TransposeAttrs(tuple(perm))
    moved = rw.emit("transpose", x, attrs=swap, loc=node.loc) if axis != last else x
    out = rw.emit("linear", moved, weight, loc=node.loc)
    return rw.emit("transpose", out, attrs=swap, loc=node.loc) if axis != last else out
