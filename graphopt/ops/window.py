"""Pooling and resizing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs
from graphopt.ops.contraction import window_extents, windows
from graphopt.ops.define import check_float, check_not_empty, check_number, define, static_extent

RESIZE_MODES = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class MaxPoolAttrs(Attrs):
    """Padding (before, after) is -inf, or the least integer; torch's ceil_mode is extra `after`."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class AvgPoolAttrs(Attrs):
    """The sum of a window divided by `divisor`; where that is None, by the window's size with
    `count_include_pad`, else by how many of its elements lie inside the input.

    torch counts its own padding but not what its ceil_mode adds. An importer that meets both pads
    first and then counts the elements inside.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    count_include_pad: bool = True
    divisor: int | None = None


@dataclass(frozen=True)
class AdaptiveAvgPoolAttrs(Attrs):
    """Extents of the last axes; window i of n covers [floor(i*in/n), ceil((i+1)*in/n))."""

    size: tuple[int, ...]


@dataclass(frozen=True)
class ResizeAttrs(Attrs):
    """`mode` "nearest", "bilinear" (linear along each spatial axis, any number of them) or
    "bicubic" (a = -0.75). `scales` are torch's scale factors when it was given some: they set the
    coordinate map."""

    size: tuple[int, ...]
    mode: str
    align_corners: bool = False
    scales: tuple[float, ...] | None = None


# Pooling ---------------------------------------------------------------------------------------


def _pool_infer(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, a: Any) -> TensorType:
        (check_float if name == "avg_pool" else check_number)(name, x)
        if x.rank < 3 or len(a.kernel) != x.rank - 2:
            raise IRError(
                f"{name}: window {list(a.kernel)} does not fit {x}",
                hint="expected [n, c, ...] and one extent per spatial axis",
            )
        extents = window_extents(name, x, a.kernel, a.stride, a.padding, _dilation(a))
        _check_divisor(x, a)
        return TensorType(x.dtype, (*x.shape[:2], *extents))

    return infer


def _check_divisor(x: TensorType, a: Any) -> None:
    if isinstance(a, AvgPoolAttrs) and a.divisor is not None and a.divisor < 1:
        raise IRError(f"avg_pool: divisor {a.divisor} of {x}", hint="use a divisor of at least 1")


def _dilation(a: MaxPoolAttrs | AvgPoolAttrs) -> tuple[int, ...]:
    return a.dilation if isinstance(a, MaxPoolAttrs) else (1,) * len(a.kernel)


def _kernel_axes(a: MaxPoolAttrs | AvgPoolAttrs) -> tuple[int, ...]:
    return tuple(range(-len(a.kernel), 0))


def _max_pool(x: np.ndarray, a: MaxPoolAttrs) -> np.ndarray:
    low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    x = np.pad(x, ((0, 0), (0, 0), *a.padding), constant_values=low)
    return np.asarray(windows(x, a.kernel, a.stride, a.dilation).max(axis=_kernel_axes(a)))


def _avg_pool(x: np.ndarray, a: AvgPoolAttrs) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), *a.padding))
    total = windows(padded, a.kernel, a.stride, _dilation(a)).sum(axis=_kernel_axes(a))
    return np.asarray(total / pool_counts(x.shape[2:], a).astype(x.dtype))


def pool_counts(extents: tuple[int, ...], a: AvgPoolAttrs) -> np.ndarray:
    """The divisor of every output position: [*out], or a scalar where all are equal."""
    if a.divisor is not None:
        return np.asarray(float(a.divisor))
    if a.count_include_pad:
        return np.asarray(float(prod(a.kernel)))
    counts = np.ones(())
    for extent, k, stride, padding in zip(extents, a.kernel, a.stride, a.padding, strict=True):
        inside = np.pad(np.ones(extent), padding)
        along = windows(inside[None, None], (k,), (stride,), (1,)).sum(axis=-1)[0, 0]
        counts = np.multiply.outer(counts, along)
    return np.asarray(counts.flat[0] if (counts == counts.flat[0]).all() else counts)


def _pool_flops(name: str) -> Callable[..., int]:
    infer = _pool_infer(name)
    return lambda x, a: infer(x, a).numel * prod(a.kernel)


def _adaptive_infer(x: TensorType, a: AdaptiveAvgPoolAttrs) -> TensorType:
    check_float("adaptive_avg_pool", x)
    if x.rank <= len(a.size) or min(a.size, default=1) < 1:
        raise IRError(
            f"adaptive_avg_pool: size {list(a.size)} does not fit {x}",
            hint="expected [n, c, ...] and one extent of at least 1 per spatial axis",
        )
    for axis in range(x.rank - len(a.size), x.rank):
        static_extent("adaptive_avg_pool", x, axis)
        check_not_empty("adaptive_avg_pool", x, (axis,))
    return TensorType(x.dtype, (*x.shape[: x.rank - len(a.size)], *a.size))


def adaptive_matrix(extent: int, size: int) -> np.ndarray:
    """[size, extent]: row i averages window i of an adaptive pool."""
    out = np.zeros((size, extent))
    for i in range(size):
        start, end = i * extent // size, -(-((i + 1) * extent) // size)
        out[i, start:end] = 1 / (end - start)
    return out


def _adaptive(x: np.ndarray, a: AdaptiveAvgPoolAttrs) -> np.ndarray:
    """The windows are boxes, so their average is an average along one axis after the other."""
    for axis, size in enumerate(a.size, x.ndim - len(a.size)):
        matrix = adaptive_matrix(x.shape[axis], size).astype(x.dtype)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
    return x


# Resize ----------------------------------------------------------------------------------------


def _resize_infer(x: TensorType, a: ResizeAttrs) -> TensorType:
    if a.mode not in RESIZE_MODES:
        names = ", ".join(f'"{m}"' for m in RESIZE_MODES)
        raise IRError(f"resize: no mode {a.mode!r}", hint=f"use one of {names}")
    if a.mode != "nearest":
        check_float("resize", x)
    if x.rank < 3 or x.rank != len(a.size) + 2 or min(a.size) < 1:
        raise IRError(
            f"resize: size {list(a.size)} does not fit {x}",
            hint="expected [n, c, ...] and one extent of at least 1 per spatial axis",
        )
    if a.scales is not None and (len(a.scales) != len(a.size) or min(a.scales) <= 0):
        raise IRError(f"resize: scales {list(a.scales)} do not fit size {list(a.size)}",
                      hint="give one positive scale per spatial axis")  # fmt: skip
    for axis in range(2, x.rank):
        static_extent("resize", x, axis)
        check_not_empty("resize", x, (axis,))
    return TensorType(x.dtype, (*x.shape[:2], *a.size))


def resize_taps(
    extent: int, size: int, a: ResizeAttrs, axis: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(index, weight) arrays of the taps whose weighted sum is each output along spatial `axis`.

    Lowerings use these very tables, so that no two coordinate maps can disagree.
    Source: PyTorch's upsample coordinate maps (aten/src/ATen/native/UpSample.h,
    area_pixel_compute_source_index).
    """
    scale = extent / size if a.scales is None else 1 / a.scales[axis]
    out = np.arange(size)
    if a.mode == "nearest":
        # In float32, as torch does for f32 images: floor makes the rounding of the map visible.
        at = np.floor(out.astype(np.float32) * np.float32(scale)).astype(np.int64)
        return [(np.minimum(at, extent - 1), np.ones(size))]
    at = _source_positions(out, extent, size, scale, a)
    low = np.floor(at).astype(np.int64)
    weights = [1 - (at - low), at - low] if a.mode == "bilinear" else _cubic(at - low)
    first = 0 if a.mode == "bilinear" else -1
    return [(np.clip(low + first + i, 0, extent - 1), w) for i, w in enumerate(weights)]


def _source_positions(
    out: np.ndarray, extent: int, size: int, scale: float, a: ResizeAttrs
) -> np.ndarray:
    """Where each output lies between the input's pixels."""
    if a.align_corners:
        return out * ((extent - 1) / (size - 1) if size > 1 else 0.0)
    at = (out + 0.5) * scale - 0.5
    return np.maximum(at, 0) if a.mode == "bilinear" else at


def _cubic(t: np.ndarray) -> list[np.ndarray]:
    """Weights of the pixels at -1, 0, 1, 2 for a position t in [0, 1) with a = -0.75.

    Source: R. Keys, Cubic convolution interpolation for digital image processing, 1981, eq. 15.
    """
    a = -0.75

    def near(x: np.ndarray) -> np.ndarray:
        return np.asarray(((a + 2) * x - (a + 3)) * x * x + 1)

    def far(x: np.ndarray) -> np.ndarray:
        return np.asarray(((a * x - 5 * a) * x + 8 * a) * x - 4 * a)

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _resize(x: np.ndarray, a: ResizeAttrs) -> np.ndarray:
    """One axis after the other."""
    for i, size in enumerate(a.size):
        axis = 2 + i
        taps = resize_taps(x.shape[axis], size, a, i)
        if len(taps) == 1:
            x = np.take(x, taps[0][0], axis=axis)
            continue
        along = [size if at == axis else 1 for at in range(x.ndim)]
        parts = (np.take(x, at, axis) * w.astype(x.dtype).reshape(along) for at, w in taps)
        x = np.asarray(sum(parts))
    return x


def _resize_flops(x: TensorType, a: ResizeAttrs) -> int:
    taps = {"nearest": 0, "bilinear": 2, "bicubic": 4}[a.mode]
    return int(2 * taps * len(a.size) * _resize_infer(x, a).numel)


OPS = (
    define("max_pool", MaxPoolAttrs, _pool_infer("max_pool"), _max_pool, _pool_flops("max_pool"),
           kind="window", operands=1),
    define("avg_pool", AvgPoolAttrs, _pool_infer("avg_pool"), _avg_pool, _pool_flops("avg_pool"),
           kind="window", operands=1),
    define("adaptive_avg_pool", AdaptiveAvgPoolAttrs, _adaptive_infer, _adaptive,
           lambda x, _: x.numel, kind="opaque", operands=1),
    define("resize", ResizeAttrs, _resize_infer, _resize, _resize_flops,
           kind="opaque", operands=1),
)  # fmt: skip
