"""space-to-depth: a convolution with steps as one without, whose channels are the phases of pixels.

%y = conv %x, %w {stride=[2,2], ..}   →   %p = reshape %x {shape=[1,64,33,2,33,2]}
(%x of [1,64,66,66],                       %q = transpose %p {perm=[0,3,5,1,2,4]}
weights of [128,64,4,4])                   %d = reshape %q {shape=[1,256,33,33]}
                                           %y = conv %d, %v {stride=[1,1], ..}
                                           (weights of [128,256,2,2])

The step times as few taps have Winograd's algorithm, which more than pays for the copy; along one
axis, channels last, there is none. What no phase has, a weight of 0 stands for. Over frames, whose
images alone have steps, the frames that a kernel reaches are channels first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.ops import ConcatAttrs, ConvAttrs, PadAttrs, ReshapeAttrs, SliceAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.algorithm.choose_winograd import COPY, FEWEST, MARGIN, Shape
from graphopt_passes.algorithm.normalized import NORMALIZED, is_normalized
from graphopt_passes.products.batch_frames import as_batch, from_batch
from graphopt_passes.products.pointwise import name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, make, type_of


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    x, w = node.operands[:2]
    strided = _strided(node)
    if isinstance(strided, str):
        return Reject(strided)
    weights = _weights(node, strided, rw)
    if isinstance(weights, str):
        return Reject(weights)
    n, _, frames, *_ = node.result.type.dims
    video = x.type.rank == 5
    coarse = phases(fitted(as_batch(x) if video else x, _wanted(strided)), strided.stride)
    reached = np.moveaxis(weights, 2, 0) if video else (weights,)
    flat = np.concatenate([turned(at, strided.stride) for at in reached], 1)
    conv = make(
        "conv",
        _reached(coarse, n, len(reached), frames),
        constant(flat, name(w, "phases")),
        *node.operands[2:],
        attrs=_dense(len(strided.extents)),
    )
    return from_batch(conv, n) if video else conv


def _strided(node: Node) -> Shape | str:
    """The convolution of images that a node is, with steps, or why it is none. Frames are a batch
    of images; those that a kernel reaches are channels."""
    attrs, (x, w), y = node.attrs, node.operands[:2], node.result.type
    assert isinstance(attrs, ConvAttrs)
    if not x.type.is_static or x.type.dtype is not DType.F32:
        return "its input is not of f32 and known extents"
    first = 1 if x.type.rank == 5 else 0
    steps, kernel = attrs.stride[first:], w.type.dims[2 + first :]
    if any(s != 1 for s in attrs.stride[:first]) or steps[0] == 1:
        return "its images have no step, or frames have one"
    if len({*steps}) > 1 or len({*kernel}) > 1:
        return "its axes differ"
    if attrs.groups != 1 or {*attrs.dilation} != {1} or any(map(any, attrs.padding)):
        return "it has groups, dilation or padding"
    n, inputs = y.dims[0] * prod(y.dims[2 : 2 + first]), prod(w.type.dims[1 : 2 + first])
    return Shape(n, inputs, y.dims[1], y.dims[2 + first :], stride=steps[0], taps=kernel[0])


def _weights(node: Node, strided: Shape, rw: Rewriter) -> np.ndarray | str:
    """Of a convolution that is faster without steps; or why it stays as it is."""
    known = parameters(node, rw)
    if isinstance(known, str):
        return known
    coarse = _coarse(strided)
    if coarse.least_cost() == inf:
        return "its phases are not of 2 to 4 taps"
    # along one axis, channels last, phases are a view; frames that are reached are one more copy
    copies = node.operands[0].type.rank - 3
    copying = COPY * copies * strided.n * strided.inputs * prod(_wanted(strided))
    there = min(strided.direct_cost(), strided.least_cost())
    if (
        min(coarse.inputs, coarse.channels) < FEWEST
        or coarse.least_cost() + copying > MARGIN * there
    ):
        return "as it is it is as fast"
    return NORMALIZED if is_normalized(node.result, rw) else known[0]


def _coarse(strided: Shape) -> Shape:
    """The same convolution over phases."""
    inputs = strided.inputs * strided.stride ** len(strided.extents)
    return replace(strided, inputs=inputs, stride=1, taps=-(-strided.taps // strided.stride))


def _dense(rank: int) -> ConvAttrs:
    return ConvAttrs((1,) * rank, ((0, 0),) * rank, (1,) * rank)


def _wanted(strided: Shape) -> list[int]:
    """The extents of an image of whole phases that has all windows."""
    return [strided.stride * (e + _coarse(strided).taps - 1) for e in strided.extents]


def _reached(images: Make, n: int, reach: int, frames: int) -> Recipe:
    """Sequences of frames, a batch, with those that a kernel reaches as channels, one's after
    another's."""
    if reach == 1:
        return images
    batch, c, h, w = images.type().dims
    apart = make("reshape", images, attrs=ReshapeAttrs((n, batch // n, c, h, w)))
    every = (
        SliceAttrs((0, at, 0, 0, 0), (n, at + frames, c, h, w), (1,) * 5) for at in range(reach)
    )
    slices = [make("slice", apart, attrs=attrs) for attrs in every]
    joined = make("concat", *slices, attrs=ConcatAttrs(2))
    return make("reshape", joined, attrs=ReshapeAttrs((n * frames, reach * c, h, w)))


def fitted(x: Recipe, extents: Sequence[int]) -> Recipe:
    """An image of these extents: what no window reaches goes, what is missing is zeros."""
    dims = type_of(x).dims
    kept = tuple(map(min, dims[2:], extents))
    out = x
    if kept != dims[2:]:
        every = SliceAttrs((0,) * len(dims), (*dims[:2], *kept), (1,) * len(dims))
        out = make("slice", out, attrs=every)
    after = tuple(e - k for e, k in zip(extents, kept, strict=True))
    if any(after):
        out = make("pad", out, attrs=PadAttrs((0,) * len(dims), (0, 0, *after)))
    return out


def phases(x: Recipe, step: int) -> Make:
    """[n, c, step * e, ..] to [n, step * .. * c, e, ..]: pixels of a phase, then channels."""
    n, c, *extents = type_of(x).dims
    coarse = [e // step for e in extents]
    split = make("reshape", x, attrs=ReshapeAttrs((n, c, *_split(coarse, step))))
    first = make("transpose", split, attrs=TransposeAttrs(_phases_first(len(coarse))))
    return make("reshape", first, attrs=ReshapeAttrs((n, step ** len(coarse) * c, *coarse)))


def turned(weights: np.ndarray, step: int) -> np.ndarray:
    """Weights of [o, c, extent, ..] for an input in `phases`; what no phase has is 0."""
    o, c, *extents = weights.shape
    coarse = [-(-e // step) for e in extents]
    missing = ((0, step * k - e) for k, e in zip(coarse, extents, strict=True))
    whole = np.pad(weights, ((0, 0), (0, 0), *missing))
    split = whole.reshape(o, c, *_split(coarse, step))
    return split.transpose(_phases_first(len(coarse))).reshape(o, -1, *coarse)


def _split(coarse: Sequence[int], step: int) -> tuple[int, ...]:
    return tuple(d for e in coarse for d in (e, step))


def _phases_first(rank: int) -> tuple[int, ...]:
    """[n, c, e, step, ..] to [n, step, .., c, e, ..]."""
    return (0, *range(3, 3 + 2 * rank, 2), 1, *range(2, 2 + 2 * rank, 2))


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class SpaceToDepth(RulePass):
    """Numerics: reassociates; a sum is taken phase by phase. Refuses: groups, dilation and padding
    (explicit-padding comes before), steps that differ, weights that are computed at run time or
    shared, and what Winograd's algorithm would not make faster, or not precisely enough.
    """

    name: ClassVar[str] = "space-to-depth"
    numerics: ClassVar[Numerics] = REASSOCIATES
    serves: ClassVar[str] = "choose-winograd"
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
