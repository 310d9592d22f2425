"""Blocks of a reduction: how many of its iterations are summed at a time for all positions.

Without blocks all of a deep panel passes by for every tile of positions, and the whole left factor
for every panel. Where both do not stay in the level 2 cache, they come from beyond it again and
again; where a block of the panel and the left factor do, only weights come from there, once.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from graphopt.target import Target
from graphopt_backends.cpu.lower.tiles import Shape, Tile

_PART = 12
"""A block of a panel is at most such a part of the level 2 cache: 768 of 3072 iterations by 48
columns of 2 MiB, 1.19 as fast as all at once; 512 and 1024 within 2 percent (bench/NOTES.md)."""
_SUMS = 8
"""Sums that wait are at most such a part of it."""
_LINE = 16
"""float32s."""


def with_blocks(tile: Tile, shape: Shape, outer: int, left_bytes: int, target: Target) -> Tile:
    """The tile, by blocks of the reduction where they pay. `outer`: iterations of the outermost of
    several loops of it, which blocks are made of; 0 where there is one loop. `left_bytes`: of the
    left factor."""
    m, n, k = shape
    width = tile.vectors * tile.lanes
    panel, sums = 4 * width * k, 4 * width * prod(m)
    alone = target.lanes_f32 == 1 or not tile.panel_outer or tile.whole_panels(n) < 2
    once = prod(m) <= 2 * tile.rows * tile.outer_rows
    if alone or once or sums > target.l2_bytes // _SUMS:
        return tile
    if left_bytes + 2 * panel <= target.l2_bytes:
        return tile
    blocks = -(-panel * _PART // target.l2_bytes)
    if left_bytes + 2 * panel // blocks > target.l2_bytes:
        return tile
    size = 1 if outer else -(-k // blocks // _LINE) * _LINE
    if size >= (outer or k):
        return tile
    return replace(tile, k_block=size, spread=2, prefetch=0)
