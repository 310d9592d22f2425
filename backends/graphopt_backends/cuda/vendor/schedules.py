"""How CUTLASS cuts a product or a convolution into tiles: a table from its extents and a target's
multiprocessors. Nothing of it has been measured.

- Enough tiles for two rounds: the largest (128 x 256), by two warp groups together, two blocks
  sharing what they load of b.
- Enough for more than half a round: a tile for each of two warp groups in turns, so that one
  stores while the other multiplies.
- Fewer: k is cut. Into equal parts where four or more fit (split-K), else unevenly, so that every
  multiprocessor has the same (stream-K); both add up what the parts make in a fixed order.

- Of few rows: the transpose, d' = b' a', whose rows are the columns of d. The rules for k are the
  same.

A convolution's rows are pixels, its columns channels of the result; a step of k are channels of one
pixel of the filter. CUTLASS 4.2 has no schedule for it in which blocks live longer than a tile, so
k is not cut: few tiles are smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt_backends.cuda.vendor.convolution import Convolution
from graphopt_backends.cuda.vendor.visitor import Product

_K = 64
"""Halves of k in a stage: 128 bytes, the widest swizzle."""

_FEW_ROWS = (16, 32, 64)
"""Of a product: the warp groups' tiles have 64 rows or 128, of which most would be empty."""

_LEAST_STEPS = 4
"""Of k in a part: the pipeline must fill."""


@dataclass(frozen=True)
class Schedule:
    """`tile` m x n x k by a `cluster` of m x n blocks. `cooperative`: two warp groups share a tile.
    `splits` are parts of k: 1 none, 0 as many as stream-K decides. `turned`: the transpose is
    computed, so that a tile's rows are the product's columns."""

    tile: tuple[int, int, int]
    cluster: tuple[int, int]
    cooperative: bool
    splits: int = 1
    turned: bool = False


def schedule(p: Product, sms: int) -> Schedule:
    """The schedule of a product on a GPU of `sms` multiprocessors."""
    if p.m <= _FEW_ROWS[-1]:
        return _turned(p, sms)
    if _tiles(p, 128, 256) >= 2 * sms:
        return Schedule((128, 256, _K), (2, 1), True)
    tiles, steps = _tiles(p, 128, 128), -(-p.k // _K)
    if 2 * tiles > sms:
        return Schedule((128, 128, _K), (1, 1), False)
    parts = min(sms // tiles, steps // _LEAST_STEPS)
    if parts < 2:  # k is short: smaller tiles occupy more
        return Schedule((64, 64, _K), (1, 1), False)
    return Schedule((128, 128, _K), (1, 1), True, parts if parts >= 4 else 0)


def _turned(p: Product, sms: int) -> Schedule:
    """Of a product of few rows: a tile is as wide as they are, and no wider."""
    width = next(w for w in _FEW_ROWS if p.m <= w)
    tiles, steps = -(-p.n // 128) * p.batch, -(-p.k // _K)
    if 2 * tiles > sms:
        return Schedule((128, width, _K), (1, 1), False, turned=True)
    parts = min(sms // tiles, steps // _LEAST_STEPS)
    if parts < 2:
        return Schedule((64, width, _K), (1, 1), False, turned=True)
    return Schedule((128, width, _K), (1, 1), True, parts if parts >= 4 else 0, True)


def convolution_schedule(c: Convolution, sms: int) -> Schedule:
    """The schedule of a convolution on a GPU of `sms` multiprocessors: the largest tile of which
    there is one for each, no wider than the result's channels ask for. One warp group keeps it in
    registers."""
    g = c.geometry
    k = next((step for step in (16, 32) if g.c <= step), _K)
    wide = 128 if g.o > 64 else 64
    sizes = [(128, wide), (64, wide), (64, 64)]
    m, n = next((t for t in sizes if -(-g.pixels // t[0]) * -(-g.o // t[1]) >= sms), sizes[-1])
    return Schedule((m, n, k), (1, 1), False)


def _tiles(p: Product, m: int, n: int) -> int:
    return -(-p.m // m) * -(-p.n // n) * p.batch
