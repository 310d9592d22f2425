"""ATen's Fourier transforms, as products with matrices of roots of unity.

A transform of n = p·q points is two short ones (Cooley and Tukey): with j = q·j1 + j2 and
k = k1 + p·k2,

    X[k] = Σ_j2 w_q^(j2·k2) · w_n^(j2·k1) · Σ_j1 w_p^(j1·k1) · x[j],   w_m = exp(±2πi / m),

n·(p + q) multiplications instead of n².

Source: J. Cooley and J. Tukey, An algorithm for the machine calculation of complex Fourier series,
1965.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.frontend.aten.complex_numbers import Complex
from graphopt.frontend.builder import Builder, Mapping, UnsupportedFormError, axis_of
from graphopt.ir.graph import Value
from graphopt.ops import FlipAttrs

_LARGEST = 1 << 22
"""Elements of a transform's matrix: 2048 points by as many."""
_SPLIT = 64
"""Points from which two short transforms are quicker than one product; measured."""
_VECTOR = 16
"""Points that are no more work than one: lengths are rounded up to it when factors are chosen."""

Input = Value | Complex


@dataclass(frozen=True)
class _Wave:
    """A transform of `points`, of which the first `given` are not zero and the first `kept` are
    wanted, times `scale`. `sign` is that of the exponent."""

    points: int
    given: int
    kept: int
    sign: int
    scale: float = 1.0


def _roots(points: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of 2π·i·j / points, [rows, columns]."""
    if rows * columns > _LARGEST:
        raise UnsupportedFormError(f"a Fourier transform of {points} points")
    angle = np.outer(np.arange(rows), np.arange(columns)) % points * (2 * np.pi / points)
    return np.cos(angle), np.sin(angle)


def _weights(b: Builder, matrix: np.ndarray, like: Value) -> Value:
    return b.constant(np.ascontiguousarray(matrix.astype(like.type.dtype.numpy)), "waves")


def _factors(points: int) -> tuple[int, int] | None:
    """p and q of points = p·q that cost least; None for a prime, and where one product will do."""
    if points < _SPLIT:
        return None
    divisors = [d for d in range(2, points) if points % d == 0]
    pairs = [(-(-p // _VECTOR) * _VECTOR + points // p, -p) for p in divisors]
    if not pairs:
        return None
    p = -min(pairs)[1]
    return p, points // p


def _parts(x: Input) -> tuple[Value, ...]:
    return (x.real, x.imag) if isinstance(x, Complex) else (x,)


def _transform(b: Builder, x: Input, axis: int, wave: _Wave, *, real: bool = False) -> Input:
    """x [..., given, ...] to [..., kept, ...]; `real`: the real part alone is wanted."""
    parts = _parts(x)
    last = parts[0].type.rank - 1
    rows = [b.move_axis(part, axis, last) for part in parts]
    factors = _factors(wave.points)
    if factors is None:
        out = _product(b, rows, wave, real)
    else:
        out = _two_products(b, rows, wave, factors, real)
    turned = [b.move_axis(part, last, axis) for part in out]
    return turned[0] if real else Complex(*turned)


def _product(b: Builder, parts: Sequence[Value], wave: _Wave, real: bool) -> list[Value]:
    """parts: [..., given]; the real and the imaginary part of the result, or the real one."""
    cos, sin = (wave.scale * m for m in _roots(wave.points, wave.given, wave.kept))
    sin = wave.sign * sin
    out = []
    for first, second in ((cos, -sin), (sin, cos))[: 1 if real else 2]:
        y = b.emit("matmul", parts[0], _weights(b, first, parts[0]))
        if len(parts) == 2:
            y = b.add(y, b.emit("matmul", parts[1], _weights(b, second, parts[1])))
        out.append(y)
    return out


def _two_products(
    b: Builder, parts: Sequence[Value], wave: _Wave, factors: tuple[int, int], real: bool
) -> list[Value]:
    """As `_product`. In between, a value is [..., q, 2, p]: its parts side by side."""
    (p, q), lead = factors, parts[0].type.dims[:-1]
    y = _first(b, parts, wave, factors)
    y = b.reshape(_turned(b, y, wave, factors), (*lead, 2 * q, p))
    columns = -(-wave.kept // p)
    y = b.emit("matmul", _weights(b, _second_matrix(q, columns, wave, real), y), y)
    out = []
    for part in range(1 if real else 2):
        rows = b.slice(y, len(lead), part * columns, (part + 1) * columns)
        out.append(b.slice(b.reshape(rows, (*lead, columns * p)), len(lead), 0, wave.kept))
    return out


def _first(b: Builder, parts: Sequence[Value], wave: _Wave, factors: tuple[int, int]) -> Value:
    """The sums over j1: [..., q, 2, p]. Rows of q points that are not given are left out."""
    (p, q), lead = factors, parts[0].type.dims[:-1]
    given = -(-wave.given // q)
    cos, sin = _roots(p, given, p)
    sin = wave.sign * sin
    total: Value | None = None
    for part, matrix in zip(parts, ((cos, sin), (-sin, cos)), strict=False):
        zeros = b.full(0, part.type.dtype, (*lead, given * q - wave.given))
        full = b.concat([part, zeros], len(lead)) if zeros.type.numel else part
        rows = b.move_axis(b.reshape(full, (*lead, given, q)), len(lead), len(lead) + 1)
        y = b.emit("matmul", rows, _weights(b, np.concatenate(matrix, axis=1), part))
        total = y if total is None else b.add(total, y)
    assert total is not None
    return b.reshape(total, (*lead, q, 2, p))


def _turned(b: Builder, y: Value, wave: _Wave, factors: tuple[int, int]) -> Value:
    """y times w_n^(j2·k1): both parts times its cosine, and each the other times its sine."""
    p, q = factors
    cos, sin = (m[:, None] for m in _roots(wave.points, q, p))
    sin = wave.sign * np.concatenate([-sin, sin], axis=1)
    other = b.emit("flip", y, attrs=FlipAttrs((y.type.rank - 2,)))
    return b.add(b.mul(y, _weights(b, cos, y)), b.mul(other, _weights(b, sin, y)))


def _second_matrix(q: int, columns: int, wave: _Wave, real: bool) -> np.ndarray:
    """[(part, k2), (j2, part)]: the sums over j2, of the k2 that are wanted."""
    cos, sin = (wave.scale * m for m in _roots(q, columns, q))
    sin = wave.sign * sin
    parts = [np.stack([cos, -sin], axis=2), np.stack([sin, cos], axis=2)]
    return np.concatenate([m.reshape(columns, 2 * q) for m in parts[: 1 if real else 2]])


# ATen --------------------------------------------------------------------------------------------


def _scale(points: int, normalization: int) -> float:
    return (1.0, points**-0.5, 1 / points)[normalization]


def _points(x: Value, axes: Sequence[int]) -> int:
    return int(np.prod([x.type.dims[a] for a in axes]))


def _along_all(b: Builder, z: Complex, axes: Sequence[int], sign: int, scale: float) -> Complex:
    for axis in axes:
        n = z.real.type.dims[axis]
        found = _transform(b, z, axis, _Wave(n, n, n, sign, scale))
        assert isinstance(found, Complex)
        z, scale = found, 1.0
    return z


def complex_to_complex(
    b: Builder, z: Complex, axes: Sequence[int], normalization: int, forward: bool
) -> Complex:
    axes = [axis_of(a, z.real.type.rank) for a in axes]
    scale = _scale(_points(z.real, axes), normalization)
    return _along_all(b, z, axes, -1 if forward else 1, scale)


def real_to_complex(
    b: Builder, x: Value, axes: Sequence[int], normalization: int, onesided: bool
) -> Complex:
    *others, last = (axis_of(a, x.type.rank) for a in axes)
    n, scale = x.type.dims[last], _scale(_points(x, axes), normalization)
    wave = _Wave(n, n, n // 2 + 1 if onesided else n, -1, scale)
    z = _transform(b, x, last, wave)
    assert isinstance(z, Complex)
    return _along_all(b, z, others, -1, 1.0)


def complex_to_real(
    b: Builder, z: Complex, axes: Sequence[int], normalization: int, size: int
) -> Value:
    """The missing half of the last axis mirrors the given one: each of its numbers counts twice."""
    *others, last = (axis_of(a, z.real.type.rank) for a in axes)
    scale = _scale(_points(z.real, others) * size, normalization)
    z = _along_all(b, z, others, 1, 1.0)
    kept = z.real.type.dims[last]
    alone = (np.arange(kept) == 0) | (np.arange(kept) * 2 == size)
    counts = np.where(alone, 1.0, 2.0).reshape(-1, *(1,) * (z.real.type.rank - 1 - last))
    weighted = Complex(*(b.mul(part, _weights(b, counts, part)) for part in (z.real, z.imag)))
    y = _transform(b, weighted, last, _Wave(size, kept, size, 1, scale), real=True)
    assert isinstance(y, Value)
    return y


FOURIER: dict[str, Mapping] = {
    "aten._fft_c2c.default": complex_to_complex,
    "aten._fft_r2c.default": real_to_complex,
    "aten._fft_c2r.default": complex_to_real,
}
