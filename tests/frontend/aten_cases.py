"""The operators that must import: each called by itself, with inputs.

CENSUS is what 58 image architectures need after `run_decompositions()` (ResNet to FastViT); TEXT is
what text and speech models add, MORE what experts, detectors and models written by hand do. All are
data: a name may not go because its test became hard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CENSUS = """
convolution.default view.default permute.default addmm.default add.Tensor mean.dim clone.default
_native_batch_norm_legit_no_training.default mul.Tensor expand.default relu.default
native_layer_norm.default bmm.default gelu.default slice.Tensor _softmax.default squeeze.dims
cat.default mul.Scalar logical_not.default eq.Scalar any.dim full_like.default where.self
sigmoid.default unsqueeze.default split_with_sizes.default max_pool2d_with_indices.default
index.Tensor div.Tensor avg_pool2d.default clamp.default as_strided.default arange.start_step
mm.default alias.default sub.Tensor _assert_tensor_metadata.default constant_pad_nd.default
select.int _to_copy.default full.default hardtanh.default tanh.default linalg_vector_norm.default
sin.default cos.default div.Tensor_mode pow.Scalar leaky_relu.default
_native_batch_norm_legit.no_stats flip.default pow.Tensor_Scalar native_group_norm.default
neg.default fmod.Scalar index_select.default upsample_nearest2d.vec copy.default amax.default
index_put.default repeat.default cumsum.default floor.default bitwise_not.default max.dim
""".split()  # noqa: SIM905

TEXT = """
embedding.default rms_norm.default group_norm.default scatter.src scatter.value
slice_scatter.default tril.default triu.default argmax.default topk.default conv1d.default
conv_transpose1d.default conv_transpose2d.input upsample_bilinear2d.vec upsample_bicubic2d.vec
lstm.input gru.input erf.default exp.default log.default rsqrt.default pow.Tensor_Tensor
minimum.default maximum.default eq.Tensor ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor
logical_and.default logical_or.default logical_xor.default any.default all.default all.dim
arange.default scaled_dot_product_attention.default to.dtype
""".split()  # noqa: SIM905

MORE = """
view_as_complex.default view_as_real.default complex.default polar.default _conj.default
angle.default _fft_c2c.default _fft_r2c.default _fft_c2r.default
_grouped_mm.default histc.default grid_sampler_2d.default grid_sampler_3d.default
_embedding_bag.default scatter_reduce.two scatter.reduce scatter.value_reduce index_reduce.default
bucketize.Tensor searchsorted.Tensor cumprod.default cummax.default cummin.default
logcumsumexp.default _cdist_forward.default dist.default var_mean.dim median.default
_trilinear.default asinh.default acosh.default hypot.default copysign.Tensor ldexp.Tensor
fake_quantize_per_tensor_affine_cachemask.default
fake_quantize_per_channel_affine_cachemask.default rrelu_with_noise_functional.default
masked_scatter.default _unsafe_masked_index.default
""".split()  # noqa: SIM905

Case = tuple[Callable[..., Any], tuple[Any, ...]]
aten: Any = torch.ops.aten


def _numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


X = _numbers(2, 3, 4, 4)
M, N = _numbers(3, 4), _numbers(4, 5)
A, B = _numbers(2, 3, 4), _numbers(2, 4, 5)
V = _numbers(3)
POSITIVE = _numbers(3, 4).abs() + 0.1
TRUE = _numbers(3, 4) > 0
PLACES = torch.tensor([2, 0, 1])
LSTM = [_numbers(12, 4), _numbers(12, 3), _numbers(12), _numbers(12) + 1]
GRU = [_numbers(9, 4), _numbers(9, 3), _numbers(9), _numbers(9) + 1]


def _checked(x: Tensor) -> Tensor:
    aten._assert_tensor_metadata(x, None, None, torch.float32)
    return x + 1


def _halves(*shape: int) -> Tensor:
    """The type that torch exports grouped products of, and whose sums are exact."""
    return _numbers(*shape).round().bfloat16()


def _grouped(x: Tensor, few: Tensor, many: Tensor) -> list[Tensor]:
    """An empty group; fewer groups than rows, and many more."""
    ends = torch.tensor([2, 2, 6], dtype=torch.int32)
    many_ends = torch.tensor([1] * 20 + [6] * 4, dtype=torch.int32)
    return [aten._grouped_mm(x, few, ends), aten._grouped_mm(x, many, many_ends)]


EDGES = [-1.0, -1.5, 1.0, 1.1, 0.3, 0.4, -0.3]


BAGS = torch.tensor([3, 1, 1, 0, 2, 3])
TIES = torch.tensor([[1.0, 3.0, 2.0, 3.0], [2.0, float("nan"), 5.0, 1.0], [0.0, 0.0, -1.0, 0.0]])


def _arithmetic(x: Tensor) -> list[Tensor]:
    """Complex numbers with each other and with real ones, moved and added up."""
    z = torch.view_as_complex(x)  # [2, 3, 4]
    w = z.roll(1, 1)
    results = [
        z * w, z + w, z - w, z / w, z * 2, 1j * z, z * x[..., 0], z / 3, -z, z.exp(), z + 1,
        torch.cat([w, x[..., 0]], 1), z.sum(1), z.mean((0, 2)), z @ w.mT, z.conj() * w,
        w[:, 1:, None], w.permute(1, 0, 2).reshape(3, -1), torch.add(z, w, alpha=2),
    ]  # fmt: skip
    return [torch.view_as_real(r.resolve_conj()) for r in results]


def _spectra(x: Tensor) -> list[Tensor]:
    """Even and odd sizes, every scale, several axes."""
    z = aten._fft_r2c(x, [1, 3], 1, True), torch.fft.fft(x[..., :3], norm="forward")
    return [torch.view_as_real(r) for r in (*z, torch.fft.rfft2(x), torch.fft.rfft(x[..., :3]))]


def _waves(x: Tensor) -> list[Tensor]:
    z = torch.view_as_complex(x)
    return [
        aten._fft_c2r(z, [0, 1], 2, 6),
        torch.fft.irfft(z, 5, norm="ortho"),
        torch.fft.irfft2(z),
    ]


def _countable(values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    return values.nan_to_num(9.0), places


def _bags(w: Tensor, i: Tensor, factors: Tensor) -> list[Tensor]:
    """Uneven bags, one of them empty, reduced in every way; even ones; with rows left out."""
    starts, even = torch.tensor([0, 2, 2]), torch.arange(0, 6, 2)
    out = [aten._embedding_bag(w, i, starts, False, mode)[0] for mode in (0, 1, 2)]
    out += [aten._embedding_bag(w, i, even, False, mode)[0] for mode in (0, 1, 2)]
    out.append(aten._embedding_bag(w, i, starts, False, 0, False, factors)[0])
    out.append(aten._embedding_bag(w, i, starts, False, 0, False, None, True)[0])
    return [*out, aten._embedding_bag(w, i, even, False, 1, False, None, False, 3)[0]]


def _scattered(x: Tensor, i: Tensor, source: Tensor) -> list[Tensor]:
    """Every reduction, with what was there and without; of integers, too."""
    out = []
    for how in ("sum", "prod", "mean", "amax", "amin"):
        for own in (True, False):
            out.append(aten.scatter_reduce(x, 1, i, source, how, include_self=own))
    whole = (x * 9).long(), i, (source * 9).long()
    return [*out, aten.scatter_reduce(whole[0], 1, *whole[1:], "amax", include_self=False)]


def _sampled(x: Tensor, grid: Tensor) -> list[Tensor]:
    """Every filter, border and alignment."""
    ways = [(m, p, a) for m in (0, 1, 2) for p in (0, 1, 2) for a in (True, False)]
    return [aten.grid_sampler_2d(x, grid, *way) for way in ways]


CASES: dict[str, Case] = {
    "convolution.default": (
        lambda x, w, b: aten.convolution(x, w, b, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        (X, _numbers(5, 3, 3, 3), _numbers(5)),
    ),
    "view.default": (lambda x: aten.view(x, [2, -1]), (X,)),
    "permute.default": (lambda x: aten.permute(x, [0, 2, 3, 1]), (X,)),
    "addmm.default": (lambda b, x, y: aten.addmm(b, x, y, beta=2, alpha=0.5), (_numbers(5), M, N)),
    "add.Tensor": (lambda x, y: aten.add(x, y, alpha=3), (A, M)),
    "mean.dim": (lambda x: aten.mean(x, [2, 3], True), (X,)),
    "clone.default": (lambda x: aten.clone(x) * 2, (X,)),
    "_native_batch_norm_legit_no_training.default": (
        lambda x, w, b, m, v: aten._native_batch_norm_legit_no_training(
            x, w, b, m, v, 0.1, 1e-5
        )[0],
        (X, V, V + 1, V - 1, V.abs() + 0.5),
    ),
    "mul.Tensor": (aten.mul, (A, M)),
    "expand.default": (lambda x: aten.expand(x, [2, -1, 4]), (M,)),
    "relu.default": (aten.relu, (X,)),
    "native_layer_norm.default": (
        lambda x, w, b: aten.native_layer_norm(x, [4], w, b, 1e-5)[0],
        (A, _numbers(4), _numbers(4) + 1),
    ),
    "bmm.default": (aten.bmm, (A, B)),
    "gelu.default": (lambda x: (aten.gelu(x), aten.gelu(x, approximate="tanh")), (X,)),
    "slice.Tensor": (lambda x: aten.slice(x, 2, -3, 9223372036854775807, 2), (X,)),
    "_softmax.default": (lambda x: aten._softmax(x, -1, False), (A,)),
    "squeeze.dims": (lambda x: aten.squeeze(x, [0, 2]), (_numbers(1, 3, 1, 4),)),
    "cat.default": (lambda x, y: aten.cat([x, y, x], 1), (M, TRUE.float())),
    "mul.Scalar": (lambda x: aten.mul.Scalar(x, 0.3), (M,)),
    "logical_not.default": (aten.logical_not, (PLACES,)),
    "eq.Scalar": (lambda x: aten.eq(x, 1), (PLACES,)),
    "any.dim": (lambda x: aten.any(x, -1, True), (TRUE,)),
    "full_like.default": (lambda x: aten.full_like(x, 7) + x, (M,)),
    "where.self": (aten.where, (TRUE, M, POSITIVE)),
    "sigmoid.default": (aten.sigmoid, (X,)),
    "unsqueeze.default": (lambda x: aten.unsqueeze(x, -1), (M,)),
    "split_with_sizes.default": (lambda x: aten.split_with_sizes(x, [1, 3], 1), (M,)),
    "max_pool2d_with_indices.default": (
        lambda x: aten.max_pool2d_with_indices(x, [3, 3], [2, 2], [1, 1])[0], (X,),
    ),
    "index.Tensor": (
        lambda x, i: [
            aten.index(x, at)
            for at in ([None, i], [i % 2, i], [None, i, i - 4], [i % 2 - 1, None, i])
        ],
        (A, PLACES),
    ),
    "div.Tensor": (aten.div, (A, POSITIVE)),
    "avg_pool2d.default": (lambda x: aten.avg_pool2d(x, [3, 3], [2, 2], [1, 1], True), (X,)),
    "clamp.default": (lambda x: aten.clamp(x, -0.5, 1), (X,)),
    "as_strided.default": (
        lambda x: (
            aten.as_strided(x, [2, 2], [5, 2], 1),
            # What is strided over is memory, however its elements lie in it.
            aten.as_strided(x.t(), [4, 2], [1, 4]),
            aten.as_strided(x.t(), [12], [1]),
            aten.as_strided(x[:, 1:3], [3, 2], [4, 1]),
            aten.as_strided(x[1:], [2, 2], [4, 2], 5),
            aten.as_strided(x[:1].expand(5, 4), [3], [1]),
            aten.as_strided(x.t()[1:], [2, 2], [1, 4]),
        ),
        (M,),
    ),
    "arange.start_step": (lambda x: aten.arange(0, 8, 2, dtype=torch.float32) + x, (_numbers(4),)),
    "mm.default": (aten.mm, (M, N)),
    "alias.default": (lambda x: aten.alias(x) + 1, (M,)),
    "sub.Tensor": (lambda x, y: aten.sub(x, y, alpha=2), (A, M)),
    "_assert_tensor_metadata.default": (_checked, (M,)),
    "constant_pad_nd.default": (lambda x: aten.constant_pad_nd(x, [1, 2, -1, 0], 0.5), (X,)),
    "select.int": (lambda x: aten.select(x, 1, -1), (X,)),
    "_to_copy.default": (lambda x: aten._to_copy(x, dtype=torch.int32), (M * 10,)),
    "full.default": (lambda x: aten.full([3, 4], 2.5) * x, (M,)),
    "hardtanh.default": (lambda x: aten.hardtanh(x, 0.0, 6.0), (X,)),
    "tanh.default": (aten.tanh, (X,)),
    "linalg_vector_norm.default": (lambda x: aten.linalg_vector_norm(x, 2, [-1], True), (A,)),
    "sin.default": (aten.sin, (X,)),
    "cos.default": (aten.cos, (X,)),
    "div.Tensor_mode": (
        lambda x, y: (aten.div(x, y, rounding_mode="floor"), aten.div(x, y, rounding_mode="trunc")),
        (PLACES * 7 - 9, PLACES + 2),
    ),
    "pow.Scalar": (lambda x: aten.pow(10000.0, x), (M,)),
    "leaky_relu.default": (lambda x: aten.leaky_relu(x, 0.1), (X,)),
    "_native_batch_norm_legit.no_stats": (
        lambda x, w, b: aten._native_batch_norm_legit(x, w, b, True, 0.1, 1e-5)[0],
        (X, V, V + 1),
    ),
    "flip.default": (lambda x: aten.flip(x, [1, 2]), (A,)),
    "pow.Tensor_Scalar": (lambda x: (aten.pow(x, 2), aten.pow(x, 0.5)), (POSITIVE,)),
    "native_group_norm.default": (
        lambda x, w, b: aten.native_group_norm(x, w, b, 2, 4, 16, 2, 1e-5)[0],
        (_numbers(2, 4, 4, 4), _numbers(4), _numbers(4) + 1),
    ),
    "neg.default": (aten.neg, (X,)),
    "fmod.Scalar": (lambda x: aten.fmod(x, 0.7), (X,)),
    "index_select.default": (lambda x, i: aten.index_select(x, 1, i), (A, PLACES)),
    "upsample_nearest2d.vec": (lambda x: aten.upsample_nearest2d(x, None, [2.0, 2.0]), (X,)),
    "copy.default": (lambda x, y: aten.copy(x, y) * 2, (A, M)),
    "amax.default": (lambda x: aten.amax(x, [1], True), (A,)),
    "masked_scatter.default": (aten.masked_scatter, (A, TRUE, _numbers(3, 2, 4))),
    "_unsafe_masked_index.default": (  # where the mask is false, positions may lie outside
        lambda x, i: aten._unsafe_masked_index(x, ((i >= 0) & (i < 3))[:, None], [i, None], 0.5),
        (M, torch.tensor([2, -1, 0, 7])),
    ),
    "index_put.default": (
        lambda x, i, v: aten.index_put(x, [i], v), (A[0].clone(), PLACES, _numbers(3, 4) * 2),
    ),
    "repeat.default": (lambda x: aten.repeat(x, [2, 1, 3]), (M,)),
    "cumsum.default": (lambda x: aten.cumsum(x, -1), (A,)),
    "floor.default": (aten.floor, (X * 3,)),
    "bitwise_not.default": (
        lambda x, y: (aten.bitwise_not(x), aten.bitwise_not(y)), (TRUE, PLACES),
    ),
    "max.dim": (lambda x: aten.max(x, 1), (A,)),
    # Text and speech
    "embedding.default": (lambda w, i: aten.embedding(w, i, 0), (M, PLACES)),
    "rms_norm.default": (lambda x, w: aten.rms_norm(x, [4], w, 1e-6), (A, _numbers(4))),
    "group_norm.default": (
        lambda x, w, b: aten.group_norm(x, 2, w, b), (_numbers(2, 4, 6), _numbers(4), N[:, 0]),
    ),
    "scatter.src": (lambda x, i, s: aten.scatter(x, 0, i, s), (A[0], PLACES[None], M)),
    "scatter.value": (lambda x, i: aten.scatter(x, 1, i, 2.0), (A[0], PLACES[:, None])),
    "slice_scatter.default": (
        lambda x, y: aten.slice_scatter(x, y, 1, 1, 3), (A, _numbers(2, 2, 4)),
    ),
    "tril.default": (lambda x: aten.tril(x, -1), (A,)),
    "triu.default": (lambda x: aten.triu(x, 1), (A,)),
    "argmax.default": (lambda x: (aten.argmax(x, -1), aten.argmax(x)), (A,)),
    "topk.default": (lambda x: aten.topk(x, 2, -1), (A,)),
    "conv1d.default": (
        lambda x, w: aten.conv1d(x, w, None, [2], [1], [1], 1), (A, _numbers(5, 3, 3)),
    ),
    "conv_transpose1d.default": (
        lambda x, w: aten.conv_transpose1d(x, w, None, [2], [1], [1]), (A, _numbers(3, 5, 4)),
    ),
    "conv_transpose2d.input": (
        lambda x, w, b: aten.conv_transpose2d(x, w, b, [2, 2]),
        (X, _numbers(3, 5, 2, 2), _numbers(5)),
    ),
    "upsample_bilinear2d.vec": (
        lambda x: aten.upsample_bilinear2d.vec(x, [7, 5], False, None), (X,),
    ),
    "upsample_bicubic2d.vec": (lambda x: aten.upsample_bicubic2d.vec(x, [7, 5], True, None), (X,)),
    "lstm.input": (
        lambda x, h, c: aten.lstm(x, [h, c], LSTM, True, 1, 0.0, False, False, True),
        (A, _numbers(1, 2, 3), _numbers(1, 2, 3) + 1),
    ),
    "gru.input": (
        lambda x, h: aten.gru(x, h, GRU, True, 1, 0.0, False, False, True), (A, _numbers(1, 2, 3)),
    ),
    "erf.default": (aten.erf, (X,)),
    "exp.default": (aten.exp, (X,)),
    "log.default": (aten.log, (POSITIVE,)),
    "rsqrt.default": (aten.rsqrt, (POSITIVE,)),
    "pow.Tensor_Tensor": (aten.pow, (POSITIVE, M)),
    "minimum.default": (aten.minimum, (M, POSITIVE)),
    "maximum.default": (aten.maximum, (A, M)),
    "eq.Tensor": (aten.eq, (PLACES, PLACES.flip(0))),
    "ne.Tensor": (aten.ne, (PLACES, PLACES.flip(0))),
    "lt.Tensor": (aten.lt, (A, M)),
    "le.Tensor": (aten.le, (A, M)),
    "gt.Tensor": (aten.gt, (A, M)),
    "ge.Tensor": (aten.ge, (PLACES, V)),
    "logical_and.default": (aten.logical_and, (TRUE, M.round())),
    "logical_or.default": (aten.logical_or, (TRUE, M.round())),
    "logical_xor.default": (aten.logical_xor, (TRUE, M.round())),
    "any.default": (aten.any, (TRUE,)),
    "all.default": (aten.all, (TRUE,)),
    "all.dim": (lambda x: aten.all(x, 1), (TRUE,)),
    "arange.default": (lambda x: aten.arange(3) + x, (PLACES,)),
    "scaled_dot_product_attention.default": (
        lambda q, k: aten.scaled_dot_product_attention(q, k, k, is_causal=True), (X, X.flip(-1)),
    ),
    "to.dtype": (lambda x: aten.to(x, torch.int64), (M * 10,)),
    "_grouped_mm.default": (_grouped, (_halves(6, 8), _halves(3, 8, 16), _halves(24, 8, 16))),
    "histc.default": (lambda x: aten.histc(x, 3, -1.0, 1.0), (torch.tensor(EDGES),)),
    "view_as_complex.default": (_arithmetic, (_numbers(2, 3, 4, 2),)),
    "view_as_real.default": (
        lambda x: aten.view_as_real(aten.view_as_complex(x)), (_numbers(3, 2),),
    ),
    "complex.default": (lambda x, y: aten.abs(aten.complex(x, y)), (M, POSITIVE)),
    "polar.default": (lambda x, y: aten.view_as_real(aten.polar(x, y)), (POSITIVE, M)),
    "_conj.default": (
        lambda x: aten.view_as_real(aten._conj(aten.view_as_complex(x)) + 1), (_numbers(3, 2),),
    ),
    "angle.default": (lambda x: aten.angle(aten.view_as_complex(x)), (_numbers(3, 2),)),
    "_fft_c2c.default": (
        lambda x: [
            aten.view_as_real(aten._fft_c2c(aten.view_as_complex(x), [0, 1], 2, forward))
            for forward in (True, False)
        ],
        (_numbers(3, 5, 2),),
    ),
    "_fft_r2c.default": (_spectra, (X,)),
    "_fft_c2r.default": (_waves, (_numbers(3, 4, 2),)),
    "_embedding_bag.default": (_bags, (_numbers(4, 5), BAGS, _numbers(6))),
    "scatter_reduce.two": (
        _scattered, (M, torch.tensor([[0, 2], [3, 3], [1, 1]]), _numbers(3, 2)),
    ),
    "scatter.reduce": (
        lambda x, i, s: aten.scatter(x, 1, i, s, reduce="multiply"),
        (M, torch.tensor([[0, 2], [3, 3], [1, 1]]), _numbers(3, 2)),
    ),
    "scatter.value_reduce": (
        lambda x, i: aten.scatter(x, 1, i, 2.0, reduce="add"),
        (M, torch.tensor([[0, 2], [3, 3], [1, 1]])),
    ),
    "index_reduce.default": (
        lambda x, i, s: aten.index_reduce(x, 0, i, s, "amin"),
        (M, torch.tensor([2, 2]), _numbers(2, 4)),
    ),
    "bucketize.Tensor": (
        lambda x, e: [aten.bucketize(x, e, right=right) for right in (False, True)],
        (torch.tensor([[0.5, 1.0, -3.0], [2.0, 7.0, 1.5]]), torch.tensor([-1.0, 1.0, 2.0])),
    ),
    "searchsorted.Tensor": (
        lambda e, x: aten.searchsorted(e, x, side="right", out_int32=True),
        (M.sort(1).values, _numbers(3, 2)),
    ),
    "cumprod.default": (lambda x: aten.cumprod(x, 1), (A,)),
    "cummax.default": (lambda x: _countable(*aten.cummax(x, 1)), (TIES,)),
    "cummin.default": (lambda x: _countable(*aten.cummin(x, -1)), (TIES,)),
    "logcumsumexp.default": (lambda x: aten.logcumsumexp(x, 1), (A,)),
    "_cdist_forward.default": (
        lambda x, y: [aten._cdist_forward(x, y, p, None) for p in (1.0, 2.0, float("inf"))],
        (A, _numbers(2, 5, 4)),
    ),
    "dist.default": (lambda x, y: aten.dist(x, y, 2), (M, POSITIVE)),
    "var_mean.dim": (lambda x: aten.var_mean.dim(x, [1], False), (A,)),
    "median.default": (aten.median, (M,)),
    "_trilinear.default": (
        lambda x, w, y: aten._trilinear(x, w, y, [1, 3], [0], [1, 2], [2, 3]),
        (M, _numbers(2, 4, 5), _numbers(3, 5)),
    ),
    "asinh.default": (aten.asinh, (M * 30,)),
    "acosh.default": (lambda x: aten.acosh(x + 1), (POSITIVE,)),
    "hypot.default": (lambda x, y: aten.hypot(x * 1e19, y * 1e19) * 1e-19, (M, POSITIVE)),
    "copysign.Tensor": (aten.copysign, (POSITIVE, torch.tensor([-0.0, 0.0, -2.0, 3.0]))),
    "ldexp.Tensor": (aten.ldexp, (M, PLACES.reshape(3, 1))),
    "fake_quantize_per_tensor_affine_cachemask.default": (
        lambda x: aten.fake_quantize_per_tensor_affine_cachemask(x, 0.1, 3, -8, 7)[0], (M,),
    ),
    "fake_quantize_per_channel_affine_cachemask.default": (
        lambda x, s: aten.fake_quantize_per_channel_affine_cachemask(
            x, s, torch.zeros(3, dtype=torch.int32), 0, -8, 7
        )[0],
        (M, torch.tensor([0.1, 0.2, 0.3])),
    ),
    "rrelu_with_noise_functional.default": (
        lambda x: aten.rrelu_with_noise_functional(x, torch.zeros_like(x))[0], (M,),
    ),
    "grid_sampler_2d.default": (_sampled, (X, 1.4 * _numbers(2, 5, 3, 2))),
    "grid_sampler_3d.default": (
        lambda x, g: [aten.grid_sampler_3d(x, g, mode, 0, True) for mode in (0, 1)],
        (_numbers(1, 2, 3, 4, 5), _numbers(1, 2, 3, 2, 3)),
    ),
}  # fmt: skip
