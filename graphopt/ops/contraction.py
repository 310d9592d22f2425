"""Matrix products and convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.errors import IRError
from graphopt.ir.types import TensorType, broadcast_shapes
from graphopt.ops.base import Attrs, NoAttrs, OpDef


@dataclass(frozen=True)
class ConvAttrs(Attrs):
    """One entry per spatial axis; padding is (before, after)."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class ConvTransposeAttrs(Attrs):
    """As torch's: output = (in - 1) * stride - 2 * padding + dilation * (k - 1) + 1 + output_padding."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


def _matmul_infer(a: TensorType, b: TensorType, _: NoAttrs) -> TensorType:
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2] or a.dtype != b.dtype:
        raise IRError(f"matmul: {a} and {b} do not fit", hint="expected [..., m, k] and [..., k, n]")
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return TensorType(a.dtype, (*batch, a.shape[-2], b.shape[-1]))


def _linear_infer(*args: Any) -> TensorType:
    x, w, *bias, _ = args
    if w.rank != 2 or x.rank < 1 or x.shape[-1] != w.shape[1] or x.dtype != w.dtype:
        raise IRError(f"linear: {x} and {w} do not fit", hint="expected [..., k] and [n, k]")
    if bias and bias[0].shape != (w.shape[0],):
        raise IRError(f"linear: bias {bias[0]} does not fit {w}", hint="expected [n]")
    return TensorType(x.dtype, (*x.shape[:-1], w.shape[0]))


def _conv_infer(*args: Any) -> TensorType:
    x, w, *bias, a = args
    spatial = x.rank - 2
    if x.rank < 3 or w.rank != x.rank or len(a.stride) != spatial:
        raise IRError(f"conv: {x} and {w} do not fit", hint="expected [n, c, ...] and [o, c/g, ...]")
    if x.shape[1] != w.shape[1] * a.groups or w.shape[0] % a.groups:
        raise IRError(
            f"conv: {x} with {a.groups} groups does not fit {w}", hint="channels = w.shape[1] * groups"
        )
    if bias and bias[0].shape != (w.shape[0],):
        raise IRError(f"conv: bias {bias[0]} does not fit {w}", hint="expected [o]")
    out = tuple(
        _conv_extent(*e) for e in zip(x.dims[2:], w.dims[2:], a.stride, a.padding, a.dilation, strict=True)
    )
    if any(e < 1 for e in out):
        raise IRError(f"conv: window of {w} is larger than padded {x}", hint="enlarge the input")
    return TensorType(x.dtype, (x.shape[0], w.shape[0], *out))


def _conv_extent(size: int, k: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    return (size + sum(padding) - dilation * (k - 1) - 1) // stride + 1


def _conv_transpose_infer(*args: Any) -> TensorType:
    x, w, *bias, a = args
    if x.rank < 3 or w.rank != x.rank or x.shape[1] != w.shape[0] or w.shape[0] % a.groups:
        raise IRError(f"conv_transpose: {x} and {w} do not fit", hint="expected [n, c, ...] and [c, o/g, ...]")
    out = tuple(
        (size - 1) * s - 2 * p + d * (k - 1) + 1 + op
        for size, k, s, p, op, d in zip(
            x.dims[2:], w.dims[2:], a.stride, a.padding, a.output_padding, a.dilation, strict=True
        )
    )
    channels = w.dims[1] * a.groups
    if bias and bias[0].shape != (channels,):
        raise IRError(f"conv_transpose: bias {bias[0]} does not fit {w}", hint="expected [o]")
    return TensorType(x.dtype, (x.shape[0], channels, *out))


def windows(x: np.ndarray, k: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> np.ndarray:
    """[n, c, *out, *k]: every window of a padded input, without copying."""
    span = tuple(d * (n - 1) + 1 for n, d in zip(k, dilation, strict=True))
    axes = tuple(range(2, x.ndim))
    view = sliding_window_view(x, span, axis=axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    return view[(*steps, *(slice(None, None, d) for d in dilation))]


def _conv(*args: Any) -> np.ndarray:
    x, w, *bias, a = args
    x = np.pad(x, ((0, 0), (0, 0), *a.padding))
    n, spatial = x.shape[0], x.ndim - 2
    view = windows(x, w.shape[2:], a.stride, a.dilation)
    out_shape = view.shape[2 : 2 + spatial]
    g, per = a.groups, w.shape[1]
    if per == 1 and w.shape[0] == g:
        letters = "xyz"[:spatial], "uvw"[:spatial]
        y = np.einsum(f"nc{letters[0]}{letters[1]},c{letters[1]}->nc{letters[0]}", view, w[:, 0], optimize=True)
    else:
        order = (1, 0, *range(2, 2 + spatial), *range(2 + spatial, 2 + 2 * spatial))
        cols = view.transpose(order).reshape(g, per, n * prod(out_shape), prod(w.shape[2:]))
        cols = cols.transpose(0, 2, 1, 3).reshape(g, n * prod(out_shape), -1)
        y = cols @ w.reshape(g, w.shape[0] // g, -1).transpose(0, 2, 1)
        y = y.transpose(0, 2, 1).reshape(w.shape[0], n, *out_shape).swapaxes(0, 1)
    if bias:
        y = y + bias[0].reshape(-1, *(1,) * spatial)
    return np.ascontiguousarray(y).astype(x.dtype, copy=False)


def _conv_transpose(*args: Any) -> np.ndarray:
    """A convolution of the input spread out by the stride with the flipped kernel."""
    x, w, *bias, a = args
    spatial, g = x.ndim - 2, a.groups
    spread = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], a.stride, strict=True)]
    wide = np.zeros((*x.shape[:2], *spread), x.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in a.stride))] = x
    reach = [d * (k - 1) for k, d in zip(w.shape[2:], a.dilation, strict=True)]
    padding = tuple(
        (r - p, r - p + op) for r, p, op in zip(reach, a.padding, a.output_padding, strict=True)
    )
    flipped = w[(slice(None), slice(None), *(slice(None, None, -1),) * spatial)]
    grouped = flipped.reshape(g, w.shape[0] // g, w.shape[1], *w.shape[2:]).swapaxes(1, 2)
    kernel = grouped.reshape(g * w.shape[1], w.shape[0] // g, *w.shape[2:])
    crop = tuple(slice(max(0, -b), wide.shape[i + 2] - max(0, -e)) for i, (b, e) in enumerate(padding))
    wide = wide[(slice(None), slice(None), *crop)]
    padding = tuple((max(0, b), max(0, e)) for b, e in padding)
    return _conv(wide, kernel, *bias, ConvAttrs((1,) * spatial, padding, a.dilation, g))


def _linear(*args: Any) -> np.ndarray:
    x, w, *bias, _ = args
    y = x @ w.T
    return y + bias[0] if bias else y  # type: ignore[no-any-return]


def _linear_flops(*args: Any) -> int:
    x, w = args[:2]
    return 2 * x.numel * w.dims[0] + (_linear_infer(*args).numel if len(args) > 3 else 0)


def _conv_flops(*args: Any) -> int:
    w, out = args[1], _conv_infer(*args)
    return 2 * out.numel * prod(w.dims[1:]) + (out.numel if len(args) > 3 else 0)


def _conv_transpose_flops(*args: Any) -> int:
    return 2 * args[0].numel * prod(args[1].dims[1:])


def _matmul_flops(a: TensorType, b: TensorType, attrs: NoAttrs) -> int:
    return 2 * _matmul_infer(a, b, attrs).numel * a.dims[-1]


OPS = (
    OpDef("matmul", NoAttrs, _matmul_infer, lambda a, b, _: a @ b, _matmul_flops, "contraction"),
    OpDef("linear", NoAttrs, _linear_infer, _linear, _linear_flops, "contraction"),
    OpDef("conv", ConvAttrs, _conv_infer, _conv, _conv_flops, "contraction"),
    OpDef("conv_transpose", ConvTransposeAttrs, _conv_transpose_infer, _conv_transpose,
          _conv_transpose_flops, "contraction"),
)  # fmt: skip
