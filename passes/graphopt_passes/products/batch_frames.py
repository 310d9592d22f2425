"""batch-frames: frames that a 3-d convolution does not mix become a batch of images.

%y = conv %x, %w : f32[1,64,8,28,28]     →    %t = transpose %x {perm=[0,2,1,3,4]}
                                              %i = reshape %t {shape=[8,32,28,28]}
(weights of [64,32,1,3,3])                    %c = conv %i, %w : f32[8,64,28,28]
                                              %r = reshape %c {shape=[1,8,64,28,28]}
                                              %y = transpose %r {perm=[0,2,1,3,4]}

Channels last, the views are free, and images have Winograd's algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import ConvAttrs, ReshapeAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.products.pointwise import name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, make, type_of


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    attrs, x = node.attrs, node.operands[0]
    assert isinstance(attrs, ConvAttrs)
    if x.type.rank != 5 or not x.type.is_static:
        return Reject("its input is not [n, c, frames, h, w]")
    kernel = node.operands[1].type.dims[2:]
    if (kernel[0], attrs.stride[0], attrs.padding[0]) != (1, 1, (0, 0)):
        return Reject("it mixes frames")
    if kernel[1:] != (3, 3) or attrs.groups != 1 or {*attrs.stride, *attrs.dilation} != {1}:
        return Reject("only dense 3x3 convolutions gain by it")
    known = parameters(node, rw)
    if isinstance(known, str):
        return Reject(known)
    flat = constant(known[0][:, :, 0], name(node.operands[1], "image"))
    image = replace(attrs, stride=(1, 1), padding=attrs.padding[1:], dilation=(1, 1))
    conv = make("conv", as_batch(x), flat, *node.operands[2:], attrs=image)
    return from_batch(conv, x.type.dims[0])


def as_batch(x: Recipe) -> Make:
    """What lies along the first axis behind the channels, frames or rows, as a batch."""
    n, c, frames, *extents = type_of(x).dims
    batch = make("transpose", x, attrs=_swapped(3 + len(extents)))
    return make("reshape", batch, attrs=ReshapeAttrs((n * frames, c, *extents)))


def from_batch(batch: Make, n: int) -> Make:
    """A batch of as many frames or rows for each of `n`, as they were before."""
    all_frames, c, *extents = batch.type().dims
    split = make("reshape", batch, attrs=ReshapeAttrs((n, all_frames // n, c, *extents)))
    return make("transpose", split, attrs=_swapped(3 + len(extents)))


def _swapped(rank: int) -> TransposeAttrs:
    """[n, c, frames, ..] to [n, frames, c, ..], and back."""
    return TransposeAttrs((0, 2, 1, *range(3, rank)))


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class BatchFrames(RulePass):
    """Numerics: reassociates; the sums are the same, the reference adds them up in another order.
    Refuses: kernels that reach over frames; those of images that are not dense 3x3; weights that
    are computed at run time or shared.
    """

    name: ClassVar[str] = "batch-frames"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
