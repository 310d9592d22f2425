"""choose-winograd: convolutions of 2 to 4 taps along one axis or two in Winograd's transformed
domain, where that is faster.

%y = conv %x, %w {stride=[1,1], ..}   →   %y = conv %x, %w {stride=[1,1], .., winograd=4}
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import ClassVar

from graphopt.ir.graph import Graph, Node
from graphopt.ir.types import DType
from graphopt.ops import ConvAttrs
from graphopt.ops.contraction import winograd_fits
from graphopt.ops.winograd import ERROR, TRANSFORMS
from graphopt.passbase import Numerics, PassContext, RewritePass, approximates
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt.target import SLOW_GBYTES
from graphopt_passes.algorithm.normalized import NORMALIZED, is_normalized

_STREAMING = 9.5
"""Multiply-adds in the time that a weight takes from memory, 24 GB/s beside 115 GFLOP/s. Products
of more rows hide it; those of fewer wait for it, the longer the fewer they are. What is chosen so
is within 8 % of the best for all of 16 shapes with large weights (bench/NOTES.md)."""
_SLOW_STREAMING = 26.0
"""Likewise where what is beyond the level 2 cache is slow: 17 GB/s beside 220 GFLOP/s."""

_TRANSFORM_FLOPS = {
    1: {
        (3, 1): {2: 22.0, 4: 46.0},
        (3, 2): {2: 30.0, 3: 44.0, 4: 57.0},
        (2, 1): {2: 17.0, 3: 24.0, 4: 38.0},
        (4, 1): {2: 32.0, 3: 45.0},
    },
    2: {
        (3, 1): {2: 96.0, 4: 340.0},
        (3, 2): {2: 350.0, 3: 800.0, 4: 1700.0},
        (2, 1): {2: 64.0, 3: 124.0, 4: 272.0},
        (4, 1): {2: 170.0, 3: 300.0},
    },
}
"""By number of axes, by taps and stride, and tile, per tile and channel, input and output
transforms together: by count, a load or a store as one; of two axes and stride 2, whose tiles
overflow the registers, as measured."""

_STAYS = 0.6
"""Of the level 2 cache: transformed rows of a block that stay in it beside the weights."""

COPY = 25.0
"""Multiply-adds in the time that copying an element takes, measured."""

MARGIN = 0.9
"""Of what the other way takes: that much has to be gained."""

FEWEST = 4
"""Channels per group: with fewer, transforms cost more than they save. Measured: 4 to 64 channels
1.3 times as fast as a direct sum, 3 to 64 half as fast."""


@dataclass(frozen=True)
class Shape:
    """A convolution's output [n, groups * channels, *extents] and the input channels of a group."""

    n: int
    inputs: int
    channels: int
    extents: tuple[int, ...]
    groups: int = 1
    stride: int = 1
    dilation: tuple[int, ...] = (1, 1)
    taps: int = 3
    streaming: float = _STREAMING
    near: float = inf
    """Elements of the level 2 cache, where what is beyond it is slow."""

    def direct_cost(self) -> float:
        """In multiply-adds: products, or the streaming of their weights."""
        return self._products(self.taps ** len(self.extents), self.n * prod(self.extents))

    def cost(self, m: int) -> float:
        """In multiply-adds: products, or the streaming of their weights, and the transforms."""
        axes = len(self.extents)
        t = TRANSFORMS[self.taps, self.stride][m].t
        tiles = self.n * prod(
            d * -(-e // (d * m)) for e, d in zip(self.extents, self.dilation, strict=False)
        )
        transformed = self.groups * tiles * (self.inputs + self.channels) / 2
        flops = _TRANSFORM_FLOPS[axes][self.taps, self.stride][m]
        moved = self.streaming * self._spilled(t**axes, tiles)
        return self._products(t**axes, tiles) + flops * transformed + moved

    def least_cost(self) -> float:
        """That of the tile that takes least; infinite where there is none."""
        tiles = TRANSFORMS.get((self.taps, self.stride), ())
        return min(map(self.cost, tiles), default=inf)

    def _spilled(self, elements: int, tiles: int) -> float:
        """Elements that come from far again: transformed rows, written and read, or all weights for
        each block of rows that stay near."""
        rows, weights = elements * tiles * self.inputs, elements * self.inputs * self.channels
        blocks = ceil(rows / (_STAYS * self.near))
        if blocks <= 1 or weights <= (1 - _STAYS) * self.near:
            return 0.0
        return self.groups * min(2.0 * rows, (blocks - 1.0) * weights)

    def _products(self, elements: int, rows: int) -> float:
        weights = float(self.groups * elements * self.inputs * self.channels)
        return weights * max(rows, 2 * self.streaming - rows)


@dataclass(frozen=True)
class ChooseWinograd(RewritePass):
    """`largest`: the largest output tile to use; 0 forbids the algorithm. `far_gbytes`: per second,
    read from beyond the level 2 cache, of `near_bytes`; 0 for the target's.

    Numerics: approximates; in exact arithmetic it is the same sum, in float32 rounding grows with
    the tile (`graphopt.ops.winograd.ERROR`). Refuses: other kernels, strides and dtypes; weights
    computed at run time; few channels per group; what a direct sum does as fast; what is
    divided by its own size afterwards.
    """

    name: ClassVar[str] = "choose-winograd"
    numerics: ClassVar[Numerics] = approximates(
        max(bound for by_tile in ERROR.values() for bound in by_tile.values())
    )
    root: ClassVar = ConvAttrs
    largest: int = 4
    far_gbytes: float = 0.0
    near_bytes: int = 0

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        if ctx.target is None or self.far_gbytes:
            return super().run(graph, ctx)
        far, near = ctx.target.far_gbytes, ctx.target.l2_bytes
        return dataclasses.replace(self, far_gbytes=far, near_bytes=near).run(graph, ctx)

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        attrs, (x, w) = node.attrs, node.operands[:2]
        assert isinstance(attrs, ConvAttrs)
        if attrs.winograd:
            return Reject("it is chosen already")
        kernel = w.type.dims[2:]
        ones = (1,) * len(kernel)
        if not x.type.is_static or not winograd_fits(kernel, ones, ones):
            return Reject("its kernel is not of 2 to 4 taps along one axis or two")
        if not winograd_fits(kernel, attrs.stride, attrs.dilation):
            return Reject("there is none of its stride, or of its stride and dilation")
        if w.producer is None or w.producer.op.name != "constant":
            return Reject("its weights are computed while the model runs")
        if x.type.dtype is not DType.F32:
            return Reject(f"it computes in {x.type.dtype}, whose rounding would show")
        plan = self._fastest(node, attrs)
        if isinstance(plan, Plan) and is_normalized(node.result, rw):
            return Reject(NORMALIZED)
        return plan

    def _fastest(self, node: Node, attrs: ConvAttrs) -> Plan | Reject:
        n, channels, *extents = node.result.type.dims
        _, inputs, taps, *_ = node.operands[1].type.dims
        groups, stride = attrs.groups, attrs.stride[0]
        slow = 0 < self.far_gbytes < SLOW_GBYTES
        shape = Shape(
            n, inputs, channels // groups, tuple(extents), groups, stride, attrs.dilation, taps,
            streaming=_SLOW_STREAMING if slow else _STREAMING,
            near=self.near_bytes / 4 if slow and self.near_bytes else inf,
        )  # fmt: skip
        if min(shape.inputs, shape.channels) < FEWEST:
            return Reject("it has too few channels per group to pay for the transforms")
        allowed = [m for m in TRANSFORMS[taps, stride] if m <= self.largest]
        best = min(allowed, key=shape.cost, default=0)
        if not best or shape.cost(best) > MARGIN * shape.direct_cost():
            return Reject("a direct sum is as fast")
        return Plan(node, tile=best)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        attrs = plan.node.attrs
        assert isinstance(attrs, ConvAttrs)
        rw.set_attrs(plan.node, dataclasses.replace(attrs, winograd=plan.tile))
