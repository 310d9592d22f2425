"""Which part of a product stays in which cache: what passes by what, and in which blocks.

Where all weights fit the level 2 cache, rows and results that stream pass them once, and the next
rows are asked for meanwhile: 12544 x 48 x 192 0.83 of before, 3136 x 96 x 384 0.90.

Without blocks all of a deep panel passes by for every tile of positions, and the whole left factor
for every panel. Where both do not stay in the level 2 cache, they come from beyond it again and
again; where a block of the panel and the left factor do, only weights come from there, once. So
many rows go by blocks everywhere, and where what is beyond level 2 is slow, blocks of the reduction
pay whatever fits: of 48 rows 1.26 as fast, of 197 1.11. And a reduction of two loops, the taps of a
window and what is inside, reads one stream block by block, which can be asked for ahead.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from graphopt.target import Target
from graphopt_backends.cpu.lower.streaming import asking_ahead
from graphopt_backends.cpu.lower.tiles import LONG, Shape, Tile

_PART = 12
"""A block of a panel is at most such a part of the level 2 cache: 768 of 3072 iterations by 48
columns of 2 MiB, 1.19 as fast as all at once; 512 and 1024 within 2 percent (bench/NOTES.md)."""
_LEFT = 2
"""Rows of a block are such a part of it, if weights then come again seldom enough (`_DEARER`)."""
_DEARER = 3
"""How many times as much a byte of weights costs that comes again as one of rows: 1500 rows, 384 to
1536 channels and back 0.95 in blocks, 197 rows of 768 and 3072 1.02."""
_PASSING = 8
"""A left factor and a result of so many level 2 caches pass better by blocks of rows on any core,
and 24 rows are nearly as good as 384: on a Zen 3, 3136 x 96 x 384 0.98, 1500 x 1536 x 384 0.88,
4096 x 256 x 1024 0.77, 2048 cubed 0.79, 4096 x 768 x 3072 0.60 (bench/NOTES.md)."""
_STREAMS = 0.75
"""Of level 2: a left factor and a result that are more pass through it where that is slow. 1x1, 64
to 256 channels at 56² 1010 to 810 us, 128 to 512 at 28² 730 to 670, 512 to 128 700 to 615."""
_SUMS = 6
"""Sums that wait are at most such a part of it."""
_LINE = 16
"""float32s."""


def passes_once(shape: Shape, left_bytes: int, target: Target, *, packed: bool = True) -> bool:
    """Whether positions are better outermost: a left factor that exceeds the level 2 cache would
    come from beyond it with every panel of weights, and the weights all fit. A result that streams
    is better written a whole line of channels at a time, too; where that is slow, `packed` weights
    that are more have blocks of rows instead."""
    m, n, k = shape
    weight_bytes, passing = 4 * n * k, left_bytes + 4 * n * prod(m)
    if packed and target.is_slow_afar and passing > _STREAMS * target.l2_bytes:
        return 4 * weight_bytes <= target.l2_bytes
    streams = passing if packed and len(m) == 1 else left_bytes
    return streams > target.l2_bytes and 2 * weight_bytes <= target.l2_bytes


def far_bytes(target: Target) -> int:
    """From which size on an input of the epilogue is asked for before the sums: residuals of 1x1
    convolutions, where what is beyond level 2 is slow, 4 percent; elsewhere of 6 level 2 caches 7,
    of 3 2, of 1.5 and less -2."""
    return target.l2_bytes // 8 if target.is_slow_afar else 2 * target.l2_bytes


def with_blocks(tile: Tile, shape: Shape, outer: int, left_bytes: int, target: Target) -> Tile:
    """The tile, by blocks of rows and of the reduction where they pay. `outer`: iterations of the
    outermost of two loops of it, each of which is a block; 0 where there is one loop. `left_bytes`:
    of the left factor."""
    m, n, k = shape
    alone = target.lanes_f32 == 1 or not tile.panel_outer or tile.whole_panels(n) < 2
    if alone or prod(m) <= 2 * tile.rows * tile.outer_rows:
        return tile
    slow, passing = target.is_slow_afar, left_bytes + 4 * n * prod(m)
    many = left_bytes > target.l2_bytes // _LEFT if slow else passing > _PASSING * target.l2_bytes
    if many and not outer and len(m) == 1:
        tile = replace(tile, row_block=_row_block(m[0], k, tile, target))
    panel, sums = 4 * tile.width * k, 4 * tile.width * (tile.row_block or prod(m))
    if sums > target.l2_bytes // _SUMS:
        return tile
    if outer:
        streams = k // outer > LONG and 4 * n * k > target.l2_bytes
        return asking_ahead(replace(tile, k_block=1), 2, target) if streams else tile
    blocks = -(-panel * _PART // target.l2_bytes)
    if blocks < 2 or not (slow or _stays(panel, blocks, left_bytes, target)):
        return tile
    block = -(-k // blocks // _LINE) * _LINE
    return asking_ahead(replace(tile, k_block=block), 2, target)


def _row_block(rows: int, depth: int, tile: Tile, target: Target) -> int:
    """Rows of a block, all alike but for the last; 0 for one block. All weights come again for each
    block; without blocks all rows would for each panel."""
    near, fewest = target.l2_bytes // _LEFT // (4 * depth), _DEARER * tile.width
    blocks = -(-rows // near) if near >= fewest else rows // fewest
    return -(-rows // blocks // tile.rows) * tile.rows if blocks > 1 else 0


def _stays(panel: int, blocks: int, left_bytes: int, target: Target) -> bool:
    """Whether it takes blocks for a left factor to stay in the level 2 cache beside two panels."""
    return left_bytes + 2 * panel // blocks <= target.l2_bytes < left_bytes + 2 * panel
