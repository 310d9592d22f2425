"""clip-windows: pools forget the taps that only ever meet padding.

  %y = avg_pool %x:f32[1,8,7,7] {kernel=[64,64], padding=[[0,57],[0,57]], count_include_pad=false}
    →  %y = avg_pool %x {kernel=[7,7], padding=[[0,0],[0,0]], count_include_pad=false}

Models write windows larger than the image to mean "all of it", with ceil_mode to make them fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import AvgPoolAttrs, MaxPoolAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a pool. `out` windows of `kernel` taps over `extent` elements."""

    extent: int
    out: int
    kernel: int
    stride: int
    before: int
    after: int

    def clipped(self) -> Axis | None:
        """Without the first and last taps that lie in the padding of every window; None when
        there are none, or when another number of windows would fit."""
        low = min(max(0, self.before - self.stride * (self.out - 1)), self.kernel - 1)
        high = min(self.kernel, self.before + self.extent)
        if (low, high) == (0, self.kernel) or high <= low:
            return None
        kernel, before = high - low, self.before - low
        need = (self.out - 1) * self.stride + kernel
        after = max(0, need - before - self.extent)
        if (before + self.extent + after - kernel) // self.stride + 1 != self.out:
            return None
        return Axis(self.extent, self.out, kernel, self.stride, before, after)


@dataclass(frozen=True)
class ClipWindows(RewritePass):
    """Numerics: reassociates (the sums have fewer zeros). Refuses: dilated pools; windows whose
    every tap meets the input somewhere."""

    name: ClassVar[str] = "clip-windows"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = (AvgPoolAttrs, MaxPoolAttrs)

    def plan(self, node: Node) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        attrs = node.attrs
        assert isinstance(attrs, AvgPoolAttrs | MaxPoolAttrs)
        if isinstance(attrs, MaxPoolAttrs) and any(d != 1 for d in attrs.dilation):
            return Reject("its window is dilated")
        dims = zip(
            node.operands[0].type.dims[2:], node.result.type.dims[2:],
            attrs.kernel, attrs.stride, attrs.padding, strict=True,
        )  # fmt: skip
        axes = [Axis(e, o, k, s, *p) for e, o, k, s, p in dims]
        clipped = [a.clipped() for a in axes]
        if not any(clipped):
            return Reject("every tap of its window meets the input somewhere")
        return Plan(node, axes=[c or a for c, a in zip(clipped, axes, strict=True)])

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node, attrs = plan.node, plan.node.attrs
        kernel = tuple(a.kernel for a in plan.axes)
        padding = tuple((a.before, a.after) for a in plan.axes)
        if isinstance(attrs, AvgPoolAttrs):
            divisor = _divisor(attrs)
            clipped = replace(attrs, kernel=kernel, padding=padding, divisor=divisor)
            new = rw.emit("avg_pool", node.operands[0], attrs=clipped, loc=node.loc)
        else:
            assert isinstance(attrs, MaxPoolAttrs)
            smaller = replace(attrs, kernel=kernel, padding=padding)
            new = rw.emit("max_pool", node.operands[0], attrs=smaller, loc=node.loc)
        rw.replace(node.result, new)


def _divisor(attrs: AvgPoolAttrs) -> int | None:
    """The divisor that the whole window had."""
    if attrs.divisor is None and attrs.count_include_pad:
        return prod(attrs.kernel)
    return attrs.divisor
