"""linear-to-conv: a linear layer at every pixel, beside a depthwise convolution, is a 1x1 one.

%a = linear %x, %w : f32[1,64,32]            %t = reshape (transpose %x) : f32[1,16,8,8]
%t = transpose %a {perm=[0,2,1]}       →     %i = conv %t, %w : f32[1,32,8,8]
%i = reshape %t {shape=[1,32,8,8]}           %y = conv %i, .. {groups=32}
%y = conv %i, .. {groups=32}

Channels last, the views are free. Convolutions write their results inside a border, and chains of
them are fused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.lower.strips import is_depthwise
from graphopt.ops import ConvAttrs, LinearAttrs, ReshapeAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out

_TURNED = TransposeAttrs((0, 2, 1))
_POINTWISE = ConvAttrs((1, 1), ((0, 0), (0, 0)), (1, 1), 1, 0)


@dataclass(frozen=True)
class LinearToConv(RewritePass):
    """Numerics: reassociates; the sums are the same, the reference adds them up in another order.
    Refuses: linears of other ranks than [n, pixels, channels]; weights computed at run time; those
    whose input no depthwise convolution makes, through at most elementwise functions, and whose
    result none reads.
    """

    name: ClassVar[str] = "linear-to-conv"
    numerics: ClassVar[Numerics] = REASSOCIATES
    root: ClassVar[str] = "linear"

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        x, w = node.operands[:2]
        if x.type.rank != 3 or not x.type.is_static:
            return Reject("its input is not [n, pixels, channels]")
        if rw.array(w) is None:
            return Reject("its weights are computed at run time")
        if laid_out(node):
            return Reject(LAID_OUT)
        pixels = _convolved(x) or _to_be_convolved(node.result, rw)
        if pixels is None:
            return Reject("no depthwise convolution makes its input or reads its result")
        return Plan(node, pixels=pixels)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node, (height, width) = plan.node, plan.pixels
        x, w, *bias = node.operands
        weights = rw.array(w)
        assert weights is not None
        kernel = rw.constant(weights[:, :, None, None], name=f"{w.name}.kernel", loc=node.loc)
        n, _, inputs = x.type.dims
        shape = ReshapeAttrs((n, inputs, height, width))
        image = rw.emit("transpose", x, attrs=_TURNED, loc=node.loc)
        image = rw.emit("reshape", image, attrs=shape, loc=node.loc)
        assert isinstance(node.attrs, LinearAttrs)
        attrs = replace(_POINTWISE, strassen=node.attrs.strassen)
        y = rw.emit("conv", image, kernel, *bias, attrs=attrs, loc=node.loc)
        flat = ReshapeAttrs((n, len(weights), height * width))
        y = rw.emit("reshape", y, attrs=flat, loc=node.loc)
        rw.replace(node.result, rw.emit("transpose", y, attrs=_TURNED, loc=node.loc))


def _convolved(x: Value) -> tuple[int, int] | None:
    """Height and width of the image whose pixels x are, made by a depthwise convolution."""
    turned = x.producer
    if turned is None or turned.attrs != _TURNED:
        return None
    flat = turned.operands[0].producer
    if flat is None or flat.op.name != "reshape" or not _is_flat(flat.operands[0], flat.result):
        return None
    image = flat.operands[0]
    at = image.producer
    while at is not None and at.op.kind == "pointwise" and len(at.operands) == 1:
        at = at.operands[0].producer
    return _size(image) if at is not None and is_depthwise(at) else None


def _to_be_convolved(y: Value, rw: Rewriter) -> tuple[int, int] | None:
    """Height and width of the image that y becomes for a depthwise convolution alone."""
    turned = _only_user(y, rw)
    if turned is None or turned.attrs != _TURNED:
        return None
    image = _only_user(turned.result, rw)
    if image is None or image.op.name != "reshape" or not _is_flat(image.result, turned.result):
        return None
    conv = _only_user(image.result, rw)
    return _size(image.result) if conv is not None and is_depthwise(conv) else None


def _only_user(value: Value, rw: Rewriter) -> Node | None:
    return rw.users(value)[0] if rw.has_one_use(value) and rw.users(value) else None


def _is_flat(image: Value, flat: Value) -> bool:
    """Whether `flat` is [n, c, h * w] of an image [n, c, h, w]."""
    return image.type.rank == 4 and image.type.dims[:2] == flat.type.dims[:2]


def _size(image: Value) -> tuple[int, int]:
    _, _, height, width = image.type.dims
    return height, width
