"""decompose-conv-transpose: one ordinary convolution per output phase, then interleave.

With stride s, output position s*i + p depends only on the kernel taps k with
(p + padding - k * dilation) divisible by s. Each phase p is a convolution of the (padded) input
with those taps, flipped; no multiplication by inserted zeros remains.
"""

from __future__ import annotations

import itertools
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
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class _Phase:
    """One residue of one axis: taps (kernel positions, in input order), the input position of the
    first tap for output 0, and how many outputs there are."""

    taps: tuple[int, ...]
    start: int
    count: int


@dataclass(frozen=True)
class DecomposeConvTranspose(RewritePass):
    """Numerics: reassociates. Refuses: layouts that are chosen already."""

    name: ClassVar[str] = "decompose-conv-transpose"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar = ConvTransposeAttrs

    def plan(self, node: Node) -> Plan | Reject:
        return Plan(node)

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        if laid_out(node):
            return Reject(LAID_OUT)
        return Plan(node, weight=rw.array(node.operands[1]))

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        assert isinstance(node.attrs, ConvTransposeAttrs)
        out = node.result.type.dims[2:]
        axes = [_phases(node, axis) for axis in range(len(out))]
        counts = [max(p.count for p in phases) for phases in axes]
        parts = [
            _convolve(rw, node, plan.weight, choice, counts) for choice in itertools.product(*axes)
        ]
        rw.replace(node.result, _interleave(rw, node, parts, counts))


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
        out.append(_Phase(tuple(taps), start, max(0, -(-(extent - phase) // s))))
    return out


def _convolve(
    rw: Rewriter,
    node: Node,
    weight: np.ndarray | None,
    choice: tuple[_Phase, ...],
    counts: list[int],
) -> Value:
    """The outputs of one phase, `counts` of them per axis (a surplus is cut off at the end).
    weight: its data, unless it is computed at run time."""
    a = node.attrs
    assert isinstance(a, ConvTransposeAttrs)
    x, bias = node.operands[0], node.operands[2:]
    if not all(p.taps for p in choice):
        return _empty(rw, node, counts)
    steps = tuple(
        (a.dilation[i] * (p.taps[0] - p.taps[1])) // a.stride[i] if len(p.taps) > 1 else 1
        for i, p in enumerate(choice)
    )
    if weight is None:
        kernel = _picked(rw, node, choice)
    else:
        picked = weight[np.ix_(*(range(n) for n in weight.shape[:2]), *(p.taps for p in choice))]
        kernel = rw.constant(_as_conv(picked, a.groups), name="conv_transpose.phase", loc=node.loc)
    padding, cut = [], []
    for i, p in enumerate(choice):
        last = p.start + counts[i] - 1 + steps[i] * (len(p.taps) - 1)
        extent = x.type.dims[2 + i]
        padding.append((max(0, -p.start), max(0, last - extent + 1)))
        cut.append(max(0, p.start))
    x = _cut(rw, x, cut, node)
    attrs = ConvAttrs((1,) * len(choice), tuple(padding), steps, a.groups)
    y = rw.emit("conv", x, kernel, *bias, attrs=attrs, loc=node.loc)
    return _crop(rw, y, counts, node)


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


def _cut(rw: Rewriter, x: Value, cut: list[int], node: Node) -> Value:
    """Without the leading input positions that no output reads."""
    if not any(cut):
        return x
    dims = x.type.dims
    starts = (0, 0, *cut)
    return rw.emit("slice", x, attrs=SliceAttrs(starts, dims, (1,) * len(dims)), loc=node.loc)


def _crop(rw: Rewriter, y: Value, counts: list[int], node: Node) -> Value:
    dims = y.type.dims
    stops = (*dims[:2], *counts)
    if stops == dims:
        return y
    zeros, ones = (0,) * len(dims), (1,) * len(dims)
    return rw.emit("slice", y, attrs=SliceAttrs(zeros, stops, ones), loc=node.loc)


def _interleave(rw: Rewriter, node: Node, parts: list[Value], counts: list[int]) -> Value:
    """Phases stacked on a new axis, moved beside the positions they interleave with, cropped."""
    a = node.attrs
    assert isinstance(a, ConvTransposeAttrs)
    n, c = node.result.type.dims[:2]
    if len(parts) == 1:
        return parts[0]
    rank = len(counts)
    stacked = [
        rw.emit("reshape", p, attrs=ReshapeAttrs((1, n, c, *counts)), loc=node.loc) for p in parts
    ]
    joined = rw.emit("concat", *stacked, attrs=ConcatAttrs(0), loc=node.loc)
    split = rw.emit("reshape", joined, attrs=ReshapeAttrs((*a.stride, n, c, *counts)), loc=node.loc)
    perm = [rank, rank + 1]
    for i in range(rank):
        perm += [rank + 2 + i, i]
    moved = rw.emit("transpose", split, attrs=TransposeAttrs(tuple(perm)), loc=node.loc)
    full = tuple(e * s for e, s in zip(counts, a.stride, strict=True))
    out = rw.emit("reshape", moved, attrs=ReshapeAttrs((n, c, *full)), loc=node.loc)
    return _crop(rw, out, list(node.result.type.dims[2:]), node)
