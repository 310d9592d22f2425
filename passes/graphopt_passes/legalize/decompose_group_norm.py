"""decompose-group-norm: groups that are no whole vectors, by the moments of their channels.

%y = group_norm %x, %w, %b   →   %m, %v = mean and variance of each channel
                                 %g, %u = those of each group: mean(%m), mean(%v + (%m - %g)^2)
                                 %y = (%x - %g) * (%w * rsqrt(%u + eps)) + %b

Where channels are side by side in memory, vectors of them belong to several groups. Variances
that are put together by the differences of their means lose nothing to cancellation [Chan, Golub,
LeVeque, Algorithms for computing the sample variance, 1983].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.ops import ExpandAttrs, FullAttrs, GroupNormAttrs, MeanAttrs, ReshapeAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out

_LEAST = 16
"""Elements of a channel: sums over fewer cost less than the kernels that put them together."""


@dataclass(frozen=True)
class DecomposeGroupNorm(RewritePass):
    """`vector`: groups of a multiple of so many channels are left as they are, and those of one
    channel. Numerics: reassociates. Refuses: types other than f32, and small images."""

    name: ClassVar[str] = "decompose-group-norm"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = GroupNormAttrs
    vector: int = 16

    def plan(self, node: Node) -> Plan | Reject:
        assert isinstance(node.attrs, GroupNormAttrs)
        if laid_out(node):
            return Reject(LAID_OUT)
        type = node.operands[0].type
        if type.dtype is not DType.F32:
            return Reject("its sums are of another type")
        members = type.dims[1] // node.attrs.groups
        if members == 1 or members % self.vector == 0:
            return Reject("its groups are whole vectors, or channels")
        if type.numel < _LEAST * type.dims[0] * type.dims[1]:
            return Reject("a channel is a handful of elements")
        return Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        rw.replace(plan.node.result, _Norm(plan.node, rw).value())


class _Norm:
    def __init__(self, node: Node, rw: Rewriter) -> None:
        assert isinstance(node.attrs, GroupNormAttrs)
        self.node, self.rw, self.attrs = node, rw, node.attrs
        n, c, *image = node.operands[0].type.dims
        ones = (1,) * len(image)
        self.channels = (n, c, *ones)
        self.members = (n, node.attrs.groups, c // node.attrs.groups, *ones)
        self.image = tuple(range(2, 2 + len(image)))

    def value(self) -> Value:
        x, weight, bias = self.node.operands
        mean = self._mean(x, self.image)
        centred = self._emit("sub", x, mean)
        variance = self._mean(self._emit("mul", centred, centred), self.image)
        means = self._reshaped(mean, self.members)
        common = self._mean(means, (2,))
        apart = self._emit("sub", means, common)
        spread = self._spread(self._reshaped(variance, self.members), apart)
        eps = self.rw.emit(
            "full", attrs=FullAttrs(self.attrs.eps, (), DType.F32), loc=self.node.loc
        )
        scale = self._emit("rsqrt", self._emit("add", self._mean(spread, (2,)), eps))
        per_channel = (1, *self.channels[1:])
        factor = self._emit("mul", self._per_channel(scale), self._reshaped(weight, per_channel))
        shifted = self._emit("sub", x, self._per_channel(common))
        scaled = self._emit("mul", shifted, factor)
        return self._emit("add", scaled, self._reshaped(bias, per_channel))

    def _spread(self, variance: Value, apart: Value) -> Value:
        """Of each channel around its group's mean."""
        return self._emit("add", variance, self._emit("mul", apart, apart))

    def _emit(self, op: str, *operands: Value) -> Value:
        return self.rw.emit(op, *operands, loc=self.node.loc)

    def _mean(self, x: Value, axes: tuple[int, ...]) -> Value:
        return self.rw.emit("mean", x, attrs=MeanAttrs(axes, True), loc=self.node.loc)

    def _reshaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        return self.rw.emit("reshape", x, attrs=ReshapeAttrs(shape), loc=self.node.loc)

    def _per_channel(self, of_group: Value) -> Value:
        """A number of each group for each of its channels."""
        spread = self.rw.emit(
            "expand", of_group, attrs=ExpandAttrs(self.members), loc=self.node.loc
        )
        return self._reshaped(spread, self.channels)
