"""Winograd's minimal filtering F(m, r): a convolution of r = 2 to 4 taps, or r x r, as products in
a transformed domain.

An output tile of m x m pixels is read off a t x t input tile, t = m + 2, by t*t multiplications per
pair of channels instead of 9*m*m: 2.25 times fewer for m = 2, 4 times fewer for m = 4; along one
axis t instead of 3*m, 1.5 and 2 times fewer. With 2 taps, which the phases of transposed
convolutions have, t = m + 1: 1.78 times fewer for m = 2, 2.56 times for m = 4; with 4 taps
t = m + 3: 2.56 times for m = 2, 4 times for m = 3. A dilated convolution is one for each phase of
its pixels.

With stride 2 the even pixels meet the outer taps and the odd ones the middle tap: per axis F(m, 2)
and m plain products, t = 2m + 1 of 3m; 1.44 times fewer for m = 2, 1.78 times for m = 4.

Y = A' [ (G g G') * (B' d B) ] A, an elementwise product, summed over the input channels between the
two transforms. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016,
section 4. Cook-Toom: a product of polynomials is interpolated at t - 1 points and at infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import sqrt
from types import MappingProxyType

import numpy as np

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Transform:
    """`input` B' [t, t], `weight` G [t, taps], `output` A' [m, t]. Input tiles are m * `stride`
    pixels apart."""

    m: int
    input: Matrix
    weight: Matrix
    output: Matrix
    stride: int = 1

    @property
    def t(self) -> int:
        return len(self.input)


def _interpolating(points: tuple[float, ...], taps: int = 3) -> Transform:
    """The matrices for these points and infinity. Rows of B' of opposite points differ in the sign
    of their odd columns alone, so that a transform needs about half its products."""
    t = len(points) + 1
    m = t - taps + 1
    divisors = [np.prod([p - q for q in points if q != p]) for p in points]
    weight = [[p**k / d for k in range(taps)] for p, d in zip(points, divisors, strict=True)]
    products = [np.poly([q for q in points if q != p])[::-1] for p in points]
    whole = np.poly(points)[::-1]
    output = [[*(p**i for p in points), float(i == m - 1)] for i in range(m)]
    return Transform(
        m,
        _exact([*([*row, 0.0] for row in products), whole]),
        _exact([*weight, [*[0.0] * (taps - 1), 1.0]]),
        _exact(output),
    )


def _strided(points: tuple[float, ...]) -> Transform:
    """Stride 2: the outer taps over the even pixels by these points and infinity, then the middle
    tap over each odd pixel."""
    even = _interpolating(points, taps=2)
    m, t = even.m, 2 * even.m + 1
    pixels, weight = np.zeros((t, t)), np.zeros((t, 3))
    pixels[: m + 1, 0::2], weight[: m + 1, 0::2] = even.input, even.weight
    pixels[m + 1 :, 1::2], weight[m + 1 :, 1] = np.eye(m), 1.0
    output = np.hstack([even.output, np.eye(m)])
    return Transform(m, _exact(pixels), _exact(weight), _exact(output), stride=2)


def _exact(rows: object) -> Matrix:
    """Entries as floats; what is zero or a small fraction but for rounding is made so."""
    array = np.asarray(rows, np.float64)
    rounded = np.round(array * 24) / 24
    near = np.abs(array - rounded) < 1e-12
    return tuple(tuple(map(float, row)) for row in np.where(near, rounded, array) + 0.0)


_TWO_TAPS = {2: (1.0, -1.0), 3: (0.0, 1.0, -1.0), 4: (0.5, -0.5, 1.25, -1.25)}
"""Points for two taps, by m."""

_FIVE = (0.0, sqrt(1 / 2), -sqrt(1 / 2), sqrt(2), -sqrt(2))

TRANSFORMS: Mapping[tuple[int, int], Mapping[int, Transform]] = MappingProxyType(
    {
        (3, 1): {
            2: _interpolating((0.0, 1.0, -1.0)),
            4: _interpolating(_FIVE),
        },
        (3, 2): {m: _strided(points) for m, points in _TWO_TAPS.items()},
        (2, 1): {m: _interpolating(points, taps=2) for m, points in _TWO_TAPS.items()},
        (4, 1): {
            2: _interpolating(_TWO_TAPS[4], taps=4),
            3: _interpolating(_FIVE, taps=4),
        },
    }
)
"""By taps and stride, and m. The points of F(4, 3) are closer together than the usual 0, 1, -1, 2,
-2: measured, a third of its rounding error, with four taps a quarter; those of two taps and m = 4 a
fifth of that of 0, 1, -1, 2. Source: Barabasz et al., "Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks", 2020."""

ERROR: Mapping[tuple[int, int], Mapping[int, float]] = MappingProxyType(
    {
        (3, 1): {2: 1e-5, 4: 5e-5},
        (3, 2): {2: 1.2e-5, 3: 1.5e-5, 4: 2.5e-5},
        (2, 1): {2: 1e-5, 3: 1.5e-5, 4: 5e-5},
        (4, 1): {2: 2e-5, 3: 5e-5},
    }
)
"""How far a float32 result may be off, by taps and stride, and m, relative to the output's largest
magnitude: fifteen times what was measured on normal data of 64 to 512 channels (6e-7 and 3.5e-6;
with stride 2 8e-7, 9e-7 and 1.7e-6; with four taps 1.2e-6 and 2.9e-6; a direct sum: 5e-7)."""


def transformed_weights(w: np.ndarray, transform: Transform) -> np.ndarray:
    """[o, c, r] or [o, c, r, r] to [t or t*t, c, o], computed in float64, in the dtype of `w`; of a
    grouped convolution, c are one group's channels and o all groups'."""
    g = np.asarray(transform.weight)
    o, c, *kernel = w.shape
    taps = w.transpose(*range(2, w.ndim), 1, 0).reshape(-1, c * o)
    # both sides of G w G' at once: one product takes a fifth of an einsum's time
    u = (np.kron(g, g) if len(kernel) == 2 else g) @ taps.astype(np.float64)
    return u.reshape(-1, c, o).astype(w.dtype)


def convolved(
    x: np.ndarray, w: np.ndarray, transform: Transform, groups: int = 1,
    dilation: tuple[int, ...] = (1, 1),
) -> np.ndarray:  # fmt: skip
    """A convolution of a padded `x` [n, c, ...] with `w` [o, c / groups, ...]: one axis or two."""
    reach, sizes = w.shape[2] - 1, x.shape[2:]
    extents = [
        (size - reach * d - 1) // transform.stride + 1
        for size, d in zip(sizes, dilation, strict=False)
    ]
    out = np.empty((x.shape[0], w.shape[0], *extents), x.dtype)
    for phases in product(*(range(d) for d in dilation[: len(sizes)])):
        every = zip(phases, dilation, strict=False)
        part = (slice(None), slice(None), *(slice(p, None, d) for p, d in every))
        if out[part].size:
            out[part] = _convolved(x[part], w, transform, groups)
    return out


def _convolved(x: np.ndarray, w: np.ndarray, transform: Transform, groups: int) -> np.ndarray:
    m, t, (n, c, *extents) = transform.m, transform.t, x.shape
    rank, step = len(extents), m * transform.stride
    out = [(e - w.shape[2]) // transform.stride + 1 for e in extents]
    tiles = [-(-e // m) for e in out]
    missing = [max((k - 1) * step + t - e, 0) for k, e in zip(tiles, extents, strict=True)]
    x = np.pad(x, ((0, 0), (0, 0), *((0, k) for k in missing)))
    v = np.lib.stride_tricks.sliding_window_view(x, (t,) * rank, axis=tuple(range(2, 2 + rank)))
    v = v[(slice(None), slice(None), *(slice(None, k * step, step) for k in tiles))]
    b, a = (np.asarray(k, x.dtype) for k in (transform.input, transform.output))
    for _ in range(rank):  # the axis of a tile that comes first goes last
        v = np.tensordot(v, b, axes=([2 + rank], [1]))
    v = v.transpose(*range(2 + rank, 2 + 2 * rank), 0, *range(2, 2 + rank), 1)
    v = v.reshape(t**rank, -1, groups, c // groups)
    u = transformed_weights(w, transform).reshape(t**rank, c // groups, groups, -1)
    products = v.swapaxes(1, 2) @ u.swapaxes(1, 2)
    y = products.swapaxes(1, 2).reshape(*(t,) * rank, n, *tiles, -1)
    for _ in range(rank):
        y = np.tensordot(y, a, axes=([0], [1]))
    # [n, tiles.., o, m..] to [n, o, (tiles, m)..]
    pairs = (axis for i in range(rank) for axis in (1 + i, 2 + rank + i))
    y = y.transpose(0, 1 + rank, *pairs).reshape(n, w.shape[0], *(k * m for k in tiles))
    return np.asarray(y[(slice(None), slice(None), *(slice(e) for e in out))])
