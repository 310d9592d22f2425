"""How CUTLASS cuts a product or a convolution into tiles: a table from its extents and a target's
multiprocessors, of which nothing has been measured, and what else a tuner may try.

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

_SHAPES = (
    (256, 128, 2, True), (128, 256, 2, True), (128, 128, 2, True), (128, 128, 2, False),
    (128, 128, 1, False), (64, 128, 1, False), (64, 64, 1, False),
)  # fmt: skip
"""Rows and columns of a tile, blocks along the rows that share what they load, whether two warp
groups share a tile."""

_SPLITS = (2, 4, 8)


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

    def __str__(self) -> str:
        """`128x128x64_2x1_cooperative`, as one word."""
        parts = ["x".join(map(str, self.tile)), "x".join(map(str, self.cluster))]
        parts += ["cooperative"] if self.cooperative else []
        parts += [] if self.splits == 1 else [f"split{self.splits}" if self.splits else "streamk"]
        return "_".join([*parts, *(["turned"] if self.turned else [])])


def schedules(of: Product | Convolution, sms: int) -> tuple[Schedule, ...]:
    """What a tuner may try instead of the table's choice: each is compiled by itself, for a minute.
    No tile has twice the rows or columns that there are."""
    if isinstance(of, Convolution):
        return _other_convolutions(of, sms)
    usual = schedule(of, sms)
    return tuple(s for s in (_few if usual.turned else _many)(of, sms) if s != usual)


def named(of: Product | Convolution, sms: int, name: str) -> Schedule | None:
    """The schedule that `schedules` calls so; the table's for ""."""
    if name:
        return next((s for s in schedules(of, sms) if str(s) == name), None)
    return convolution_schedule(of, sms) if isinstance(of, Convolution) else schedule(of, sms)


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


def _many(p: Product, sms: int) -> list[Schedule]:
    found = [
        Schedule((m, n, _K), (cluster, 1), cooperative)
        for m, n, cluster, cooperative in _SHAPES
        if (p.m > m // 2 or m == 64) and (p.n > n // 2 or n == 64)
    ]
    parts = _parts(p.k, sms, _tiles(p, 128, 128))
    return [*found, *(Schedule((128, 128, _K), (1, 1), True, n) for n in parts)]


def _few(p: Product, sms: int) -> list[Schedule]:
    width = schedule(p, sms).tile[1]
    whole = [Schedule((m, width, _K), (1, 1), False, turned=True) for m in (64, 128)]
    parts = _parts(p.k, sms, -(-p.n // 128) * p.batch)
    return [*whole, *(Schedule((128, width, _K), (1, 1), True, n, True) for n in parts)]


def _parts(k: int, sms: int, tiles: int) -> list[int]:
    """Into how many parts k may be cut, 0 for those of stream-K: where tiles are few."""
    most = -(-k // _K) // _LEAST_STEPS
    if most < 2 or tiles >= 2 * sms:
        return []
    return [0, *(n for n in _SPLITS if n <= most and n * tiles <= 2 * sms)]


def _other_convolutions(c: Convolution, sms: int) -> tuple[Schedule, ...]:
    usual = convolution_schedule(c, sms)
    wide = [n for n in (64, 128) if n == 64 or c.geometry.o > 64]
    tiles = [(m, n, usual.tile[2]) for m in (64, 128) for n in wide]
    return tuple(s for t in tiles if (s := Schedule(t, (1, 1), False)) != usual)


def _tiles(p: Product, m: int, n: int) -> int:
    return -(-p.m // m) * -(-p.n // n) * p.batch
