"""How CUTLASS cuts a product into tiles: a table from its extents and a target's multiprocessors.
Nothing of it has been measured.

- Enough tiles for two rounds: the largest (128 x 256), by two warp groups together, two blocks
  sharing what they load of b.
- Enough for more than half a round: a tile for each of two warp groups in turns, so that one
  stores while the other multiplies.
- Fewer: k is cut. Into equal parts where four or more fit (split-K), else unevenly, so that every
  multiprocessor has the same (stream-K); both add up what the parts make in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt_backends.cuda.vendor.visitor import Product

_K = 64
"""Halves of k in a stage: 128 bytes, the widest swizzle."""

_LEAST_STEPS = 4
"""Of k in a part: the pipeline must fill."""


@dataclass(frozen=True)
class Schedule:
    """`tile` m x n x k by a `cluster` of m x n blocks. `cooperative`: two warp groups share a tile.
    `splits` are parts of k: 1 none, 0 as many as stream-K decides."""

    tile: tuple[int, int, int]
    cluster: tuple[int, int]
    cooperative: bool
    splits: int = 1


def schedule(p: Product, sms: int) -> Schedule:
    """The schedule of a product on a GPU of `sms` multiprocessors."""
    if _tiles(p, 128, 256) >= 2 * sms:
        return Schedule((128, 256, _K), (2, 1), True)
    tiles, steps = _tiles(p, 128, 128), -(-p.k // _K)
    if 2 * tiles > sms:
        return Schedule((128, 128, _K), (1, 1), False)
    parts = min(sms // tiles, steps // _LEAST_STEPS)
    if parts < 2:  # k is short: smaller tiles occupy more
        return Schedule((64, 64, _K), (1, 1), False)
    return Schedule((128, 128, _K), (1, 1), True, parts if parts >= 4 else 0)


def _tiles(p: Product, m: int, n: int) -> int:
    return -(-p.m // m) * -(-p.n // n) * p.batch
