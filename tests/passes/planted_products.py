"""Bugs in what is folded into products, and moved around them."""

from __future__ import annotations

from unittest import mock

import numpy as np
from graphopt_passes.fold import channels, fold_batchnorm, fold_constants, fold_scale
from graphopt_passes.layout import pad_channels
from graphopt_passes.move import sink_concats, sink_reshapes, sink_slices, sink_views
from graphopt_passes.precision import cast_precision
from graphopt_passes.products import (
    batch_frames,
    compose_products,
    hoist_products,
    linear_to_conv,
    matmul_to_linear,
    merge_parallel_products,
)
from graphopt_passes.recipes import Recipe, make
from graphopt_passes.recognize import recognize_attention
from planting import LINEAR, Bugs, rule

from graphopt.ir.graph import Node, Value
from graphopt.ops import (
    ReshapeAttrs,
    SliceAttrs,
    TransposeAttrs,
)
from graphopt.passbase import Pass
from graphopt.rewrite import Plan, Reject, Rewriter

BUGS = Bugs()
plant = BUGS.plant


# Folding ------------------------------------------------------------------------------------------

plant(
    "an array with equal ends taken for a splat",
    "fold-constants",
    fold_constants,
    "uniform",
    lambda array: float(array.flat[0]) if array.flat[0] == array.flat[-1] else None,
    '%x = input : f32[3]\n%c = constant {key="c", value=[1,5,1]} : f32[3]\n%d = exp %c\n'
    "%y = mul %x, %d\nreturn %y",
)


def _norm_behind(op: str, groups: int = 1, result: str = "%z", eps: str = "0.5") -> str:
    attrs = {
        "conv": "stride=[1], padding=[[0,0]], dilation=[1]",
        "conv_transpose": "stride=[2], padding=[0], output_padding=[0], dilation=[1]",
    }[op]
    text = f'%x = input : f32[2,4,5]\n%w = constant {{key="w"}} : f32[4,{4 // groups},3]\n'
    text += "".join(f'%{n} = constant {{key="{n}"}} : f32[4]\n' for n in "bgsmv")
    text += f"%y = {op} %x, %w, %b {{{attrs}, groups={groups}}}\n"
    return text + f"%z = batch_norm %y, %g, %s, %m, %v {{eps={eps}}}\nreturn {result}"


def _epsilon_outside(
    weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    scale = weight.astype(np.float64) / (np.sqrt(var.astype(np.float64)) + eps)
    return scale, bias - mean * scale


def _mean_not_scaled(
    weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    return weight.astype(np.float64) / np.sqrt(var.astype(np.float64) + eps), bias - mean


def _groups_ignored(weight: np.ndarray, scale: np.ndarray, product: Node) -> np.ndarray:
    return weight * scale.reshape(-1, 1, *(1,) * (weight.ndim - 2))  # type: ignore[no-any-return]


def _without_bias(self: Pass, plan: Plan, rw: Rewriter) -> None:
    plan.parameters = plan.parameters[:1]
    _apply_batchnorm(self, plan, rw)  # type: ignore[arg-type]


_apply_batchnorm = fold_batchnorm.FoldBatchnorm.apply

plant(
    "epsilon outside the root",
    "fold-batchnorm",
    fold_batchnorm,
    "scale_and_shift",
    _epsilon_outside,
    _norm_behind("conv"),
)
plant(
    "the mean not scaled",
    "fold-batchnorm",
    fold_batchnorm,
    "scale_and_shift",
    _mean_not_scaled,
    _norm_behind("conv"),
)
plant(
    "groups of a transposed convolution ignored",
    "fold-batchnorm",
    fold_batchnorm,
    "scaled",
    _groups_ignored,
    _norm_behind("conv_transpose", groups=2),
)
plant(
    "the convolution's bias dropped",
    "fold-batchnorm",
    fold_batchnorm.FoldBatchnorm,
    "apply",
    _without_bias,
    _norm_behind("conv"),
)


class FoldForEveryReader(fold_batchnorm.FoldBatchnorm):
    """Who else reads the convolution sees the folded one too."""

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        with mock.patch.object(Rewriter, "has_one_use", return_value=True):
            return super().plan_in(node, rw)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        super().apply(plan, rw)
        rw.replace(plan.conv.result, rw.nodes[-1].result)


plant(
    "a convolution folded for all its readers",
    "fold-batchnorm",
    None,
    "",
    FoldForEveryReader(),
    _norm_behind("conv").replace(
        "return %z",
        "%o = conv %x, %w {stride=[1], padding=[[0,0]], dilation=[1]}\n"
        "%n = batch_norm %o, %g, %s, %m, %v {eps=0.5}\nreturn %z, %n, %o",
    ),
)

SCALED = LINEAR + '%b = constant {key="b"} : f32[4]\n%s = constant {key="s"} : f32[4]\n'
SCALED += "%y = linear %x, %w, %b\n%z = mul %y, %s\nreturn %z"
_apply_scale = fold_scale.FoldScale.apply


def _bias_not_scaled(self: Pass, plan: Plan, rw: Rewriter) -> None:
    plan.parameters = [plan.parameters[0], plan.parameters[1] / plan.factor]
    _apply_scale(self, plan, rw)  # type: ignore[arg-type]


plant(
    "the bias not scaled with the weights",
    "fold-scale",
    fold_scale.FoldScale,
    "apply",
    _bias_not_scaled,
    SCALED,
)
plant(
    "inputs scaled in place of outputs",
    "fold-scale",
    fold_scale,
    "scaled",
    lambda weight, scale, product: weight * scale,
    SCALED,
)
plant(
    "the sum taken for the whole bias",
    "fold-scale",
    fold_scale.FoldScale,
    "apply",
    lambda self, plan, rw: _apply_scale(
        self,
        Plan(plan.node, product=plan.product, factor=plan.factor, parameters=plan.parameters[:1]),
        rw,
    ),
    SCALED.replace("mul", "add"),
)
plant(
    "a bias along the wrong axis",
    "fold-bias",
    channels,
    "channel_axis",
    lambda product: 2,
    '%x = input : f32[1,2,4]\n%w = constant {key="w"} : f32[4,2,1]\n'
    '%v = constant {key="v"} : f32[4,4]\n%b = constant {key="b"} : f32[4]\n'
    "%p = conv %x, %w {stride=[1], padding=[[0,0]], dilation=[1]}\n%y = add %p, %b\n"
    "%q = linear %x, %v\n%z = add %q, %b\nreturn %y, %z",
)

# Products and moves -------------------------------------------------------------------------------


def _not_turned(self: Pass, plan: Plan, rw: Rewriter) -> None:
    rw.replace(plan.node.result, rw.emit("linear", *plan.node.operands, loc=plan.node.loc))


plant(
    "weights not transposed",
    "matmul-to-linear",
    matmul_to_linear.MatmulToLinear,
    "apply",
    _not_turned,
    LINEAR + "%y = matmul %x, %w\nreturn %y",
)
PAIR = LINEAR + '%v = constant {key="v"} : f32[4,4]\n%a = linear %x, %w\n%b = linear %x, %v\n'
PAIR += "%y = sub %a, %b\nreturn %y"
_columns = merge_parallel_products._columns
plant(
    "every part of a merged product the first",
    "merge-parallel-products",
    merge_parallel_products,
    "_columns",
    lambda merged, at, width: _columns(merged, 0, width),
    PAIR,
)
plant(
    "weights stacked in another order than results",
    "merge-parallel-products",
    merge_parallel_products,
    "_stacked",
    lambda values, rw: np.concatenate([rw.array(v) for v in values[::-1]]),
    PAIR,
)


def _any_view(node: Node, rw: Rewriter) -> Recipe | None:
    view = node.operands[0].producer
    if view is None or view.op.name not in ("reshape", "transpose"):
        return None
    product = make("linear", view.operands[0], *node.operands[1:])
    return make("reshape", product, attrs=ReshapeAttrs(node.result.type.dims))


plant(
    "a transpose of rows taken for a reshape",
    "sink-reshapes",
    sink_reshapes.SinkReshapes,
    "rules",
    rule(sink_reshapes.SinkReshapes, "linear", _any_view),
    '%x = input : f32[4,4,4]\n%w = constant {key="w"} : f32[4,4]\n'
    "%t = transpose %x {perm=[1,0,2]}\n%y = linear %t, %w\n"
    "%r = reshape %x {shape=[16,4]}\n%z = linear %r, %w\nreturn %y, %z",
)


def _first_part_alone(node: Node, joined: Value, at: Value, rw: Rewriter) -> Value:
    first, *others = joined.producer.operands  # type: ignore[union-attr]
    first = rw.emit(node.op.name, first, attrs=node.attrs)
    return rw.emit("concat", first, *others, attrs=joined.producer.attrs)  # type: ignore[union-attr]


def _start_not_divided(node: Node, rw: Rewriter) -> Recipe | None:
    part = node.operands[0].producer
    if part is None or part.op.name != "slice":
        return None
    (x,), attrs = part.operands, part.attrs
    assert isinstance(attrs, SliceAttrs)
    (rows, columns), (_, heads, inner) = x.type.dims, node.result.type.dims
    start = min(attrs.starts[1], columns // inner - heads)
    split = make("reshape", x, attrs=ReshapeAttrs((rows, columns // inner, inner)))
    return make(
        "slice", split, attrs=SliceAttrs((0, start, 0), (rows, start + heads, inner), (1, 1, 1))
    )


plant(
    "the start of a slice counted in elements, not heads",
    "sink-slices",
    sink_slices.SinkSlices,
    "rules",
    rule(sink_slices.SinkSlices, "reshape", _start_not_divided),
    "%x = input : f32[2,12]\n%s = slice %x {starts=[0,2], stops=[2,6], steps=[1,1]}\n"
    "%y = reshape %s {shape=[2,2,2]}\nreturn %y",
)
VIEWED = '%r = input : f32[4,4,4]\n%x = input : f32[4,4,4]\n%w = constant {key="w"} : f32[4,4]\n'
VIEWED += "%p = linear %x, %w\n%t = transpose %p {perm=[1,2,0]}\n%y = add %t, %r\nreturn %y"
plant(
    "a perm taken for its inverse",
    "sink-views",
    sink_views,
    "_inverse",
    lambda value, view: make("transpose", value, attrs=TransposeAttrs(view.attrs.perm)),
    VIEWED,
)
plant(
    "the other operand not moved",
    "sink-views",
    sink_views,
    "_inverse",
    lambda value, view: value,
    VIEWED,
)
plant(
    "a scale left out",
    "recognize-attention",
    recognize_attention,
    "_scaled",
    lambda number, scores: scores,
    """%q = input : f32[1,2,4,8]
%kt = input : f32[1,2,8,5]
%v = input : f32[1,2,5,6]
%c = full {value=4.0, shape=[], dtype=f32}
%s = matmul %q, %kt
%m = div %s, %c
%p = softmax %m {axis=3}
%y = matmul %p, %v
return %y""",
)
JOINED = """%x = input : f32[2,4]
%w = constant {key="w"} : f32[3,4]
%v = constant {key="v"} : f32[3,4]
%a = linear %x, %w
%b = linear %x, %v
%c = concat %a, %b {axis=1}
%y = sigmoid %c
return %y"""
plant(
    "the op on the first part alone",
    "sink-concats",
    sink_concats,
    "_distributed",
    _first_part_alone,
    JOINED,
)
TOKENS = """%x = input : f32[1,6,4]
%w = constant {key="w"} : f32[4,4]
%a = linear %x, %w
%t = transpose %a {perm=[0,2,1]}
%i = reshape %t {shape=[1,4,2,3]}
%k = constant {key="k"} : f32[4,1,1,1]
%y = conv %i, %k {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=4}
return %y"""
_constant = Rewriter.constant
plant(
    "inputs and outputs of a weight exchanged",
    "linear-to-conv",
    linear_to_conv.Rewriter,
    "constant",
    lambda self, array, name, loc: _constant(self, array.swapaxes(0, 1), name=name, loc=loc),
    TOKENS,
)
plant(
    "channels taken for frames",
    "batch-frames",
    batch_frames,
    "_swapped",
    lambda rank: TransposeAttrs(tuple(range(rank))),
    """%x = input : f32[1,3,3,4,4]
%w = constant {key="w"} : f32[3,3,1,3,3]
%y = conv %x, %w {stride=[1,1,1], padding=[[0,0],[0,0],[0,0]], dilation=[1,1,1]}
return %y""",
)
_parameters = compose_products.parameters


def _without_bias(node: Node, rw: Rewriter) -> tuple[np.ndarray, None] | str:
    known = _parameters(node, rw)
    return known if isinstance(known, str) else (known[0], None)


plant(
    "the inner product's bias forgotten",
    "compose-products",
    compose_products,
    "parameters",
    _without_bias,
    LINEAR + '%b = constant {key="b"} : f32[4]\n%v = constant {key="v"} : f32[3,4]\n'
    "%a = linear %x, %w, %b\n%y = linear %a, %v\nreturn %y",
)
_hoisted = hoist_products._Split._product
plant(
    "the bias added with every part",
    "hoist-products",
    hoist_products._Split,
    "_product",
    lambda self, x, weights, with_bias: _hoisted(self, x, weights, with_bias=True),
    """%x = input : f32[1,48,2,2]
%s = input : f32[1,4,8,8]
%w = constant {key="w"} : f32[3,52,1,1]
%b = constant {key="b"} : f32[3]
%r = resize %x {size=[8,8], mode="bilinear"}
%i = concat %r, %s {axis=1}
%y = conv %i, %w, %b {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}
return %y""",
)


class TurnedChannels(pad_channels.PadChannels):
    """The weights' channels in the opposite order."""

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        plan = super().plan_in(node, rw)
        if isinstance(plan, Reject):
            return plan
        return Plan(plan.node, missing=plan.missing, weights=plan.weights[:, ::-1])


plant(
    "channels of padded weights turned",
    "pad-channels{multiple=4}",
    None,
    "",
    TurnedChannels(multiple=4),
    '%x = input : f32[1,3,5,5]\n%w = constant {key="w"} : f32[2,3,3,3]\n'
    "%y = conv %x, %w {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}\nreturn %y",
)

_rounded = cast_precision.rounded
plant(
    "constants that are larger in a half",
    "cast-precision{to=f16}",
    cast_precision,
    "rounded",
    lambda array, to: _rounded(array * 1.5, to),
    '%x = input : f32[4,6]\n%w = constant {key="w"} : f32[3,6]\n%y = linear %x, %w\nreturn %y',
)
