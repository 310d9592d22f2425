"""ATen's sampling of images at computed positions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from graphopt.frontend.builder import Builder, Mapping, UnsupportedFormError
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import ClampAttrs

_BILINEAR, _NEAREST, _BICUBIC = range(3)
_ZEROS, _BORDER, _REFLECTION = range(3)
_A = -0.75
"""Keys' kernel as torch samples with it."""

Tap = tuple[Value, Value | None]
"""Positions along an axis, whole numbers in floating point, and what they weigh (None: 1)."""


def grid_sample(b: Builder, x: Value, grid: Value, mode: int, padding: int, align: bool) -> Value:
    """x: [n, c, *spatial], grid: [n, *out, axes], the last axis of the image first, in [-1, 1]."""
    if mode == _BICUBIC and x.type.rank != 4:
        raise UnsupportedFormError("bicubic sampling of volumes")
    spatial = x.type.dims[2:]
    last = grid.type.rank - 1
    at = [b.select(grid, last, i) for i in reversed(range(len(spatial)))]
    taps = [
        _taps(b, p, extent, mode, padding, align) for p, extent in zip(at, spatial, strict=True)
    ]
    y: Value | None = None
    for corner in itertools.product(*taps):
        term = _corner(b, x, corner, padding)
        y = term if y is None else b.add(y, term)
    assert y is not None
    return b.move_axis(y, y.type.rank - 1, 1)


def _taps(b: Builder, p: Value, extent: int, mode: int, padding: int, align: bool) -> list[Tap]:
    """Which source pixels along one axis each output reads."""
    half = (extent - 1) / 2 if align else extent / 2
    p = b.add(b.mul(p, half), (extent - 1) / 2)
    if mode == _BICUBIC:  # its neighbours are put inside, one by one
        floor = b.emit("floor", p)
        t = b.sub(p, floor)
        return [
            (_inside(b, b.add(floor, i), extent, padding, align), _keys(b, t, i))
            for i in (-1, 0, 1, 2)
        ]
    p = _inside(b, p, extent, padding, align)
    if mode == _NEAREST:
        return [(b.emit("round", p), None)]
    floor = b.emit("floor", p)
    t = b.sub(p, floor)
    return [(floor, b.emit("sub", b.full(1, t.type.dtype), t)), (b.add(floor, 1), t)]


def _keys(b: Builder, t: Value, i: int) -> Value:
    """Keys' kernel at the distance of tap i from floor + t."""
    if i < 0 or i > 1:
        d = b.add(t, 1) if i < 0 else b.emit("sub", b.full(2, t.type.dtype), t)
        return _polynomial(b, d, (_A, -5 * _A, 8 * _A, -4 * _A))
    d = t if i == 0 else b.emit("sub", b.full(1, t.type.dtype), t)
    return _polynomial(b, d, (_A + 2, -(_A + 3), 0.0, 1.0))


def _polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    y = b.full(coefficients[0], x.type.dtype, x.type.dims)
    for c in coefficients[1:]:
        y = b.add(b.mul(y, x), c)
    return y


def _inside(b: Builder, p: Value, extent: int, padding: int, align: bool) -> Value:
    """Positions brought into the image, except where zeros surround it."""
    if padding == _ZEROS:
        return p
    if padding == _REFLECTION:
        p = _reflected(b, p, *((0.0, extent - 1.0) if align else (-0.5, extent - 0.5)))
    return _clamped(b, p, extent)


def _reflected(b: Builder, p: Value, low: float, high: float) -> Value:
    """Between `low` and `high`, which are mirrors."""
    span = high - low
    if not span:
        return b.full(0, p.type.dtype, p.type.dims)
    p = b.emit("abs", b.sub(p, low))
    turn = b.emit("mod", p, b.full(2 * span, p.type.dtype))
    back = b.emit("sub", b.full(2 * span, p.type.dtype), turn)
    return b.add(b.emit("minimum", turn, back), low)


def _clamped(b: Builder, p: Value, extent: int) -> Value:
    return b.emit("clamp", p, attrs=ClampAttrs(0.0, extent - 1.0))


def _corner(b: Builder, x: Value, corner: Sequence[Tap], padding: int) -> Value:
    """[n, *out, c]: one pixel per output, times its weight; none outside where zeros surround."""
    n, c, *spatial = x.type.dims
    rows = b.reshape(b.move_axis(x, 1, x.type.rank - 1), (n * math.prod(spatial), c))
    out = corner[0][0].type.dims
    first = b.iota(0, 1, n, DType.I64)
    at = b.expand(b.reshape(first, (n, *(1,) * (len(out) - 1))), out)
    weight: Value | None = None
    for (p, w), extent in zip(corner, spatial, strict=True):
        place = b.cast(_clamped(b, p, extent), DType.I64)
        at = b.add(b.mul(at, extent), place)
        weight = w if weight is None else weight if w is None else b.mul(weight, w)
        if padding == _ZEROS:
            seen = b.emit("eq", p, _clamped(b, p, extent))
            weight = b.where(seen, 1 if weight is None else weight, 0, x.type.dtype)
    pixels = b.gather(rows, at, 0)
    return pixels if weight is None else b.mul(pixels, b.unsqueeze(weight, len(out)))


SAMPLING: dict[str, Mapping] = {
    "aten.grid_sampler_2d.default": grid_sample,
    "aten.grid_sampler_3d.default": grid_sample,
}
