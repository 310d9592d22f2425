"""split-taps: a convolution of many taps as one of few, whose channels are its input, moved.

%y = conv %x, %w {..}         →   %p = pad %x {after=[0,0,1]}
(%x of [1,64,1606],               %a = slice %p {starts=[0,0,0], stops=[1,64,1603]}
weights of [64,64,7])             %b = slice %p {starts=[0,0,4], stops=[1,64,1607]}
                                  %c = concat %a, %b {axis=1}
                                  %y = conv %c, %v {..}    (weights of [64,128,4])

Few taps have Winograd's algorithm, which more than pays for the copies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.ops import ConcatAttrs, ConvAttrs, PadAttrs, SliceAttrs
from graphopt.ops.winograd import TRANSFORMS
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.algorithm.choose_winograd import COPY, FEWEST, MARGIN, Shape
from graphopt_passes.algorithm.normalized import NORMALIZED, is_normalized
from graphopt_passes.products.pointwise import name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, make

_FEW = tuple(taps for taps, stride in TRANSFORMS if stride == 1)


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    attrs, (x, w) = node.attrs, node.operands[:2]
    assert isinstance(attrs, ConvAttrs)
    if x.type.rank not in (3, 4) or not x.type.is_static or x.type.dtype is not DType.F32:
        return Reject("its input is not a sequence or an image of f32 and known extents")
    taps, *others = w.type.dims[2:]
    if any(t != taps for t in others) or taps <= max(_FEW):
        return Reject("its axes differ, or its taps are few")
    if attrs.groups != 1 or {*attrs.stride} != {1} or any(map(any, attrs.padding)):
        return Reject("it has groups, steps or padding")
    known = parameters(node, rw)
    if isinstance(known, str):
        return Reject(known)
    n, outputs, *extents = node.result.type.dims
    direct = Shape(n, x.type.dims[1], outputs, tuple(extents), dilation=attrs.dilation, taps=taps)
    few = _best(direct)
    if outputs < FEWEST or _cost(direct, few) > MARGIN * direct.direct_cost():
        return Reject("a direct sum is as fast")
    if is_normalized(node.result, rw):
        return Reject(NORMALIZED)
    return make(
        "conv",
        moved(x, direct, few),
        constant(parted(known[0], few), name(w, "parts")),
        *node.operands[2:],
        attrs=attrs,
    )


def split_cost(direct: Shape) -> float:
    """In multiply-adds, of as many taps at a time as take least."""
    return _cost(direct, _best(direct))


def _best(direct: Shape) -> int:
    return min(_FEW, key=lambda taps: _cost(direct, taps))


def _cost(direct: Shape, few: int) -> float:
    """In multiply-adds, of so few taps at a time, copies included."""
    rank = len(direct.extents)
    inputs = prod((direct.inputs, *(-(-direct.taps // few),) * rank))
    parts = replace(direct, inputs=inputs, taps=few)
    copied = direct.n * inputs * prod(_reached(direct, few))
    return parts.least_cost() + COPY * copied


def _reached(direct: Shape, few: int) -> tuple[int, ...]:
    """The extents of what so few taps reach."""
    return tuple(e + (few - 1) * d for e, d in zip(direct.extents, direct.dilation, strict=False))


def moved(x: Value, direct: Shape, few: int) -> Make:
    """The input as each part of the taps reaches it, one's channels after another's."""
    parts, dims = -(-direct.taps // few), x.type.dims
    dilation = direct.dilation[: len(direct.extents)]
    missing = tuple((parts * few - direct.taps) * d for d in dilation)
    none = (0,) * len(dims)
    whole = make("pad", x, attrs=PadAttrs(none, (0, 0, *missing))) if any(missing) else x
    slices = []
    for at in product(range(parts), repeat=len(dilation)):
        first = tuple(p * few * d for p, d in zip(at, dilation, strict=True))
        last = tuple(f + e for f, e in zip(first, _reached(direct, few), strict=True))
        attrs = SliceAttrs((0, 0, *first), (*dims[:2], *last), (1,) * len(dims))
        slices.append(make("slice", whole, attrs=attrs))
    return make("concat", *slices, attrs=ConcatAttrs(1))


def parted(weights: np.ndarray, few: int) -> np.ndarray:
    """Weights of [o, c, taps, ..] for an input that is `moved`; what no part has is 0."""
    o, c, taps, *others = weights.shape
    rank, parts = 1 + len(others), -(-taps // few)
    whole = np.pad(weights, ((0, 0), (0, 0), *((0, parts * few - taps),) * rank))
    split = whole.reshape(o, c, *(parts, few) * rank)
    first = (0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2))
    return split.transpose(first).reshape(o, -1, *(few,) * rank)


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class SplitTaps(RulePass):
    """Numerics: reassociates; a sum is taken part by part. Refuses: groups, steps and padding
    (explicit-padding comes before), kernels of up to 4 taps, weights that are computed at run time
    or shared, and what Winograd's algorithm would not make faster, or not precisely enough.
    """

    name: ClassVar[str] = "split-taps"
    numerics: ClassVar[Numerics] = REASSOCIATES
    serves: ClassVar[str] = "choose-winograd"
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
