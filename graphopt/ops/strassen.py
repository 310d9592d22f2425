"""Strassen's algorithm, one level: a product of two matrices of 2 x 2 blocks by 7 products of
blocks instead of 8.

The left factor's rows are taken in pairs, its columns (k) and the right factor's columns (n) in
halves: C[2r + i, n + jN/2] are the blocks of a pair. Each product multiplies a signed sum of blocks
of either side; each block of the result is a signed sum of products. Source: Strassen, "Gaussian
Elimination is not Optimal", 1969. The form with 18 additions rounds less than Winograd's with 15:
Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 23.2.2.
"""

from __future__ import annotations

import numpy as np

Matrix = tuple[tuple[float, ...], ...]

PRODUCTS = 7

LEFT: Matrix = (
    (1.0, 0.0, 0.0, 1.0),
    (0.0, 0.0, 1.0, 1.0),
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0, 0.0),
    (-1.0, 0.0, 1.0, 0.0),
    (0.0, 1.0, 0.0, -1.0),
)
"""[product, block]: blocks in the order 11, 12, 21, 22."""

RIGHT: Matrix = (
    (1.0, 0.0, 0.0, 1.0),
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, -1.0),
    (-1.0, 0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 1.0),
)

RESULT: Matrix = (
    (1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 1.0),
    (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    (1.0, -1.0, 1.0, 0.0, 0.0, 1.0, 0.0),
)
"""[block, product]."""

ERROR = 2e-5
"""How far a float32 result may be off, relative to the output's largest magnitude: fifteen times
what was measured on normal data of k = 128 to 4096 (1.3e-6; a direct sum: 6e-7)."""


def halved_weights(w: np.ndarray) -> np.ndarray:
    """[k, n] to the right factors of the products, [7, k/2, n/2], summed in float64, in the dtype
    of `w`."""
    k, n = (extent // 2 for extent in w.shape)
    blocks = w.astype(np.float64).reshape(2, k, 2, n).transpose(0, 2, 1, 3).reshape(4, k, n)
    return np.asarray(np.tensordot(RIGHT, blocks, 1).astype(w.dtype))


def multiplied(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """`x` [..., k] times `w` [k, n], both even; a last row without a partner gets one of zeros."""
    rows = x.reshape(-1, x.shape[-1])
    count, k = rows.shape
    pairs = -(-count // 2)
    padded = np.pad(rows, ((0, 2 * pairs - count), (0, 0)))
    blocks = padded.reshape(pairs, 2, 2, k // 2).transpose(1, 2, 0, 3).reshape(4, pairs, -1)
    left = np.tensordot(np.asarray(LEFT, x.dtype), blocks, 1)
    products = left @ halved_weights(w)
    out = np.tensordot(np.asarray(RESULT, x.dtype), products, 1)
    y = out.reshape(2, 2, pairs, -1).transpose(2, 0, 1, 3).reshape(2 * pairs, -1)
    return np.asarray(y[:count].reshape(*x.shape[:-1], -1))
