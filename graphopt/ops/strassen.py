"""Strassen-like algorithms, one level: products of matrices of blocks by fewer products of blocks
than the definition's.

The left factor's rows are taken in groups, its columns (k) and the right factor's columns (n) in
equal parts. Each product multiplies a signed sum of blocks of either side; each block of the result
is a signed sum of products. Sources:

- 2 x 2 by 2 x 2: Strassen, "Gaussian Elimination is not Optimal", 1969. The form with 18 additions
  rounds less than Winograd's with 15: Higham, "Accuracy and Stability of Numerical Algorithms",
  2002, section 23.2.2.
- 2 x 3 by 3 x 3 and 2 x 4 by 4 x 4: how few products they need is in Hopcroft and Kerr, "On
  Minimizing the Number of Multiplications Necessary for Matrix Multiplication", 1971; these tables
  were found by a walk in the flip graph (Kauers and Moosbauer, "Flip Graphs for Matrix
  Multiplication", 2023) towards few additions on the left and in the result, and signs by solving
  Brent's equations modulo 4.

Two rows to a group: weights are what grows, by products / (depth * columns), least so for few rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

Row = tuple[float, ...]
Matrix = tuple[Row, ...]

_VECTOR = 16
"""Elements of the widest vectors."""

_COEFFICIENTS = {"+": 1.0, "-": -1.0, ".": 0.0}


@dataclass(frozen=True)
class Scheme:
    """A product of [rows, depth] by [depth, columns] blocks. `left` and `right`: [product, block],
    `result`: [block, product], blocks row by row."""

    rows: int
    depth: int
    columns: int
    left: Matrix
    right: Matrix
    result: Matrix

    @property
    def products(self) -> int:
        return len(self.left)

    @cached_property
    def terms(self) -> tuple[int, int]:
        """Blocks added up, on the left and in the result."""
        return _terms(self.left), _terms(self.result)

    def parted(self, columns: int) -> int:
        """How many of them go by the scheme: all if parts can be equal, else as many as make parts
        of whole vectors; the rest is summed directly."""
        vectors = _VECTOR * self.columns
        return columns if columns % self.columns == 0 else columns // vectors * vectors

    def fits(self, depth: int, columns: int) -> bool:
        return depth % self.depth == 0 and self.parted(columns) > 0


def _terms(matrix: Matrix) -> int:
    return sum(c != 0 for c in chain.from_iterable(matrix))


def _scheme(table: str) -> Scheme:
    """A product per line: the blocks of the left factor, of the right and of the result it goes
    into, rows between slashes."""
    factors = [[_coefficients(f) for f in line.split()] for line in table.strip().splitlines()]
    left, right, result = (tuple(product[i] for product in factors) for i in range(3))
    first, second = table.split()[:2]
    rows, depth, columns = first.count("/") + 1, second.count("/") + 1, len(second.split("/")[0])
    return Scheme(rows, depth, columns, left, right, tuple(zip(*result, strict=True)))


def _coefficients(text: str) -> Row:
    return tuple(_COEFFICIENTS[c] for c in text if c != "/")


SCHEMES = {
    scheme.products: scheme
    for scheme in (
        _scheme("""
    +./.+ +./.+ +./.+
    ../++ +./.. ../+-
    +./.. .+/.- .+/.+
    ../.+ -./+. +./+.
    ++/.. ../.+ -+/..
    -./+. ++/.. ../.+
    .+/.- ../++ +./..
"""),
        _scheme("""
    +-./... ..+/.../... +.+/+.+
    +.+/... .+./.../... ++./...
    +../-.. +-./+../... +../...
    +-./-.. ..+/+../... -../-.-
    +-./-+. .../+../... .../+.+
    .+./... ..+/.-+/... ..+/...
    .++/.-- .../.+./... .++/...
    ..+/... .+./.../.-+ .-./.-.
    ..+/+.. .+./.../-.. -../.+.
    ..+/..- .../.+./+-. .../.+.
    ..+/.-- .../.+./..- .--/.-.
    .../+.. +.-/.../-.. +../+..
    .../+.+ .../.../+.. .../++.
    .../.+. .../+.-/..+ .../..-
    .../.++ .../.../..+ .++/.++
"""),
        _scheme("""
    +.../.... ..+-/..../...+/...- ...-/...+
    +.+./.... ..../..../...+/.... .+.+/....
    +..-/.... ..../..../..../...+ +..-/....
    +.../+... +-.+/..../..../.... ..../...+
    +.../..-. .+../..../...-/.... .+../...+
    +.../...+ +.../..../..../...- +.../...-
    +.../+++. ..+./..../..../.... ..++/...-
    .+../.... ..../..+-/..-./.... .-+./.+-.
    .++./.... ..../..../..+./..+. ..+./....
    .+../.+.. ..../+-.+/-.../.-.. ..../.-+.
    .+../..-. ..../.++-/..-./.+.. .+../.-+.
    .+../...+ ..../+.../-.../.... +.../.+-.
    .++-/.... ..../..../..../..+. +.-./-.+.
    .++-/..+. ..../..../..../.+.. .-../-.+.
    .++-/...- ..../..../+.../..-. +.../-.+.
    .+../+++. ..../...+/..../.... ..++/.+-.
    .++-/.++- ..../..../+.../.+.. ..../+.-.
    ..+./..+. ..../..../.+.-/.+.. .+../....
    ...+/...+ ..../..../+.../+..+ +.../....
    ..../+.+. .+../...-/..../.... ..../.+.+
    ..../+..- +.../..../..../.... ..../+..-
    ..../+++. ..+./...+/..../.... ..--/..++
    ..../.++. ..+./.--+/-.../.-.. ..../..-.
    ..../.+.- ..../+.../-.../.-.. ..../++-.
    ..../..+. .+../.++-/.--./.+.. .+../.-..
    ..../...+ +.../+.../-.../+.+. -.../+...
"""),
    )
}
"""By how many products they take."""

ERROR = {7: 2e-5, 15: 2e-5, 26: 3e-5}
"""How far a float32 result may be off by the scheme of so many products, relative to the output's
largest magnitude: at least ten times what was measured on normal and on rectified data of k = 128
to 4096 (1.4e-6, 1.6e-6, 2.6e-6; a direct sum: 6e-7)."""


def summed_weights(w: np.ndarray, scheme: Scheme) -> np.ndarray:
    """[k, n] to the right factors of the products, [product, k / depth, n / columns], summed in
    float64, in the dtype of `w`."""
    k, n = w.shape[0] // scheme.depth, w.shape[1] // scheme.columns
    blocks = w.reshape(scheme.depth, k, scheme.columns, n).swapaxes(1, 2)
    sums, total = np.empty((len(scheme.right), k, n), w.dtype), np.empty((k, n))
    for out, factors in zip(sums, scheme.right, strict=True):  # of few blocks each
        total.fill(0.0)
        for at, factor in zip(np.ndindex(blocks.shape[:2]), factors, strict=True):
            if factor:
                total += np.multiply(blocks[at], factor, dtype=np.float64)
        out[:] = total
    return sums


def multiplied(x: np.ndarray, w: np.ndarray, scheme: Scheme) -> np.ndarray:
    """`x` [..., k] times `w` [k, n], which `scheme` fits; a group that lacks rows gets zeros."""
    whole = scheme.parted(w.shape[1])
    if whole < w.shape[1]:
        return np.concatenate([multiplied(x, w[:, :whole], scheme), x @ w[:, whole:]], axis=-1)
    rows = x.reshape(-1, x.shape[-1])
    count = len(rows)
    groups = -(-count // scheme.rows)
    padded = np.pad(rows, ((0, groups * scheme.rows - count), (0, 0)))
    # rows of a group are neighbours, so that blocks of rows are interleaved
    parted = padded.reshape(groups, scheme.rows, scheme.depth, -1).transpose(1, 2, 0, 3)
    blocks = parted.reshape(scheme.rows * scheme.depth, groups, -1)
    left = np.tensordot(np.asarray(scheme.left, x.dtype), blocks, 1)
    products = left @ summed_weights(w, scheme)
    out = np.tensordot(np.asarray(scheme.result, x.dtype), products, 1)
    parts = out.reshape(scheme.rows, scheme.columns, groups, -1).transpose(2, 0, 1, 3)
    y = parts.reshape(groups * scheme.rows, -1)
    return np.asarray(y[:count].reshape(*x.shape[:-1], -1))
