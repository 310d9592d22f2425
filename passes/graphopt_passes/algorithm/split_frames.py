"""split-frames: a convolution over frames and images as a sum of convolutions of images.

%y = conv %x, %w : f32[1,64,8,28,28]     →    %b = reshape %x {shape=[10,64,30,30]}    frames first
(weights of [64,64,3,3,3])                    %0 = conv %b[0:8], %w[:,:,0]
                                              %1 = conv %b[1:9], %w[:,:,1]
                                              %2 = conv %b[2:10], %w[:,:,2]
                                              %y = %0 + %1 + %2, frames second again

Images have Winograd's algorithm, which more than pays for the sums. Channels last, %b and %y are
views, and the sums are epilogues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import ConvAttrs, SliceAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.algorithm.choose_winograd import FEWEST, Shape
from graphopt_passes.products.batch_frames import as_batch, from_batch
from graphopt_passes.products.pointwise import name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, make

_LEAST = 0.7
"""Of a direct sum's time: the rest pays for reading and writing the sums."""


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    attrs, (x, w) = node.attrs, node.operands[:2]
    assert isinstance(attrs, ConvAttrs)
    if x.type.rank != 5 or not x.type.is_static or x.type.dims[0] != 1:
        return Reject("its input is not one sequence of frames, [1, c, frames, h, w]")
    taps, *kernel = w.type.dims[2:]
    if taps == 1 or kernel != [3, 3]:
        return Reject("its kernel is not one of several frames of 3x3")
    plain = {*attrs.stride, *attrs.dilation} == {1} and not any(map(any, attrs.padding))
    if attrs.groups != 1 or not plain:
        return Reject("it has groups, steps, dilation or padding")
    known = parameters(node, rw)
    if isinstance(known, str):
        return Reject(known)
    if not _pays(node):
        return Reject("a direct sum is as fast")
    batch = as_batch(x)
    total: Make | None = None
    for tap in range(taps):
        flat = constant(known[0][:, :, tap], name(w, f"frame{tap}"))
        bias = node.operands[2:] if tap == 0 else ()
        image = make("conv", _frames(batch, tap, node.result.type.dims[2]), flat, *bias,
                     attrs=ConvAttrs((1, 1), ((0, 0), (0, 0)), (1, 1)))  # fmt: skip
        total = image if total is None else make("add", image, total)
    assert total is not None
    return from_batch(total, 1)


def _frames(batch: Make, start: int, count: int) -> Make:
    dims = batch.type().dims
    attrs = SliceAttrs((start, 0, 0, 0), (start + count, *dims[1:]), (1,) * 4)
    return make("slice", batch, attrs=attrs)


def _pays(node: Node) -> bool:
    _, channels, frames, *extents = node.result.type.dims
    shape = Shape(frames, node.operands[1].type.dims[1], channels, tuple(extents))
    least = shape.least_cost()
    return min(shape.inputs, channels) >= FEWEST and least <= _LEAST * shape.direct_cost()


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class SplitFrames(RulePass):
    """Numerics: reassociates; a sum over frames is taken last. Refuses: batches of sequences, other
    kernels, groups, steps, dilation and padding (explicit-padding comes before), weights that are
    computed at run time or shared, and what Winograd's algorithm would not make faster.
    """

    name: ClassVar[str] = "split-frames"
    numerics: ClassVar[Numerics] = REASSOCIATES
    serves: ClassVar[str] = "choose-winograd"
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
