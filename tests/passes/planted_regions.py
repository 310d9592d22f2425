"""Bugs in recognition, legalization, fusion and layouts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from graphopt_passes.fuse import fuse, fuse_strips
from graphopt_passes.layout import assign_layouts
from graphopt_passes.legalize import (
    clip_windows,
    decompose_conv_transpose,
    decompose_grouped_matmul,
    decompose_pooling,
    decompose_resize,
    explicit_padding,
)
from graphopt_passes.memory import join_concats
from graphopt_passes.recipes import Recipe, full, make
from graphopt_passes.recognize import (
    recognize_gathered_matmul,
    recognize_gelu,
    recognize_rms_norm,
    recognize_silu,
)
from graphopt_passes.simplify import simplify_attention
from planting import Bugs, rule
from test_recognize import BY_RSQRT, GELUS, _norm
from test_recognize import _text as spelled_out

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ops import (
    AttentionAttrs,
    GeluAttrs,
    RmsNormAttrs,
    SumAttrs,
)
from graphopt.rewrite import Rewriter, extract

BUGS = Bugs()
plant = BUGS.plant


# Recognition and attention ------------------------------------------------------------------------

plant(
    "tanh taken for erf",
    "recognize-gelu",
    recognize_gelu,
    "GeluAttrs",
    lambda approximate: GeluAttrs("none"),
    spelled_out(GELUS["half-last"]),
)
plant(
    "the factor not divided out again",
    "recognize-silu",
    recognize_silu,
    "full",
    lambda value, shape, dtype: full(1 / value, shape, dtype),
    spelled_out("%a = mul %x, %c\n%s = sigmoid %a\n%y = mul %s, %x"),
)
plant(
    "a mean over another axis taken for the last",
    "recognize-rms-norm",
    recognize_rms_norm,
    "_trailing",
    lambda mean, rank: 1,
    _norm(BY_RSQRT, "axes=[0], keepdims=true").replace("return %y", "")
    + "%q2 = mul %y, %y\n%m2 = mean %q2 {axes=[1], keepdims=true}\n%e2 = add %eps, %m2\n"
    "%r2 = rsqrt %e2\n%n2 = mul %r2, %y\n%y2 = mul %w, %n2\nreturn %y2",
)
plant(
    "epsilon forgotten",
    "recognize-rms-norm",
    recognize_rms_norm,
    "RmsNormAttrs",
    lambda axes, eps: RmsNormAttrs(axes, 0.0),
    _norm(BY_RSQRT),
)
QKV = "%q = input : f32[1,2,3,4]\n%k = input : f32[1,2,3,4]\n"
UPPER = QKV + '%m = constant {key="m", value=[true,false,false,true,true,false,true,true,true]} : '
UPPER += "bool[3,3]\n%a = attention %q, %k, %k, %m {scale=0.5, causal=false}\n%t = full {value=1, "
UPPER += (
    "shape=[3,3], dtype=bool}\n%y = attention %a, %k, %k, %t {scale=0.5, causal=false}\nreturn %y"
)


def _any_mask_is_full(node: Node, rw: Rewriter) -> Recipe | None:
    assert isinstance(node.attrs, AttentionAttrs)
    return make("attention", *node.operands[:3], attrs=node.attrs) if node.operands[3:] else None


plant(
    "a causal mask dropped",
    "simplify-attention",
    simplify_attention.SimplifyAttention,
    "rules",
    rule(simplify_attention.SimplifyAttention, "attention", _any_mask_is_full),
    UPPER,
)
BAND = """%q = input : f32[1,2,4,8]
%m = constant {key="m", value=[true,true,false,false,true,true,true,false,false,true,true,true,"""
BAND += """false,false,true,true]} : bool[4,4]
%t = full {value=1, shape=[4,4], dtype=bool}
%a = attention %q, %q, %q, %m {scale=0.5}
%y = attention %a, %q, %q, %t {scale=0.5}
return %y"""
_said = simplify_attention._said


def _wider(masks: Any, attrs: AttentionAttrs, scores: Any) -> AttentionAttrs | None:
    said = _said(masks, attrs, scores)
    return dataclasses.replace(said, window=said.window + 1) if said and said.window else said


plant(
    "a window of one key more",
    "simplify-attention",
    simplify_attention,
    "_said",
    _wider,
    BAND,
)
REPEATED = """%q = input : f32[1,4,3,8]
%k = input : f32[1,2,5,8]
%a = reshape %k {shape=[1,1,2,5,8]}
%b = expand %a {shape=[1,2,2,5,8]}
%c = reshape %b {shape=[1,4,5,8]}
%t = full {value=1, shape=[3,5], dtype=bool}
%y = attention %q, %c, %c, %t {scale=0.5, causal=false}
return %y"""
plant(
    "interleaved heads taken for repeated ones",
    "simplify-attention",
    simplify_attention,
    "_repeats",
    lambda y, split, wide, x: True,
    REPEATED,
)

# Legalization -------------------------------------------------------------------------------------

WINDOW = "%x = input : f32[1,2,6]\n%y = max_pool %x {kernel=[3], stride=[2], padding=[[1,2]], "
WINDOW += "dilation=[1]}\nreturn %y"
plant(
    "a maximum padded with zeros",
    "explicit-padding",
    explicit_padding,
    "_fill",
    lambda node: 0.0,
    WINDOW.replace("%y = max", "%e = exp %x\n%n = neg %e\n%y = max").replace(
        "max_pool %x", "max_pool %n"
    ),
)
_pad = explicit_padding.pad
plant(
    "padding before and after exchanged",
    "explicit-padding",
    explicit_padding,
    "pad",
    lambda rw, x, padding, fill, node: _pad(rw, x, tuple(p[::-1] for p in padding), fill, node),
    WINDOW,
)
plant(
    "padding counted in the divisor",
    "decompose-pooling",
    decompose_pooling,
    "pool_counts",
    lambda extents, attrs: np.full((3,), 3.0),
    "%x = input : f32[1,2,6]\n%y = avg_pool %x {kernel=[3], stride=[2], padding=[[1,1]], "
    "count_include_pad=false}\nreturn %y",
)
plant(
    "windows of an adaptive pool all alike",
    "decompose-pooling",
    decompose_pooling,
    "adaptive_matrix",
    lambda extent, size: np.full((size, extent), 1 / extent),
    "%x = input : f32[1,2,7]\n%y = adaptive_avg_pool %x {size=[3]}\nreturn %y",
)
_product = recognize_gathered_matmul._product
plant(
    "copies that are not transposed taken for such",
    "recognize-gathered-matmul",
    recognize_gathered_matmul,
    "_product",
    lambda x, table, index, turned: _product(x, table, index, not turned),
    '%x = input : f32[3,1,4]\n%i = input : i64[3]\n%w = constant {key="w"} : f32[5,4,4]\n'
    "%c = gather %w, %i {axis=0}\n%y = matmul %x, %c\nreturn %y",
)
GROUPS = (
    '%x = input : f32[6,3]\n%w = constant {key="w"} : f32[3,3,4]\n'
    + "".join(f"%e{n} = full {{value={n}, shape=[1], dtype=i32}}\n" for n in (1, 3, 6))
    + "%e = concat %e1, %e3, %e6 {axis=0}\n%y = grouped_matmul %x, %w, %e\nreturn %y"
)
_shift = decompose_grouped_matmul._Blocks._shift
plant(
    "rows of a group looked for one block too early",
    "decompose-grouped-matmul{rows=2}",
    decompose_grouped_matmul._Blocks,
    "_shift",
    lambda self: (_shift(self)[0], self._emit("add", _shift(self)[1], self._full(2))),
    GROUPS,
)
plant(
    "a block that begins where a group ends given to that group",
    "decompose-grouped-matmul{rows=2}",
    decompose_grouped_matmul._Blocks,
    "_group",
    lambda self, position, ends: self._cast(
        self._emit(
            "sum",
            self._cast(self._emit("gt", self._column(position), ends)),
            attrs=SumAttrs((1,), False),
        )
    ),
    GROUPS,
)
_taps = decompose_resize.resize_taps
plant(
    "weights of the two neighbours exchanged",
    "decompose-resize",
    decompose_resize,
    "resize_taps",
    lambda *args: [(i, w) for (i, _), (_, w) in zip(_taps(*args), _taps(*args)[::-1], strict=True)],
    '%x = input : f32[1,2,4,4]\n%y = resize %x {size=[7,7], mode="bilinear", '
    "align_corners=false, scales=none}\nreturn %y",
)
TURNED = (
    '%x = input : f32[1,4,5]\n%w = constant {key="w"} : f32[4,6,3]\n%y = conv_transpose %x, %w '
)
TURNED += "{stride=[2], padding=[1], output_padding=[1], dilation=[1], groups=1}\nreturn %y"
_phases = decompose_conv_transpose._phases
_as_conv = decompose_conv_transpose._as_conv


_kept = clip_windows._taps
plant(
    "the first taps, whichever are left",
    "clip-windows",
    clip_windows,
    "_taps",
    lambda weights, axes, *others: _kept(
        weights, [dataclasses.replace(a, first=0) for a in axes], *others
    ),
    """%x = input : f32[1,4,6,6]
%w = constant {key="w"} : f32[4,4,3,3]
%y = conv %x, %w {stride=[1,1], padding=[[7,7],[7,7]], dilation=[7,7]}
return %y""",
)
plant(
    "the kernel of a transposed convolution not flipped",
    "decompose-conv-transpose",
    decompose_conv_transpose,
    "_as_conv",
    lambda weights, groups: _as_conv(weights[..., ::-1], groups),
    TURNED,
)
plant(
    "phases shifted by one",
    "decompose-conv-transpose",
    decompose_conv_transpose,
    "_phases",
    lambda node, axis: [dataclasses.replace(p, start=p.start - 1) for p in _phases(node, axis)],
    TURNED,
)

# Regions and layouts ------------------------------------------------------------------------------

CHAIN = "%x = input : f32[4,4]\n%z = input : f32[4,4]\n%a = sub %x, %z\n%y = relu %a\nreturn %y"
plant(
    "a region's inputs in another order than its operands",
    "fuse",
    fuse,
    "extract",
    lambda inputs, nodes, results: extract(inputs[::-1], nodes, results),
    CHAIN,
)
plant(
    "a region without its last node",
    "fuse",
    fuse,
    "extract",
    lambda inputs, nodes, results: extract(inputs, nodes, [nodes[0].result]),
    CHAIN,
)
CACHE = """%x = input : f32[4,4]
%cache = input : f32[4,4]
%a = add %cache, %x
%r = relu %a
%y = exp %r
state %cache -> %a
return %a, %y"""


def _states_forgotten(self: Any) -> Graph:
    return dataclasses.replace(_run_wrap(self), states=())


def _outputs_reordered(self: Any) -> Graph:
    """The state is written by what was the other output."""
    graph = _run_wrap(self)
    return dataclasses.replace(graph, outputs=graph.outputs[::-1])


_run_wrap = fuse._Wrap.run
plant("state forgotten", "fuse", fuse._Wrap, "run", _states_forgotten, CACHE)
plant("outputs reordered around state", "fuse", fuse._Wrap, "run", _outputs_reordered, CACHE)
_image = "f32[1,{},202,202]@[0,2,3,1]"
_conv = "conv %{}, %{} {{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups={}}}"
WIDE = f"""%x = input : f32[1,2,202,202]@[0,2,3,1]
%u = constant {{key="u"}} : f32[8,2,1,1]
%w = constant {{key="w"}} : f32[8,1,3,3]
%a = fused %x, %u {{kind="contraction"}} : {_image.format(8)} {{
  %x = input : {_image.format(2)}
  %u = input : f32[8,2,1,1]
  %c = {_conv.format("x", "u", 1)} : {_image.format(8)}
  return %c
}}
%y = fused %a, %w {{kind="depthwise"}} : {_image.format(8).replace("202", "200")} {{
  %a = input : {_image.format(8)}
  %w = input : f32[8,1,3,3]
  %c = {_conv.format("a", "w", 8)} : {_image.format(8).replace("202", "200")}
  %e = exp %c : {_image.format(8).replace("202", "200")}
  return %e
}}
return %y"""
_merged = fuse_strips._merged


def _unfinished(regions: list[Node]) -> tuple[list[Value], Graph]:
    """The result of the last convolution without what follows it."""
    operands, body = _merged(regions)
    last = [n for n in body.nodes if n.op.name == "conv"][-1]
    return operands, dataclasses.replace(body, outputs=(last.result,))


plant("an epilogue lost at the end of a chain", "fuse-strips", fuse_strips, "_merged",
      _unfinished, WIDE)  # fmt: skip
IMAGE = '%x = input : f32[1,4,6,6]\n%w = constant {key="w"} : f32[4,4,1,1]\n%y = conv %x, %w '
IMAGE += "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}\nreturn %y"
plant(
    "an output left channels last",
    "assign-layouts",
    assign_layouts,
    "_relaid",
    lambda rw, x, layout: x,
    IMAGE,
)
plant(
    "a transposed layout off by an inverse",
    "assign-layouts",
    assign_layouts,
    "_moved",
    lambda x, perm: assign_layouts.Layout.ordered((0, 0, 1)),
    "%x = input : f32[4,5,6]\n%t = transpose %x {perm=[1,2,0]}\n%y = relu %t\nreturn %y",
)
JOINED = """
%x = input : f32[4,6]
%a = fused %x {kind="reduction"} : f32[4,6] {
  %x = input : f32[4,6]
  %s = softmax %x {axis=1} : f32[4,6]
  return %s
}
%n = fused %x {kind="reduction"} : f32[4,1] {
  %x = input : f32[4,6]
  %s = sum %x {axes=[1], keepdims=true} : f32[4,1]
  return %s
}
%c = fused %a, %n {kind="movement"} : f32[4,7] {
  %a = input : f32[4,6]
  %n = input : f32[4,1]
  %j = concat %a, %n {axis=1} : f32[4,7]
  return %j
}
%r = fused %c {kind="pointwise"} : f32[4,7] {
  %c = input : f32[4,7]
  %e = exp %c : f32[4,7]
  return %e
}
return %r"""
_plan = join_concats._Joins.plan
plant(
    "parts joined in the wrong order",
    "join-concats",
    join_concats._Joins,
    "plan",
    lambda self, region, concat: _plan(self, region, concat)[::-1],
    JOINED,
)
plant(
    "bodies that keep the layouts of before",
    "join-concats",
    join_concats,
    "_retyped",
    lambda region: region.body,
    JOINED,
)
