"""drop-axes: a convolution whose kernel is one pixel wide along an axis, without that axis.

%y = conv %x, %w : f32[1,64,17,17]     →   %l = reshape %x {shape=[1,32,391]}
(%x of [1,32,23,17],                       %c = conv %l, %v {dilation=[17], ..} : f32[1,64,289]
weights of [64,32,7,1])                    %y = reshape %c {shape=[1,64,17,17]}

%y = conv %x, %w : f32[1,64,17,17]     →   %t = transpose %x {perm=[0,2,1,3]}
(%x of [1,32,17,23],                       %l = reshape %t {shape=[17,32,23]}
weights of [64,32,1,7])                    %c = conv %l, %v : f32[17,64,17]
                                           %r = reshape %c {shape=[1,17,64,17]}
                                           %y = transpose %r {perm=[0,2,1,3]}

Channels last, all of those are views; sequences have Winograd's algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.ops import ConvAttrs, ReshapeAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.algorithm.choose_winograd import COPY, FEWEST, MARGIN, Shape
from graphopt_passes.algorithm.normalized import NORMALIZED, is_normalized
from graphopt_passes.algorithm.split_taps import split_cost
from graphopt_passes.products.batch_frames import as_batch, from_batch
from graphopt_passes.products.pointwise import name, parameters
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, constant, make


def _conv(node: Node, rw: Rewriter) -> Recipe | Reject:
    attrs, (x, w) = node.attrs, node.operands[:2]
    assert isinstance(attrs, ConvAttrs)
    if x.type.rank != 4 or not x.type.is_static or x.type.dtype is not DType.F32:
        return Reject("its input is not an image of f32 and known extents")
    kernel = w.type.dims[2:]
    if kernel.count(1) != 1:
        return Reject("its kernel is not of one pixel along one axis alone")
    if attrs.groups != 1 or {*attrs.stride} != {1} or any(map(any, attrs.padding)):
        return Reject("it has groups, steps or padding")
    known = parameters(node, rw)
    if isinstance(known, str):
        return Reject(known)
    across = kernel.index(1)
    taps, dilation = kernel[1 - across], attrs.dilation[1 - across]
    line = _without(x, across, dilation, node.result.type.dims, taps)
    if min(line.inputs, line.channels) < FEWEST or not _pays(line, x):
        return Reject("a direct sum is as fast")
    if is_normalized(node.result, rw):
        return Reject(NORMALIZED)
    conv = make(
        "conv",
        _lines(x, across),
        constant(known[0].squeeze(2 + across), name(w, "line")),
        *node.operands[2:],
        attrs=ConvAttrs((1,), ((0, 0),), line.dilation),
    )
    return _image(conv, across, node.result.type.dims)


def _without(x: Value, across: int, dilation: int, result: tuple[int, ...], taps: int) -> Shape:
    """The convolution of lines."""
    n, channels, *extents = result
    if across == 0:
        n, extents = n * extents[0], extents[1:]
    else:
        dilation, extents = dilation * extents[1], [extents[0] * extents[1]]
    return Shape(n, x.type.dims[1], channels, tuple(extents), dilation=(dilation,), taps=taps)


def _pays(line: Shape, x: Value) -> bool:
    """A border that whatever makes the image could have written along with it is a copy here:
    views stand between the two."""
    bordered = x.producer is not None and x.producer.op.name == "pad"
    copied = COPY * x.type.numel if bordered else 0.0
    return min(line.least_cost(), split_cost(line)) + copied <= MARGIN * line.direct_cost()


def _lines(x: Value, across: int) -> Make:
    """Rows as a batch, or an image as one row after the other."""
    if across == 0:
        return as_batch(x)
    n, c, h, w = x.type.dims
    return make("reshape", x, attrs=ReshapeAttrs((n, c, h * w)))


def _image(lines: Make, across: int, result: tuple[int, ...]) -> Make:
    """And back."""
    if across == 0:
        return from_batch(lines, result[0])
    return make("reshape", lines, attrs=ReshapeAttrs(result))


RULES: Mapping[str, tuple[Rule, ...]] = {"conv": (_conv,)}


@dataclass(frozen=True)
class DropAxes(RulePass):
    """Numerics: reassociates; the sums are the same, the reference adds them up in another order.
    Refuses: kernels of several pixels along both axes, or of one along both; groups, steps and
    padding (explicit-padding comes before); weights that are computed at run time or shared; what
    Winograd's algorithm would not make faster, or not precisely enough.
    """

    name: ClassVar[str] = "drop-axes"
    numerics: ClassVar[Numerics] = REASSOCIATES
    serves: ClassVar[str] = "choose-winograd"
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
