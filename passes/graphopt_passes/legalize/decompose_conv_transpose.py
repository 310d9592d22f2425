"""decompose-conv-transpose: one ordinary convolution per output phase, then interleave.

With stride s, output position s*i + p depends only on the kernel taps k with
(p + padding - k * dilation) divisible by s. Each phase p is a convolution of the (padded) input
with those taps, flipped; no multiplication by inserted zeros remains.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import (
    ConcatAttrs,
    ConvAttrs,
    ConvTransposeAttrs,
    FullAttrs,
    GatherAttrs,
    ReshapeAttrs,
    SliceAttrs,
    TransposeAttrs,
)
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.legalize.explicit_padding import pad
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class _Phase:
    """One residue of one axis: taps (kernel positions, in input order), the input position of the
    first tap for output 0, how far apart they read, and how many outputs there are (a surplus is
    cut off at the end)."""

    taps: tuple[int, ...]
    start: int
    step: int
    count: int

    @property
    def stop(self) -> int:
        """The input position after the last one that is read."""
        return self.start + self.count + self.step * (len(self.taps) - 1)


@dataclass(frozen=True)
class DecomposeConvTranspose(RewritePass):
    """`share_border`: phases read slices of one padded input; else each pads it by itself.

    Numerics: reassociates. Refuses: layouts that are chosen already.
    """

    name: ClassVar[str] = "decompose-conv-transpose"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = ConvTransposeAttrs
    share_border: bool = True

    def plan(self, node: Node) -> Plan | Reject:
        return Plan(node)

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        return Plan(node, weight=rw.array(node.operands[1]))

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        assert isinstance(node.attrs, ConvTransposeAttrs)
        axes = [_phases(node, axis) for axis in range(node.result.type.rank - 2)]
        shared = _padded(rw, node, axes) if self.share_border else None
        parts = []
        for choice in itertools.product(*axes):
            own = shared or _padded(rw, node, [(p,) for p in choice])
            parts.append(_convolve(rw, node, plan.weight, choice, *own))
        rw.replace(node.result, _interleave(rw, node, parts))


def _phases(node: Node, axis: int) -> list[_Phase]:
    a = node.attrs
    assert isinstance(a, ConvTransposeAttrs)
    s, p, d = a.stride[axis], a.padding[axis], a.dilation[axis]
    kernel, extent = node.operands[1].type.dims[2 + axis], node.result.type.dims[2 + axis]
    out = []
    for phase in range(s):
        taps = [k for k in range(kernel) if (phase + p - k * d) % s == 0]
        taps.sort(key=lambda k: -k)  # the largest tap reads the smallest input position
        start = (phase + p - taps[0] * d) // s if taps else 0
        step = d * (taps[0] - taps[1]) // s if len(taps) > 1 else 1
        out.append(_Phase(tuple(taps), start, step, -(-extent // s)))
    return out


def _padded(
    rw: Rewriter, node: Node, axes: Sequence[Sequence[_Phase]]
) -> tuple[Value, tuple[int, ...]]:
    """The input with the border that these phases together read, and how wide it is before it."""
    x = node.operands[0]
    padding = [
        (max(0, *(-p.start for p in phases)), max(0, *(p.stop - extent for p in phases)))
        for phases, extent in zip(axes, x.type.dims[2:], strict=True)
    ]
    before = tuple(b for b, _ in padding)
    return (pad(rw, x, tuple(padding), 0.0, node) if any(map(any, padding)) else x), before


def _convolve(
    rw: Rewriter, node: Node, weight: np.ndarray | None, choice: tuple[_Phase, ...], padded: Value,
    before: tuple[int, ...],
) -> Value:  # fmt: skip
    """The outputs of one phase. weight: its data, unless it is computed at run time."""
    a = node.attrs
    assert isinstance(a, ConvTransposeAttrs)
    if not all(p.taps for p in choice):
        return _empty(rw, node, [p.count for p in choice])
    if weight is None:
        kernel = _picked(rw, node, choice)
    else:
        picked = weight[np.ix_(*(range(n) for n in weight.shape[:2]), *(p.taps for p in choice))]
        kernel = rw.constant(_as_conv(picked, a.groups), name="conv_transpose.phase", loc=node.loc)
    starts = [b + p.start for b, p in zip(before, choice, strict=True)]
    stops = [b + p.stop for b, p in zip(before, choice, strict=True)]
    x = _cut(rw, padded, starts, stops, node)
    none = ((0, 0),) * len(choice)
    attrs = ConvAttrs((1,) * len(choice), none, tuple(p.step for p in choice), a.groups)
    return rw.emit("conv", x, kernel, *node.operands[2:], attrs=attrs, loc=node.loc)


def _as_conv(w: np.ndarray, groups: int) -> np.ndarray:
    """[c, o/g, *k] to [o, c/g, *k]."""
    grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(grouped.reshape(groups * w.shape[1], -1, *w.shape[2:]))


def _picked(rw: Rewriter, node: Node, choice: tuple[_Phase, ...]) -> Value:
    """The taps of a phase as a convolution has them, where the weights are no constant."""
    a, w = node.attrs, node.operands[1]
    assert isinstance(a, ConvTransposeAttrs)
    for axis, phase in enumerate(choice, start=2):
        taps = rw.constant(np.array(phase.taps, np.int64), name="taps", loc=node.loc)
        w = rw.emit("gather", w, taps, attrs=GatherAttrs(axis), loc=node.loc)
    c, o, *k = w.type.dims
    grouped = ReshapeAttrs((a.groups, c // a.groups, o, *k))
    w = rw.emit("reshape", w, attrs=grouped, loc=node.loc)
    swapped = TransposeAttrs((0, 2, 1, *range(3, w.type.rank)))
    w = rw.emit("transpose", w, attrs=swapped, loc=node.loc)
    return rw.emit(
        "reshape", w, attrs=ReshapeAttrs((a.groups * o, c // a.groups, *k)), loc=node.loc
    )


def _empty(rw: Rewriter, node: Node, counts: list[int]) -> Value:
    """A phase that no tap reaches holds the bias."""
    n, c = node.result.type.dims[:2]
    shape = (n, c, *counts)
    zero = rw.emit("full", attrs=FullAttrs(0.0, shape, node.result.type.dtype), loc=node.loc)
    if len(node.operands) < 3:
        return zero
    per_channel = ReshapeAttrs((c, *(1,) * len(counts)))
    bias = rw.emit("reshape", node.operands[2], attrs=per_channel, loc=node.loc)
    return rw.emit("add", zero, bias, loc=node.loc)


def _cut(rw: Rewriter, x: Value, starts: Sequence[int], stops: Sequence[int], node: Node) -> Value:
    """A part of an image."""
    n, c, *extents = x.type.dims
    if not any(starts) and list(stops) == extents:
        return x
    attrs = SliceAttrs((0, 0, *starts), (n, c, *stops), (1,) * x.type.rank)
    return rw.emit("slice", x, attrs=attrs, loc=node.loc)


def _interleave(rw: Rewriter, node: Node, parts: list[Value]) -> Value:
    """The phases put together. Those of an axis are joined along the one that follows it in memory,
    channels last, of which they are neighbouring pieces then: what is left is a view.

      n, (pw, c), h, (ph, w)   →   n, c, (h, ph), (w, pw)     in memory n, h, ph, w, pw, c
    """
    a = node.attrs
    assert isinstance(a, ConvTransposeAttrs)
    if len(parts) == 1:
        return parts[0]
    n, c, *counts = parts[0].type.dims
    rank = len(counts)
    for axis, stride in reversed([*enumerate(a.stride)]):
        along = ConcatAttrs(1 if axis == rank - 1 else axis + 3)
        if stride > 1:
            runs = [parts[i : i + stride] for i in range(0, len(parts), stride)]
            parts = [rw.emit("concat", *run, attrs=along, loc=node.loc) for run in runs]
    (joined,) = parts
    split = [n, a.stride[-1], c, counts[0]]
    for axis in range(1, rank):
        split += [a.stride[axis - 1], counts[axis]]
    apart = rw.emit("reshape", joined, attrs=ReshapeAttrs(tuple(split)), loc=node.loc)
    phases = [*range(4, 2 + 2 * rank, 2), 1]
    perm = [0, 2]
    for axis in range(rank):
        perm += [3 + 2 * axis, phases[axis]]
    moved = rw.emit("transpose", apart, attrs=TransposeAttrs(tuple(perm)), loc=node.loc)
    full = tuple(e * s for e, s in zip(counts, a.stride, strict=True))
    out = rw.emit("reshape", moved, attrs=ReshapeAttrs((n, c, *full)), loc=node.loc)
    return _cut(rw, out, (0,) * rank, node.result.type.dims[2:], node)
