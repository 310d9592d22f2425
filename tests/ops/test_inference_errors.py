"""The exact text of what inference refuses."""

from __future__ import annotations

import math

import pytest

from graphopt.errors import IRError
from graphopt.ir.types import DType, SymDim, TensorType
from graphopt.ops import (
    OPS,
    AdaptiveAvgPoolAttrs,
    AnyAttrs,
    ArgmaxAttrs,
    AttentionAttrs,
    Attrs,
    AvgPoolAttrs,
    ClampAttrs,
    ConcatAttrs,
    ConvAttrs,
    ConvTransposeAttrs,
    ExpandAttrs,
    FlipAttrs,
    FullAttrs,
    GatherAttrs,
    GeluAttrs,
    GroupNormAttrs,
    IotaAttrs,
    LayerNormAttrs,
    LinearAttrs,
    MaxAttrs,
    MaxPoolAttrs,
    NoAttrs,
    PadAttrs,
    ReshapeAttrs,
    ResizeAttrs,
    ScatterAlongAttrs,
    ScatterNdAttrs,
    SliceAttrs,
    SoftmaxAttrs,
    SumAttrs,
    TakeAlongAttrs,
    TopkAttrs,
    TransposeAttrs,
)

_NO = NoAttrs()
_N = SymDim("n", 1, 8)


def f32(*shape: int | SymDim) -> TensorType:
    return TensorType(DType.F32, shape)


def i64(*shape: int) -> TensorType:
    return TensorType(DType.I64, shape)


def boolean(*shape: int) -> TensorType:
    return TensorType(DType.BOOL, shape)


def half(*shape: int) -> TensorType:
    return TensorType(DType.F16, shape)


def conv(**changes: object) -> ConvAttrs:
    fields = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    return ConvAttrs(**(fields | changes))  # type: ignore[arg-type]


_ERRORS: list[tuple[str, list[TensorType], Attrs, str]] = [
    # Sources
    ("full", [], FullAttrs(math.inf, (2,), DType.I32),
     "full: i32 has no inf\nhint: use a float dtype"),
    ("full", [], FullAttrs(0, (-1,), DType.F32),
     "full: shape [-1] is negative\nhint: give extents of at least 0"),
    ("iota", [], IotaAttrs(0, 1, -1, DType.I64),
     "iota: size -1 is negative\nhint: give a size of at least 0"),
    # Pointwise
    ("add", [f32(2)], _NO, "add takes 2 operands, got 1\nhint: give add 2 operands"),
    ("add", [f32(2), half(2)], _NO,
     "add: operands f32[2] and f16[2] differ in dtype\nhint: insert a cast"),
    ("add", [f32(2), f32(3)], _NO,
     "add: shapes [2] and [3] do not broadcast\nhint: trailing axes must match or be 1"),
    ("mul", [boolean(2), boolean(2)], _NO,
     'mul: bool[2] is bool, not a number\nhint: cast it, or use the ops "and", "or" and "xor"'),
    ("div", [i64(2), i64(2)], _NO, "div: i64[2] is not a float tensor\nhint: insert a cast to f32"),
    ("exp", [i64(2)], _NO, "exp: i64[2] is not a float tensor\nhint: insert a cast to f32"),
    ("and", [f32(2), f32(2)], _NO,
     "and: f32[2] is a float tensor\nhint: use a bool or integer tensor"),
    ("where", [f32(2), f32(2), f32(2)], _NO,
     "where: f32[2] is not bool\nhint: compare it with 0 first"),
    ("gelu", [f32(2)], GeluAttrs("erf"),
     "gelu: no approximation 'erf'\nhint: use \"none\" or \"tanh\""),
    ("clamp", [f32(2)], ClampAttrs(math.nan, 1.0),
     "clamp: bounds nan and 1.0\nhint: an open bound is -inf or inf"),
    # Reductions and norms
    ("sum", [f32(2, 3)], SumAttrs((2,)),
     "sum: axis 2 is outside f32[2,3]\nhint: choose an axis in [0, 1]"),
    ("sum", [f32(2, 3)], SumAttrs((1, 1)),
     "sum: axes [1, 1] name an axis twice\nhint: name each axis once"),
    ("max", [f32(2, 0)], MaxAttrs((1,)),
     "max: axis 1 of f32[2,0] is empty\nhint: max needs at least one element"),
    ("any", [f32(2)], AnyAttrs((0,)), "any: f32[2] is not bool\nhint: compare it with 0 first"),
    ("argmax", [f32()], ArgmaxAttrs(0),
     "argmax: axis 0 is outside f32[]\nhint: reshape it to [1] first"),
    ("topk", [f32(2, 3)], TopkAttrs(4, 1),
     "topk: k=4, but axis 1 of f32[2,3] has 3 elements\nhint: choose k in [0, 3]"),
    ("topk", [f32(_N)], TopkAttrs(1, 0),
     "topk: axis 0 of f32[n:1..8] is symbolic, and this op needs its extent\n"
     "hint: make this dimension static: pass example inputs of the size you run"),
    ("softmax", [f32(2, 3)], SoftmaxAttrs(-1),
     "softmax: axis -1 is outside f32[2,3]\nhint: choose an axis in [0, 1]"),
    ("layer_norm", [f32(2, 3), f32(2), f32(3)], LayerNormAttrs(1, 1e-5),
     "layer_norm: parameter f32[2] does not fit f32[2,3]\nhint: expected [3]"),
    ("layer_norm", [f32(2, 3), f32(3), f32(3)], LayerNormAttrs(3, 1e-5),
     "layer_norm: 3 trailing axes of f32[2,3]\nhint: choose axes in [1, 2]"),
    ("group_norm", [f32(1, 6, 2), f32(6), f32(6)], GroupNormAttrs(4, 1e-5),
     "group_norm: 4 groups do not divide the 6 channels of f32[1,6,2]\n"
     "hint: choose a divisor of the channels"),
    # Contractions
    ("matmul", [f32(2, 3), f32(4, 5)], _NO,
     "matmul: f32[2,3] and f32[4,5] do not fit\nhint: expected [..., m, k] and [..., k, n]"),
    ("matmul", [f32(2, 3, 4), f32(3, 4, 5)], _NO,
     "matmul: the batch axes of f32[2,3,4] and f32[3,4,5] do not broadcast\n"
     "hint: axes before the last two must match or be 1"),
    ("linear", [f32(2, 3), f32(3, 5)], LinearAttrs(),
     "linear: f32[2,3] and f32[3,5] do not fit\nhint: expected [..., k] and [n, k]"),
    ("linear", [f32(2, 3), f32(5, 3), f32(3)], LinearAttrs(),
     "linear: bias f32[3] does not fit weights f32[5,3]\nhint: expected [5]"),
    ("linear", [f32(2, 3), f32(5, 3), f32(5), f32(5)], LinearAttrs(),
     "linear takes 2 to 3 operands, got 4\nhint: give linear 2 to 3 operands"),
    ("linear", [f32(2, 3), f32(6, 3)], LinearAttrs(strassen=7),
     "linear: strassen=7 does not fit weights f32[6,3]\n"
     "hint: it is for products of floats, k a multiple of 2 and n of 2, or larger"),
    ("linear", [f32(2, 4), f32(6, 4)], LinearAttrs(strassen=8),
     "linear: there is no scheme of 8 products\nhint: strassen is one of 7, 15, 26"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3, 3)], conv(strassen=7),
     "conv: strassen does not fit weights f32[8,4,3,3]\n"
     "hint: it is for ungrouped kernels of one pixel"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3, 3)], conv(winograd=3),
     "conv: winograd tiles of 3\nhint: use 0, 2, 4"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3, 3)], conv(stride=(2, 2), winograd=6),
     "conv: winograd tiles of 6\nhint: use 0, 2, 3, 4"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 2, 3, 3)], conv(groups=2, stride=(2, 1), winograd=4),
     "conv: winograd=4 does not fit weights f32[8,2,3,3]\n"
     "hint: it is for floats and 2 to 4 taps along one axis or two; of stride 2, for 3 taps"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3)], conv(),
     "conv: f32[1,4,8,8] and weights f32[8,4,3] do not fit\n"
     "hint: expected [n, c, ...] and [o, c/groups, ...]"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3, 3)], conv(groups=2),
     "conv: f32[1,4,8,8] in 2 groups does not fit weights f32[8,4,3,3]\n"
     "hint: channels of x = w.shape[1] * groups, and groups divides w.shape[0]"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3, 3)], conv(stride=(1,)),
     "conv: stride has 1 entries for f32[1,4,8,8]\nhint: give 2, one per spatial axis"),
    ("conv", [f32(1, 4, 2, 8), f32(8, 4, 3, 3)], conv(),
     "conv: window [3, 3] is larger than padded f32[1,4,2,8]\n"
     "hint: enlarge the input or the padding"),
    ("conv", [f32(1, 4, 8, 8), f32(8, 4, 3, 3)], conv(stride=(0, 1)),
     "conv: kernel (3, 3), stride (0, 1), dilation (1, 1) and padding ((0, 0), (0, 0)) of "
     "f32[1,4,8,8]\nhint: padding >= 0, the others >= 1"),
    ("conv_transpose", [f32(1, 4, 8, 8), f32(3, 4, 3, 3)],
     ConvTransposeAttrs((1, 1), (0, 0), (0, 0), (1, 1)),
     "conv_transpose: f32[1,4,8,8] in 1 groups does not fit weights f32[3,4,3,3]\n"
     "hint: channels of x = w.shape[0], divisible by groups"),
    # Windows
    ("max_pool", [f32(1, 4, 8)], MaxPoolAttrs((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
     "max_pool: window [2, 2] does not fit f32[1,4,8]\n"
     "hint: expected [n, c, ...] and one extent per spatial axis"),
    ("avg_pool", [f32(1, 4, 8)], AvgPoolAttrs((2,), (2,), ((0, 0),), divisor=0),
     "avg_pool: divisor 0 of f32[1,4,8]\nhint: use a divisor of at least 1"),
    ("adaptive_avg_pool", [f32(1, 4, 8)], AdaptiveAvgPoolAttrs((0,)),
     "adaptive_avg_pool: size [0] does not fit f32[1,4,8]\n"
     "hint: expected [n, c, ...] and one extent of at least 1 per spatial axis"),
    ("resize", [f32(1, 4, 8)], ResizeAttrs((4,), "lanczos"),
     "resize: no mode 'lanczos'\nhint: use one of \"nearest\", \"bilinear\", \"bicubic\""),
    ("resize", [f32(1, 4, 8)], ResizeAttrs((4,), "nearest", scales=(0.0,)),
     "resize: scales [0.0] do not fit size [4]\nhint: give one positive scale per spatial axis"),
    # Movement
    ("reshape", [f32(2, 3)], ReshapeAttrs((4,)),
     "reshape: f32[2,3] has 6 elements, shape [4] has 4\nhint: element counts must match"),
    ("reshape", [f32(_N, 3)], ReshapeAttrs((3, 8)),
     "reshape: f32[n:1..8,3] has 1 symbolic dimensions, shape [3,8] has 0 of -1\n"
     "hint: write one -1 for the one symbolic dimension, and none for a static shape"),
    ("transpose", [f32(2, 3)], TransposeAttrs((0, 0)),
     "transpose: perm [0,0] does not permute f32[2,3]\nhint: name each axis from 0 to 1 once"),
    ("expand", [f32(2)], ExpandAttrs((3,)),
     "expand: f32[2] does not broadcast to [3]\nhint: axes must match or be 1"),
    ("slice", [f32(4)], SliceAttrs((0,), (5,), (1,)),
     "slice: [0:5:1] is outside f32[4]\nhint: 0 <= start <= stop <= 4 and step >= 1"),
    ("slice", [f32(4)], SliceAttrs((0, 0), (4, 4), (1, 1)),
     "slice: 2 starts, 2 stops and 2 steps for f32[4]\nhint: give 1 of each, one per axis"),
    ("slice", [f32(_N)], SliceAttrs((0,), (4,), (1,)),
     "slice: [0:4:1] of the symbolic dimension n:1..8 of f32[n:1..8]\n"
     "hint: make this dimension static: pass example inputs of the size you run"),
    ("concat", [], ConcatAttrs(0),
     "concat takes 1 or more operands, got 0\nhint: give concat 1 or more operands"),
    ("concat", [f32(2, 3), f32(3, 3)], ConcatAttrs(1),
     "concat: f32[2,3] and f32[3,3] differ beyond axis 1\nhint: other axes must match"),
    ("pad", [f32(2)], PadAttrs((-1,), (0,)),
     "pad: [-1] before and [0] after do not fit f32[2]\n"
     "hint: give 1 of each, at least 0; crop with slice"),
    ("pad", [f32(2)], PadAttrs((1,), (0,), mode="wrap"),
     "pad: no mode 'wrap'\nhint: use one of \"constant\", \"reflect\", \"replicate\""),
    ("pad", [f32(2)], PadAttrs((2,), (0,), mode="reflect"),
     "pad: reflect by 2 and 0 of axis 0 of f32[2]\nhint: at most 1 elements can be reflected"),
    ("flip", [f32(2)], FlipAttrs((0, 0)),
     "flip: axes [0, 0] name an axis twice\nhint: name each axis once"),
    # Indexing
    ("gather", [f32(2), f32(2)], GatherAttrs(0),
     "gather: indices f32[2] are not integers\nhint: insert a cast to i64"),
    ("take_along", [f32(2, 3), i64(2)], TakeAlongAttrs(0),
     "take_along: indices i64[2] and f32[2,3] differ in rank\nhint: expand the indices"),
    ("take_along", [f32(2, 3), i64(2, 4)], TakeAlongAttrs(0),
     "take_along: axis 1 of indices i64[2,4] is longer than that of f32[2,3]\n"
     "hint: only the gathered axis may be longer"),
    ("gather_nd", [f32(2), i64(3, 2)], _NO,
     "gather_nd: 2 indices for each element of f32[2]\n"
     "hint: the last axis of the indices is at most 1"),
    ("scatter_nd", [f32(4, 2), i64(3, 1), f32(3, 3)], ScatterNdAttrs(),
     "scatter_nd: updates f32[3,3] do not fit f32[4,2] at i64[3,1]\nhint: expected f32[3,2]"),
    ("scatter_nd", [f32(4), i64(3, 1), f32(3)], ScatterNdAttrs(True, "sub"),
     "scatter_nd: no combination 'sub'\n"
     'hint: use one of "add", "mul", "maximum", "minimum"'),
    ("scatter_along", [f32(4), i64(3), f32(2)], ScatterAlongAttrs(0),
     "scatter_along: updates f32[2] and indices i64[3] differ in shape\n"
     "hint: slice or expand the updates"),
    # Experts
    ("grouped_matmul", [f32(6, 4), f32(3, 5, 2), i64(3)], _NO,
     "grouped_matmul: f32[6,4] and f32[3,5,2] do not fit\nhint: expected [s, k] and [e, k, n]"),
    ("grouped_matmul", [f32(6, 4), f32(3, 4, 2), i64(2)], _NO,
     "grouped_matmul: ends i64[2] do not fit f32[3,4,2]\nhint: expected [3]"),
    ("gathered_matmul", [f32(6, 4), f32(3, 4, 2), i64(6)], _NO,
     "gathered_matmul: f32[6,4] and f32[3,4,2] do not fit\n"
     "hint: expected [b, m, k] and [e, k, n]"),
    ("gathered_matmul", [f32(6, 1, 4), f32(0, 4, 2), i64(6)], _NO,
     "gathered_matmul: f32[0,4,2] are no weights to choose from\nhint: give one at least"),
    ("gathered_matmul", [f32(6, 1, 4), f32(3, 4, 2), i64(3)], _NO,
     "gathered_matmul: index i64[3] does not fit f32[6,1,4]\nhint: expected [6]"),
    ("gathered_matmul", [f32(6, 1, 4), f32(3, 4, 2), f32(6)], _NO,
     "gathered_matmul: indices f32[6] are not integers\nhint: insert a cast to i64"),
    # Attention
    ("attention", [f32(2, 3, 4), f32(1, 2, 3, 4), f32(1, 2, 3, 4)], AttentionAttrs(1.0),
     "attention: f32[2,3,4], f32[1,2,3,4] and f32[1,2,3,4] are not all of rank 4\n"
     "hint: expected [batch, heads, sequence, features]"),
    ("attention", [f32(1, 3, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8)], AttentionAttrs(1.0),
     "attention: f32[1,3,4,8], f32[1,2,4,8] and f32[1,2,4,8] do not fit\n"
     "hint: expected q [b,h,s,d], k [b,hk,t,d], v [b,hk,t,e] with hk dividing h"),
    ("attention", [f32(1, 2, 4, 8)] * 3, AttentionAttrs(1.0, window=-1),
     "attention: a window of -1 keys\nhint: 0 means no window"),
    ("attention", [f32(1, 2, 4, 8)] * 3 + [i64(4, 4)], AttentionAttrs(1.0),
     "attention: mask i64[4,4] is neither bool nor f32\n"
     "hint: cast it to f32, or to bool where True keeps a key"),
    ("attention", [f32(1, 2, 4, 8)] * 3 + [boolean(3, 4)], AttentionAttrs(1.0),
     "attention: mask bool[3,4] does not broadcast to [1,2,4,4]\nhint: expand or reshape the mask"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "operands", "attrs", "text"), _ERRORS, ids=[f"{e[0]}-{i}" for i, e in enumerate(_ERRORS)]
)
def test_text(op: str, operands: list[TensorType], attrs: Attrs, text: str) -> None:
    with pytest.raises(IRError) as caught:
        OPS[op].infer(*operands, attrs)
    assert str(caught.value) == text
