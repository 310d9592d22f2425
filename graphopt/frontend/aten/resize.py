"""ATen's interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphopt.frontend.builder import Builder, Mapping
from graphopt.ir.graph import Value
from graphopt.ops import ResizeAttrs

Scales = tuple[float, ...] | None
Taps = Callable[[np.ndarray], np.ndarray]
"""A resampling filter: weights at distances, in source pixels."""


def _scales(given: Sequence[float | None] | None) -> Scales:
    """Scale factors that set the coordinate map; torch derives absent ones from the sizes."""
    if not given or any(s is None for s in given):
        return None
    return tuple(float(s) for s in given if s is not None)


def _resize(b: Builder, x: Value, mode: str, align: bool, scales: Scales) -> Value:
    """x: [n, c, *spatial] to the recorded size. Axes beyond two (or one) go one after another."""
    size = b.type.dims[2:]
    if mode == "bilinear" and len(size) == 3:
        return _trilinear(b, x, size, align, scales)
    if mode == "bilinear" and len(size) == 1:
        wide = _two(b, b.unsqueeze(x, 2), (1, *size), mode, align, scales and (1.0, *scales))
        return b.reshape(wide, b.type.dims)
    return _two(b, x, size, mode, align, scales)


def _two(
    b: Builder, x: Value, size: tuple[int, ...], mode: str, align: bool, scales: Scales
) -> Value:
    if size == x.type.dims[2:] and scales is None:
        return x
    return b.emit("resize", x, attrs=ResizeAttrs(size, mode, align, scales))


def _trilinear(b: Builder, x: Value, size: tuple[int, ...], align: bool, scales: Scales) -> Value:
    """Rows and columns of every plane, then planes: [n, c*d, h, w], then [n, c, d, h*w]."""
    n, c, d, h, w = x.type.dims
    flat = b.reshape(x, (n, c * d, h, w))
    flat = _two(b, flat, size[1:], "bilinear", align, scales and scales[1:])
    flat = b.reshape(flat, (n, c, d, size[1] * size[2]))
    deep = (size[0], size[1] * size[2])
    flat = _two(b, flat, deep, "bilinear", align, scales and (scales[0], 1.0))
    return b.reshape(flat, (n, c, *size))


def vec(mode: str, aligns: bool) -> Mapping:
    """`.vec` overloads: (x, output_size, [align_corners,] scale_factors)."""

    def run(b: Builder, x: Value, size: Any, *rest: Any) -> Value:
        align, scales = rest if aligns else (False, *rest)
        return _resize(b, x, mode, bool(align), None if size is not None else _scales(scales))

    return run


def default(mode: str, aligns: bool) -> Mapping:
    """`.default` overloads: (x, size, [align_corners,] scale per axis ...)."""

    def run(b: Builder, x: Value, size: Any, *rest: Any) -> Value:
        align, scales = (rest[0], rest[1:]) if aligns else (False, rest)
        return _resize(b, x, mode, bool(align), _scales(scales))

    return run


# Given by a matrix per axis --------------------------------------------------------------------


def nearest_exact(b: Builder, x: Value, *args: Any) -> Value:
    """Source pixel floor((i + 0.5) * in / out)."""
    scales = _scales(args[-1] if isinstance(args[-1], (list, tuple)) else args[1:])
    for axis, size in enumerate(b.type.dims[2:], start=2):
        extent = x.type.dims[axis]
        step = np.float32(extent / size if scales is None else 1 / scales[axis - 2])
        at = np.minimum(
            ((np.arange(size, dtype=np.float32) + 0.5) * step).astype(np.int64), extent - 1
        )
        x = b.gather(x, b.indices(at), axis)
    return x


def antialiased(taps: Taps, support: float) -> Mapping:
    """Resampling with a filter widened by the shrink factor: two matrix products."""

    def run(b: Builder, x: Value, size: Any, align: bool, *given: Any) -> Value:
        scales = _scales(given[0] if len(given) == 1 else given)
        rows, columns = (
            _filter_matrix(
                x.type.dims[2 + i], b.type.dims[2 + i], align,
                None if scales is None else scales[i], taps, support,
            )
            for i in (0, 1)
        )  # fmt: skip
        dtype = x.type.dtype.numpy
        wide = b.emit("matmul", x, b.constant(columns.T.astype(dtype), "resample"))
        return b.emit("matmul", b.constant(rows.astype(dtype), "resample"), wide)

    return run


def _filter_matrix(
    extent: int, size: int, align: bool, factor: float | None, taps: Taps, support: float
) -> np.ndarray:
    """[size, extent]: filter weights of every output.

    Source: PyTorch's upsample kernels with antialias (after Pillow's resample.c).
    """
    scale = 1 / factor if factor else extent / size
    if align:
        scale = (extent - 1) / (size - 1) if size > 1 else 0.0
    reach = support * max(scale, 1.0)
    out = np.zeros((size, extent))
    for i in range(size):
        centre = scale * i if align else scale * (i + 0.5)
        centre += 0.5 if align else 0.0
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), extent)
        weights = taps((np.arange(first, last) - centre + 0.5) / max(scale, 1.0))
        out[i, first:last] = weights / weights.sum()
    return out


def _triangle(t: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.maximum(1 - np.abs(t), 0)
    return out


def _cubic(t: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5, which antialiased bicubic uses."""
    a, t = -0.5, np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((t - 5) * t + 8) * t * a - 4 * a
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


RESIZE: dict[str, Mapping] = {
    **{f"aten.upsample_nearest{n}d.vec": vec("nearest", False) for n in (1, 2, 3)},
    **{f"aten.upsample_nearest{n}d.default": default("nearest", False) for n in (1, 2, 3)},
    **{f"aten._upsample_nearest_exact{n}d.{o}": nearest_exact
       for n in (1, 2, 3) for o in ("vec", "default")},
    **{f"aten.upsample_{name}.vec": vec(mode, True)
       for name, mode in (("linear1d", "bilinear"), ("bilinear2d", "bilinear"),
                          ("trilinear3d", "bilinear"), ("bicubic2d", "bicubic"))},
    **{f"aten.upsample_{name}.default": default(mode, True)
       for name, mode in (("linear1d", "bilinear"), ("bilinear2d", "bilinear"),
                          ("trilinear3d", "bilinear"), ("bicubic2d", "bicubic"))},
    **{f"aten._upsample_{name}2d_aa.{o}": antialiased(taps, support)
       for name, taps, support in (("bilinear", _triangle, 1.0), ("bicubic", _cubic, 2.0))
       for o in ("vec", "default")},
}  # fmt: skip
