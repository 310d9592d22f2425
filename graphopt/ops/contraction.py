"""Matrix products and convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graphopt.errors import IRError
from graphopt.ir.types import TensorType, broadcast_shapes
from graphopt.ops import strassen, winograd
from graphopt.ops.base import Attrs, NoAttrs
from graphopt.ops.define import check_number, check_same_dtype, define, static_extent, upper
from graphopt.ops.strassen import SCHEMES, multiplied
from graphopt.ops.winograd import TRANSFORMS, convolved


@dataclass(frozen=True)
class ConvAttrs(Attrs):
    """One entry per spatial axis; padding is zeros, (before, after). `winograd`: the edge of the
    output tiles that Winograd's F(winograd, taps) computes at a time; 0 sums directly. `strassen`:
    as the product of a linear."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    winograd: int = 0
    strassen: int = 0

    def error_bound(self, *operands: TensorType) -> float:
        if self.winograd:
            return winograd.ERROR[operands[1].dims[2], self.stride[0]][self.winograd]
        return strassen.ERROR.get(self.strassen, 0.0)


@dataclass(frozen=True)
class LinearAttrs(Attrs):
    """`strassen`: by a Strassen-like scheme, that of `graphopt.ops.strassen.SCHEMES` which takes so
    many products of blocks; 0 sums directly."""

    strassen: int = 0

    def error_bound(self, *operands: TensorType) -> float:
        return strassen.ERROR.get(self.strassen, 0.0)


@dataclass(frozen=True)
class ConvTransposeAttrs(Attrs):
    """Extents as torch's: (in - 1) * stride - 2 * padding + dilation * (k - 1) + 1 +
    output_padding."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


# Inference -------------------------------------------------------------------------------------


def _matmul_infer(a: TensorType, b: TensorType, _: NoAttrs) -> TensorType:
    check_number("matmul", a)
    check_same_dtype("matmul", a, b)
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise IRError(
            f"matmul: {a} and {b} do not fit", hint="expected [..., m, k] and [..., k, n]"
        )
    try:
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except IRError:
        raise IRError(f"matmul: the batch axes of {a} and {b} do not broadcast",
                      hint="axes before the last two must match or be 1") from None  # fmt: skip
    return TensorType(a.dtype, (*batch, a.shape[-2], b.shape[-1]))


def _linear_infer(*args: Any) -> TensorType:
    x, w, *bias, a = args
    check_number("linear", x)
    check_same_dtype("linear", x, w, *bias)
    if w.rank != 2 or x.rank < 1 or x.shape[-1] != w.shape[1]:
        raise IRError(f"linear: {x} and {w} do not fit", hint="expected [..., k] and [n, k]")
    _check_bias("linear", bias, w, w.shape[0])
    if a.strassen:
        _check_strassen("linear", x, w, a.strassen)
    return TensorType(x.dtype, (*x.shape[:-1], w.shape[0]))


def _check_strassen(name: str, x: TensorType, w: TensorType, products: int) -> None:
    if products not in SCHEMES:
        raise IRError(f"{name}: there is no scheme of {products} products",
                      hint=f"strassen is one of {', '.join(map(str, SCHEMES))}")  # fmt: skip
    scheme = SCHEMES[products]
    if not scheme.fits(w.dims[1], w.dims[0]) or not x.dtype.is_float:
        raise IRError(
            f"{name}: strassen={products} does not fit weights {w}",
            hint=f"it is for products of floats, k a multiple of {scheme.depth} and n of "
            f"{scheme.columns}, or larger",
        )


def _check_bias(name: str, bias: list[TensorType], w: TensorType, channels: Any) -> None:
    if bias and bias[0].shape != (channels,):
        raise IRError(
            f"{name}: bias {bias[0]} does not fit weights {w}", hint=f"expected [{channels}]"
        )


def _conv_infer(*args: Any) -> TensorType:
    """x [n, c, *spatial], w [o, c / groups, *k], bias [o] -> [n, o, *out]."""
    x, w, *bias, a = args
    _check_image("conv", x, w, bias, "[o, c/groups, ...]")
    _check_lengths("conv", x, stride=a.stride, padding=a.padding, dilation=a.dilation)
    channels, per_group, outputs = (
        static_extent("conv", x, 1), static_extent("conv", w, 1), static_extent("conv", w, 0)
    )  # fmt: skip
    if a.groups < 1 or channels != per_group * a.groups or outputs % a.groups:
        raise IRError(
            f"conv: {x} in {a.groups} groups does not fit weights {w}",
            hint="channels of x = w.shape[1] * groups, and groups divides w.shape[0]",
        )
    _check_bias("conv", bias, w, outputs)
    _check_winograd(x, w, a)
    if a.strassen:
        _check_strassen("conv", x, w, a.strassen)
        if a.groups > 1 or a.winograd or prod(w.dims[2:]) > 1:
            raise IRError(f"conv: strassen does not fit weights {w}",
                          hint="it is for ungrouped kernels of one pixel")  # fmt: skip
    extents = window_extents("conv", x, w.dims[2:], a.stride, a.padding, a.dilation)
    return TensorType(x.dtype, (x.shape[0], outputs, *extents))


def _check_winograd(x: TensorType, w: TensorType, a: ConvAttrs) -> None:
    if a.winograd == 0:
        return
    if not winograd_fits(w.dims[2:], a.stride, a.dilation) or not x.dtype.is_float:
        raise IRError(
            f"conv: winograd={a.winograd} does not fit weights {w}",
            hint="it is for floats and 2 to 4 taps along one axis or two; of stride 2, for 3 taps",
        )
    known = TRANSFORMS[w.dims[2], a.stride[0]]
    if a.winograd not in known:
        sizes = ", ".join(map(str, known))
        raise IRError(f"conv: winograd tiles of {a.winograd}", hint=f"use 0, {sizes}")


def winograd_fits(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> bool:
    """Whether Winograd's algorithm computes such convolutions."""
    square = len(kernel) in (1, 2) and len({*kernel}) == len({*stride}) == 1
    dilated = stride[0] > 1 and {*dilation} != {1}
    return square and (kernel[0], stride[0]) in TRANSFORMS and not dilated


def _check_image(
    name: str, x: TensorType, w: TensorType, bias: list[TensorType], weights: str
) -> None:
    check_number(name, x)
    check_same_dtype(name, x, w, *bias)
    if x.rank < 3 or w.rank != x.rank:
        raise IRError(f"{name}: {x} and weights {w} do not fit",
                      hint=f"expected [n, c, ...] and {weights}")  # fmt: skip


def _check_lengths(name: str, x: TensorType, **attrs: tuple[Any, ...]) -> None:
    for key, values in attrs.items():
        if len(values) != x.rank - 2:
            raise IRError(
                f"{name}: {key} has {len(values)} entries for {x}",
                hint=f"give {x.rank - 2}, one per spatial axis",
            )


def window_extents(
    name: str,
    x: TensorType,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """How many windows fit along each spatial axis of x. Raises: IRError when none does."""
    _check_lengths(name, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    if min((*stride, *dilation, *kernel)) < 1 or min(min(p) for p in padding) < 0:
        raise IRError(f"{name}: kernel {kernel}, stride {stride}, dilation {dilation} and padding "
                      f"{padding} of {x}", hint="padding >= 0, the others >= 1")  # fmt: skip
    out = tuple(
        (static_extent(name, x, axis) + sum(p) - d * (k - 1) - 1) // s + 1
        for axis, (k, s, p, d) in enumerate(zip(kernel, stride, padding, dilation, strict=True), 2)
    )
    if min(out) < 1:
        raise IRError(f"{name}: window {list(kernel)} is larger than padded {x}",
                      hint="enlarge the input or the padding")  # fmt: skip
    return out


def _conv_transpose_infer(*args: Any) -> TensorType:
    """x [n, c, *spatial], w [c, o / groups, *k], bias [o] -> [n, o, *out]."""
    x, w, *bias, a = args
    name = "conv_transpose"
    _check_image(name, x, w, bias, "[c, o/groups, ...]")
    _check_lengths(name, x, stride=a.stride, padding=a.padding, output_padding=a.output_padding,
                   dilation=a.dilation)  # fmt: skip
    channels = static_extent(name, x, 1)
    if a.groups < 1 or channels != w.shape[0] or channels % a.groups:
        raise IRError(
            f"{name}: {x} in {a.groups} groups does not fit weights {w}",
            hint="channels of x = w.shape[0], divisible by groups",
        )
    outputs = static_extent(name, w, 1) * a.groups
    _check_bias(name, bias, w, outputs)
    out = tuple(
        (static_extent(name, x, i) - 1) * s - 2 * p + d * (k - 1) + 1 + extra
        for i, (k, s, p, extra, d) in enumerate(
            zip(w.dims[2:], a.stride, a.padding, a.output_padding, a.dilation, strict=True), 2
        )
    )
    if min(*out, *x.dims[2:]) < 1:
        raise IRError(f"{name}: padding {a.padding} leaves nothing of {x}", hint="pad by less")
    return TensorType(x.dtype, (x.shape[0], outputs, *out))


# Meaning ---------------------------------------------------------------------------------------

_COLUMN_ELEMENTS = 1 << 24  # im2col at most this large at a time: 128 MB in float64


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b. Integers go through float64 where that is exact, since only floats have a BLAS."""
    if a.dtype.kind == "f" or not a.size or not b.size:
        return np.asarray(a @ b)
    bound = a.shape[-1] * _magnitude(a) * _magnitude(b)
    if bound >= 1 << 53:
        return np.asarray(a @ b)
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64).astype(a.dtype)


def _magnitude(x: np.ndarray) -> int:
    return max(abs(int(x.min())), abs(int(x.max())))


def _matmul(a: np.ndarray, b: np.ndarray, _: NoAttrs) -> np.ndarray:
    return product(a, b)


def _linear(*args: Any) -> np.ndarray:
    x, w, *bias, a = args
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    y = multiplied(rows, w.T, SCHEMES[a.strassen]) if a.strassen else product(rows, w.T)
    y = y.reshape(*x.shape[:-1], w.shape[0])
    return np.asarray(y + bias[0]) if bias else y


def windows(
    x: np.ndarray, k: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> np.ndarray:
    """[n, c, *out, *k]: every window of a padded [n, c, *spatial], without copying."""
    span = tuple(d * (n - 1) + 1 for n, d in zip(k, dilation, strict=True))
    view = sliding_window_view(x, span, axis=tuple(range(2, x.ndim)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    return view[(*steps, *(slice(None, None, d) for d in dilation))]


def _conv(*args: Any) -> np.ndarray:
    """im2col and a product per group, by slabs of the first spatial axis of each image."""
    x, w, *bias, a = args
    if a.winograd:
        transform = TRANSFORMS[w.shape[2], a.stride[0]][a.winograd]
        padded = np.pad(x, ((0, 0), (0, 0), *a.padding))
        y = convolved(padded, w, transform, a.groups, a.dilation)
        return y + bias[0].reshape(-1, *(1,) * (x.ndim - 2)) if bias else y
    view = windows(np.pad(x, ((0, 0), (0, 0), *a.padding)), w.shape[2:], a.stride, a.dilation)
    spatial = x.ndim - 2
    if a.strassen:
        pixels = np.moveaxis(view.reshape(view.shape[: 2 + spatial]), 1, -1)
        weights = w.reshape(w.shape[:2]).T
        y = np.moveaxis(multiplied(pixels, weights, SCHEMES[a.strassen]), -1, 1)
        return y + bias[0].reshape(-1, *(1,) * spatial) if bias else y
    n, _, rows, *rest = view.shape[: 2 + spatial]
    groups, inner = a.groups, prod(w.shape[1:])
    weights = w.reshape(groups, w.shape[0] // groups, inner)
    out = np.empty((n, w.shape[0], rows, *rest), x.dtype)
    slab = max(1, _COLUMN_ELEMENTS // max(1, groups * inner * prod(rest)))
    # [c, *out, *k] to [c, *k, *out]: the innermost axis stays contiguous where the stride is 1
    order = (0, *range(1 + spatial, 1 + 2 * spatial), *range(1, 1 + spatial))
    for image in range(n):
        for start in range(0, rows, slab):
            part = view[image, :, start : start + slab]
            columns = part.transpose(order)
            columns = columns.reshape(groups, inner, prod(part.shape[1 : 1 + spatial]))
            y = product(weights, columns)
            out[image, :, start : start + slab] = y.reshape(w.shape[0], -1, *rest)
    return out + bias[0].reshape(-1, *(1,) * spatial) if bias else out


def _conv_transpose(*args: Any) -> np.ndarray:
    """Each input pixel adds its value times the kernel to the output: one product for the values,
    one strided addition per kernel tap."""
    x, w, *bias, a = args
    n, c, *spatial = x.shape
    kernel, groups = w.shape[2:], a.groups
    weights = w.reshape(groups, c // groups, prod(w.shape[1:])).swapaxes(1, 2)
    taps = product(weights, x.reshape(n, groups, c // groups, prod(spatial)))
    taps = taps.reshape(n, groups * w.shape[1], *kernel, *spatial)
    sizes = list(zip(spatial, kernel, a.stride, a.dilation, a.output_padding, strict=True))
    full = [(i - 1) * s + d * (k - 1) + 1 + extra for i, k, s, d, extra in sizes]
    out = np.zeros((n, taps.shape[1], *full), x.dtype)
    for tap in np.ndindex(*kernel):
        at = (
            slice(t * d, t * d + (i - 1) * s + 1, s)
            for t, (i, _, s, d, _) in zip(tap, sizes, strict=True)
        )
        out[(slice(None), slice(None), *at)] += taps[(slice(None), slice(None), *tap)]
    # output_padding lengthens the end only, after the crop by `padding` on both sides
    crop = (slice(p, extent - p) for p, extent in zip(a.padding, full, strict=True))
    out = out[(slice(None), slice(None), *crop)]
    return out + bias[0].reshape(-1, *(1,) * len(kernel)) if bias else out


# Cost ------------------------------------------------------------------------------------------


def _matmul_flops(a: TensorType, b: TensorType, attrs: NoAttrs) -> int:
    return 2 * _matmul_infer(a, b, attrs).numel * upper(a.shape[-1])


def _linear_flops(*args: Any) -> int:
    out, depth = _linear_infer(*args), upper(args[1].shape[1])
    return int(2 * out.numel * depth) + (out.numel if len(args) > 3 else 0)


def _conv_flops(*args: Any) -> int:
    w, out = args[1], _conv_infer(*args)
    return int(2 * out.numel * prod(w.dims[1:])) + (out.numel if len(args) > 3 else 0)


def _conv_transpose_flops(*args: Any) -> int:
    added = _conv_transpose_infer(*args).numel if len(args) > 3 else 0
    return int(2 * args[0].numel * prod(args[1].dims[1:])) + added


OPS = (
    define("matmul", NoAttrs, _matmul_infer, _matmul, _matmul_flops,
           kind="contraction", operands=2),
    define("linear", LinearAttrs, _linear_infer, _linear, _linear_flops,
           kind="contraction", operands=(2, 3)),
    define("conv", ConvAttrs, _conv_infer, _conv, _conv_flops,
           kind="contraction", operands=(2, 3)),
    define("conv_transpose", ConvTransposeAttrs, _conv_transpose_infer, _conv_transpose,
           _conv_transpose_flops, kind="contraction", operands=(2, 3)),
)  # fmt: skip
