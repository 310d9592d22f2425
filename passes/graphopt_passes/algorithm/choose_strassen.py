"""choose-strassen: large products by seven products of half the size, where that is faster.

%y = linear %x, %w   →   %y = linear %x, %w {strassen=true}
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.ops import ConvAttrs, LinearAttrs
from graphopt.ops.strassen import ERROR
from graphopt.passbase import Numerics, RewritePass, approximates
from graphopt.rewrite import Plan, Reject, Rewriter

_STREAMING = 8.0
"""Multiply-adds in the time that one weight takes from memory: 29 GB/s beside 117 GFLOP/s, measured
on one core. It is not hidden behind products: measured times are sums of both."""

_SUMS_LEFT = 6.0
_SUMS_RESULT = 9.0
"""Multiply-adds that the sums of blocks cost per element of the left factor and of the result, a
load or a store counted as one; measured in bench/NOTES.md."""

_GROWTH = 7 / 4
"""Of the weights: seven blocks for four."""

_MARGIN = 0.97


@dataclass(frozen=True)
class Shape:
    """A product of [rows, depth] by [depth, channels]."""

    rows: int
    depth: int
    channels: int

    def direct_cost(self) -> float:
        """In multiply-adds: products, and the streaming of the weights."""
        return (self.rows + _STREAMING) * self.depth * self.channels

    def cost(self) -> float:
        """Likewise, and the sums of blocks."""
        rows = 7 / 8 * (self.rows + self.rows % 2) + _GROWTH * _STREAMING
        sums = self.rows * (_SUMS_LEFT * self.depth + _SUMS_RESULT * self.channels)
        return rows * self.depth * self.channels + sums


@dataclass(frozen=True)
class ChooseStrassen(RewritePass):
    """Linears and convolutions of one pixel; their weights grow by three quarters. `largest`:
    the most elements of a weight that may; 0 forbids the algorithm.

    Numerics: approximates; in exact arithmetic it is the same sum, in float32 it rounds about twice
    as much (`graphopt.ops.strassen.ERROR`). Refuses: groups and larger kernels; odd extents; other
    dtypes; weights computed at run time; what a direct sum does as fast.
    """

    name: ClassVar[str] = "choose-strassen"
    numerics: ClassVar[Numerics] = approximates(ERROR)
    root: ClassVar = (LinearAttrs, ConvAttrs)
    largest: int = 1 << 25

    def plan(self, node: Node) -> Plan | Reject:
        attrs, (x, w) = node.attrs, node.operands[:2]
        assert isinstance(attrs, LinearAttrs | ConvAttrs)
        if attrs.strassen:
            return Reject("it is chosen already")
        if isinstance(attrs, ConvAttrs) and (attrs.groups > 1 or prod(w.type.dims[2:]) > 1):
            return Reject("its kernel covers several pixels or groups")
        if not x.type.is_static or any(extent % 2 for extent in w.type.dims[:2]):
            return Reject("its channels cannot be halved")
        if w.producer is None or w.producer.op.name != "constant":
            return Reject("its weights are computed while the model runs")
        if x.type.dtype is not DType.F32:
            return Reject(f"it computes in {x.type.dtype}, whose rounding would show")
        if w.type.numel > self.largest:
            return Reject("its weights are larger than may grow")
        channels, depth = w.type.dims[:2]
        shape = Shape(node.result.type.numel // channels, depth, channels)
        if shape.cost() > _MARGIN * shape.direct_cost():
            return Reject("a direct sum is as fast")
        return Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        attrs = plan.node.attrs
        assert isinstance(attrs, LinearAttrs | ConvAttrs)
        rw.set_attrs(plan.node, dataclasses.replace(attrs, strassen=True))
