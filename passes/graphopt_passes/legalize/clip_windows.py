"""clip-windows: pools and convolutions forget the taps that only ever meet padding.

  %y = avg_pool %x:f32[1,8,7,7] {kernel=[64,64], padding=[[0,57],[0,57]], count_include_pad=false}
    →  %y = avg_pool %x {kernel=[7,7], padding=[[0,0],[0,0]], count_include_pad=false}
  %y = conv %x:f32[1,8,7,7], %w:f32[8,8,3,3] {padding=[[12,12],[12,12]], dilation=[12,12]}
    →  %y = conv %x, %w[:, :, 1:2, 1:2] {padding=[[0,0],[0,0]], dilation=[1,1]}

Models write windows larger than the image to mean "all of it", with ceil_mode to make them fit, and
dilations that reach past a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from graphopt.ir.graph import Loc, Node, Value
from graphopt.ops import AvgPoolAttrs, ConvAttrs, MaxPoolAttrs, SliceAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.products.pointwise import name
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a window. `out` windows of `kernel` taps, `dilation` apart, over `extent`
    elements; `first`: the number that its first tap had."""

    extent: int
    out: int
    kernel: int
    stride: int
    before: int
    after: int
    dilation: int = 1
    first: int = 0

    def clipped(self) -> Axis | None:
        """Without the first and last taps that lie in the padding of every window; None when
        there are none, or when another number of windows would fit."""
        step = self.dilation
        low = max(0, -(-(self.before - self.stride * (self.out - 1)) // step))
        low = min(low, self.before // step, self.kernel - 1)
        high = min(self.kernel, -(-(self.before + self.extent) // step))
        if (low, high) == (0, self.kernel) or high <= low:
            return None
        kernel, before = high - low, self.before - low * step
        reach = (kernel - 1) * step + 1
        after = max(0, (self.out - 1) * self.stride + reach - before - self.extent)
        if (before + self.extent + after - reach) // self.stride + 1 != self.out:
            return None
        dilation = step if kernel > 1 else 1
        return replace(
            self, kernel=kernel, before=before, after=after, dilation=dilation, first=low
        )


@dataclass(frozen=True)
class ClipWindows(RewritePass):
    """Numerics: reassociates (the sums have fewer zeros). Refuses: dilated pools; windows whose
    every tap meets the input somewhere, or whose input's extents are not known."""

    name: ClassVar[str] = "clip-windows"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = (AvgPoolAttrs, MaxPoolAttrs, ConvAttrs)

    def plan(self, node: Node) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        attrs = node.attrs
        if isinstance(attrs, MaxPoolAttrs) and any(d != 1 for d in attrs.dilation):
            return Reject("its window is dilated")
        if not node.operands[0].type.is_static:
            return Reject("its input's extents are not known")
        axes = _axes(node)
        clipped = [a.clipped() for a in axes]
        if not any(clipped):
            return Reject("every tap of its window meets the input somewhere")
        return Plan(node, axes=[c or a for c, a in zip(clipped, axes, strict=True)])

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node, attrs, axes = plan.node, plan.node.attrs, plan.axes
        padding = tuple((a.before, a.after) for a in axes)
        x, *others = node.operands
        if isinstance(attrs, ConvAttrs):
            dilation = tuple(a.dilation for a in axes)
            attrs = replace(attrs, padding=padding, dilation=dilation)
            weights, *bias = others
            new = rw.emit(
                "conv", x, _taps(weights, axes, rw, node.loc), *bias, attrs=attrs, loc=node.loc
            )
        else:
            assert isinstance(attrs, AvgPoolAttrs | MaxPoolAttrs)
            smaller = replace(attrs, kernel=tuple(a.kernel for a in axes), padding=padding)
            if isinstance(smaller, AvgPoolAttrs):
                assert isinstance(attrs, AvgPoolAttrs)
                smaller = replace(smaller, divisor=_divisor(attrs))
            new = rw.emit(node.op.name, x, attrs=smaller, loc=node.loc)
        rw.replace(node.result, new)


def _axes(node: Node) -> list[Axis]:
    attrs = node.attrs
    assert isinstance(attrs, AvgPoolAttrs | MaxPoolAttrs | ConvAttrs)
    if isinstance(attrs, ConvAttrs):
        kernel, dilation = node.operands[1].type.dims[2:], attrs.dilation
    else:
        kernel, dilation = attrs.kernel, (1,) * len(attrs.kernel)
    axes = zip(
        node.operands[0].type.dims[2:], node.result.type.dims[2:],
        kernel, attrs.stride, attrs.padding, dilation, strict=True,
    )  # fmt: skip
    return [Axis(e, o, k, s, before, after, d) for e, o, k, s, (before, after), d in axes]


def _taps(weights: Value, axes: Sequence[Axis], rw: Rewriter, loc: Loc) -> Value:
    """The weights of those taps that are left."""
    kept = [slice(a.first, a.first + a.kernel) for a in axes]
    known = rw.array(weights)
    if known is not None:
        return rw.constant(known[:, :, *kept].copy(), name=name(weights, "taps"), loc=loc)
    dims = weights.type.dims
    starts = (0, 0, *(k.start for k in kept))
    stops = (*dims[:2], *(k.stop for k in kept))
    attrs = SliceAttrs(starts, stops, (1,) * len(dims))
    return rw.emit("slice", weights, attrs=attrs, loc=loc)


def _divisor(attrs: AvgPoolAttrs) -> int | None:
    """The divisor that the whole window had."""
    if attrs.divisor is None and attrs.count_include_pad:
        return prod(attrs.kernel)
    return attrs.divisor
