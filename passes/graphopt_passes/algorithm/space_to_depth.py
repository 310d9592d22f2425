"""space-to-depth: a convolution with steps as one without, whose channels are the phases of pixels.

%y = conv %x, %w {stride=[2,2], ..}   →   %p = reshape %x {shape=[1,64,33,2,33,2]}
(%x of [1,64,66,66],                       %q = transpose %p {perm=[0,3,5,1,2,4]}
weights of [128,64,4,4])                   %d = reshape %q {shape=[1,256,33,33]}
                                           %y = conv %d, %v {stride=[1,1], ..}
                                           (weights of [128,256,2,2])

The step times as few taps have Winograd's algorithm, which more than pays for the copy; along one
axis, channels last, there is none. What no phase has, a weight of 0 stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.ops import ConvAttrs, PadAttrs, ReshapeAttrs, SliceAttrs, TransposeAttrs
from graphopt.ops.winograd import TRANSFORMS
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.algorithm.choose_winograd import FEWEST, MARGIN, Shape
from graphopt_passes.algorithm.normalized import NORMALIZED, is_normalized
from graphopt_passes.products.pointwise import name, parameters
from graphopt_passes.recipes import Recipe, Rule, RulePass, constant, make, type_of

_COPY = 25.0
"""Multiply-adds in the time that copying an element takes, measured."""


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    attrs, (x, w) = node.attrs, node.operands[:2]
    assert isinstance(attrs, ConvAttrs)
    if x.type.rank not in (3, 4) or not x.type.is_static or x.type.dtype is not DType.F32:
        return Reject("its input is not a sequence or an image of f32 and known extents")
    step, extent = attrs.stride[0], w.type.dims[2]
    if {*attrs.stride} != {step} or {*w.type.dims[2:]} != {extent} or step == 1:
        return Reject("it has no step, or axes differ")
    if attrs.groups != 1 or {*attrs.dilation} != {1} or any(map(any, attrs.padding)):
        return Reject("it has groups, dilation or padding")
    taps = -(-extent // step)
    if (taps, 1) not in TRANSFORMS:
        return Reject("its phases are not of 2 to 4 taps")
    known = parameters(node, rw)
    if isinstance(known, str):
        return Reject(known)
    if not _pays(node, step, taps):
        return Reject("as it is it is as fast")
    if is_normalized(node.result, rw):
        return Reject(NORMALIZED)
    wanted = [step * (e + taps - 1) for e in node.result.type.dims[2:]]
    rank = len(wanted)
    missing = step * taps - extent
    weights = np.pad(known[0], ((0, 0), (0, 0), *((0, missing),) * rank))
    return make(
        "conv",
        phases(fitted(x, wanted), step),
        constant(turned(weights, step), name(w, "phases")),
        *node.operands[2:],
        attrs=ConvAttrs((1,) * rank, ((0, 0),) * rank, (1,) * rank),
    )


def fitted(x: Value, extents: Sequence[int]) -> Recipe:
    """An image of these extents: what no window reaches goes, what is missing is zeros."""
    dims = x.type.dims
    kept = tuple(map(min, dims[2:], extents))
    out: Recipe = x
    if kept != dims[2:]:
        every = SliceAttrs((0,) * len(dims), (*dims[:2], *kept), (1,) * len(dims))
        out = make("slice", out, attrs=every)
    after = tuple(e - k for e, k in zip(extents, kept, strict=True))
    if any(after):
        out = make("pad", out, attrs=PadAttrs((0,) * len(dims), (0, 0, *after)))
    return out


def phases(x: Recipe, step: int) -> Recipe:
    """[n, c, step * e, ..] to [n, step * .. * c, e, ..]: pixels of a phase, then channels."""
    n, c, *extents = type_of(x).dims
    coarse = [e // step for e in extents]
    split = make("reshape", x, attrs=ReshapeAttrs((n, c, *_split(coarse, step))))
    first = make("transpose", split, attrs=TransposeAttrs(_phases_first(len(coarse))))
    return make("reshape", first, attrs=ReshapeAttrs((n, step ** len(coarse) * c, *coarse)))


def turned(weights: np.ndarray, step: int) -> np.ndarray:
    """Weights of [o, c, step * taps, ..], for an input in `phases`."""
    o, c, *extents = weights.shape
    coarse = [e // step for e in extents]
    split = weights.reshape(o, c, *_split(coarse, step))
    return split.transpose(_phases_first(len(coarse))).reshape(o, -1, *coarse)


def _split(coarse: Sequence[int], step: int) -> tuple[int, ...]:
    return tuple(d for e in coarse for d in (e, step))


def _phases_first(rank: int) -> tuple[int, ...]:
    """[n, c, e, step, ..] to [n, step, .., c, e, ..]."""
    return (0, *range(3, 3 + 2 * rank, 2), 1, *range(2, 2 + 2 * rank, 2))


def _pays(node: Node, step: int, taps: int) -> bool:
    n, outputs, *extents = node.result.type.dims
    _, inputs, extent, *_ = node.operands[1].type.dims
    rank, image = len(extents), tuple(extents)
    now = Shape(n, inputs, outputs, image, stride=step, taps=extent)
    there = [now.direct_cost(), *map(now.cost, TRANSFORMS.get((extent, step), ()))]
    coarse = Shape(n, inputs * step**rank, outputs, image, taps=taps)
    # along one axis, channels last, phases are a view
    copied = inputs * n * prod(step * (e + taps - 1) for e in extents) if rank > 1 else 0
    best = min(map(coarse.cost, TRANSFORMS[taps, 1])) + _COPY * copied
    return min(coarse.inputs, outputs) >= FEWEST and best <= MARGIN * min(there)


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class SpaceToDepth(RulePass):
    """Numerics: reassociates; a sum is taken phase by phase. Refuses: groups, dilation and padding
    (explicit-padding comes before), steps that differ, weights that are computed at run time or
    shared, and what Winograd's algorithm would not make faster, or not precisely enough.
    """

    name: ClassVar[str] = "space-to-depth"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
