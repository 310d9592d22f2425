"""Pooling and resizing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs, OpDef
from graphopt.ops.contraction import windows


@dataclass(frozen=True)
class MaxPoolAttrs(Attrs):
    """Padding is -inf; torch's ceil_mode is extra `after` padding."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class AvgPoolAttrs(Attrs):
    """`divisor` None: the window's size, with `count_include_pad` padding counted, else only the
    elements inside the input."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    count_include_pad: bool = True
    divisor: int | None = None


@dataclass(frozen=True)
class AdaptiveAvgPoolAttrs(Attrs):
    """Output extents; window i of n covers [floor(i*in/n), ceil((i+1)*in/n))."""

    size: tuple[int, ...]


@dataclass(frozen=True)
class ResizeAttrs(Attrs):
    """`mode` is "nearest", "bilinear" or "bicubic" (a = -0.75) on two axes (nearest: any number).
    `scales` are torch's scale factors when it was given some: they set the coordinate map."""

    size: tuple[int, ...]
    mode: str
    align_corners: bool = False
    scales: tuple[float, ...] | None = None


def _pool_infer(x: TensorType, a: Any) -> TensorType:
    if x.rank < 3 or len(a.kernel) != x.rank - 2:
        raise IRError(f"pool: window {a.kernel} does not fit {x}", hint="expected [n, c, ...]")
    dilation = getattr(a, "dilation", (1,) * len(a.kernel))
    out = tuple(
        (s + sum(p) - d * (k - 1) - 1) // st + 1
        for s, k, st, p, d in zip(x.dims[2:], a.kernel, a.stride, a.padding, dilation, strict=True)
    )
    if any(e < 1 for e in out):
        raise IRError(f"pool: window {a.kernel} is larger than padded {x}", hint="enlarge the input")
    return TensorType(x.dtype, (*x.shape[:2], *out))


def _spatial(a: Any) -> tuple[int, ...]:
    return tuple(range(-len(a.kernel), 0))


def _max_pool(x: np.ndarray, a: MaxPoolAttrs) -> np.ndarray:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    x = np.pad(x, ((0, 0), (0, 0), *a.padding), constant_values=low)
    return windows(x, a.kernel, a.stride, a.dilation).max(axis=_spatial(a))  # type: ignore[no-any-return]


def _avg_pool(x: np.ndarray, a: AvgPoolAttrs) -> np.ndarray:
    ones = (1,) * len(a.kernel)
    padded = np.pad(x, ((0, 0), (0, 0), *a.padding))
    total = windows(padded, a.kernel, a.stride, ones).sum(axis=_spatial(a))
    return (total / pool_counts(x.shape[2:], a)).astype(x.dtype)


def pool_counts(extents: tuple[int, ...], a: AvgPoolAttrs) -> np.ndarray:
    """The divisor of every output position: [*out]."""
    if a.divisor is not None:
        return np.asarray(float(a.divisor))
    if a.count_include_pad:
        return np.asarray(float(prod(a.kernel)))
    ones = np.pad(np.ones((1, 1, *extents)), ((0, 0), (0, 0), *a.padding))
    return windows(ones, a.kernel, a.stride, (1,) * len(a.kernel)).sum(axis=_spatial(a))[0, 0]  # type: ignore[no-any-return]


def adaptive_matrix(extent: int, size: int) -> np.ndarray:
    """[size, extent]: row i averages window i of an adaptive pool."""
    out = np.zeros((size, extent))
    for i in range(size):
        start, end = i * extent // size, -(-((i + 1) * extent) // size)
        out[i, start:end] = 1 / (end - start)
    return out


def _adaptive_infer(x: TensorType, a: AdaptiveAvgPoolAttrs) -> TensorType:
    if x.rank <= len(a.size):
        raise IRError(f"adaptive_avg_pool: size {a.size} does not fit {x}")
    return TensorType(x.dtype, (*x.shape[: x.rank - len(a.size)], *a.size))


def _along(x: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T.astype(x.dtype), -1, axis)


def _adaptive(x: np.ndarray, a: AdaptiveAvgPoolAttrs) -> np.ndarray:
    for i, size in enumerate(a.size):
        axis = x.ndim - len(a.size) + i
        x = _along(x, adaptive_matrix(x.shape[axis], size), axis)
    return x


# Resize ----------------------------------------------------------------------------------------


def _resize_infer(x: TensorType, a: ResizeAttrs) -> TensorType:
    if x.rank != len(a.size) + 2 or a.mode not in ("nearest", "bilinear", "bicubic"):
        raise IRError(f"resize: size {a.size} with mode {a.mode} does not fit {x}")
    return TensorType(x.dtype, (*x.shape[:2], *a.size))


def resize_taps(extent: int, size: int, a: ResizeAttrs, axis: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(index, weight) arrays of the taps whose weighted sum is each output along one axis.

    Source: PyTorch's upsample coordinate maps (area_pixel_compute_source_index).
    """
    scale = extent / size
    if a.scales is not None and a.scales[axis] > 0:
        scale = 1 / a.scales[axis]
    out = np.arange(size)
    if a.mode == "nearest":
        at = np.minimum(np.floor(out * np.float32(scale)).astype(np.int64), extent - 1)
        return [(at, np.ones(size))]
    if a.align_corners:
        at = out * ((extent - 1) / (size - 1) if size > 1 else 0.0)
    else:
        at = (out + 0.5) * scale - 0.5
        at = np.maximum(at, 0) if a.mode == "bilinear" else at
    low = np.floor(at).astype(np.int64)
    t = at - low
    if a.mode == "bilinear":
        last = extent - 1
        return [(np.minimum(low, last), 1 - t), (np.minimum(low + 1, last), t)]
    weights = _cubic(t)
    return [(np.clip(low + i - 1, 0, extent - 1), w) for i, w in enumerate(weights)]


def _cubic(t: np.ndarray) -> list[np.ndarray]:
    """Keys' cubic convolution weights with a = -0.75."""
    a = -0.75

    def near(x: np.ndarray) -> np.ndarray:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _resize(x: np.ndarray, a: ResizeAttrs) -> np.ndarray:
    dtype = x.dtype
    for i, size in enumerate(a.size):
        axis = 2 + i
        shape = [1] * x.ndim
        shape[axis] = size
        taps = resize_taps(x.shape[axis], size, a, i)
        if len(taps) == 1:
            x = np.take(x, taps[0][0], axis=axis)
        else:
            x = sum(np.take(x, at, axis=axis) * w.reshape(shape) for at, w in taps)
    return x.astype(dtype, copy=False)


def _window_flops(x: TensorType, a: Any) -> int:
    return _pool_infer(x, a).numel * prod(a.kernel)


OPS = (
    OpDef("max_pool", MaxPoolAttrs, _pool_infer, _max_pool, _window_flops, "window"),
    OpDef("avg_pool", AvgPoolAttrs, _pool_infer, _avg_pool, _window_flops, "window"),
    OpDef("adaptive_avg_pool", AdaptiveAvgPoolAttrs, _adaptive_infer, _adaptive,
          lambda x, _: x.numel, "opaque"),
    OpDef("resize", ResizeAttrs, _resize_infer, _resize,
          lambda x, a: 4 * _resize_infer(x, a).numel, "opaque"),
)  # fmt: skip
