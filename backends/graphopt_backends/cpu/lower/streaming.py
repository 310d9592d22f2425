"""Tiles of products whose weights, or rows, come from beyond the level 2 cache: how they are asked
for before they are needed."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from graphopt.target import Target
from graphopt_backends.cpu.lower.tiles import (
    LONG,
    MOST_VECTORS,
    Shape,
    Tile,
    choose_tile,
    even_split,
    most_rows,
    step_cycles,
)

AHEAD = 32
"""Steps of k after which weights arrive in time from beyond level 2."""
_STREAMS = 4
"""Streams that what is long on its way is asked for in, one for each step of k of an iteration. The
lines that a core may ask for at once are too few there, but its level 2 cache runs ahead by itself
in every page that it sees asked for: 49 rows 0.85 of the time of one stream, 16 rows 0.81, 128
0.98; of 2 streams 0.88, 0.86, 0.97, of 8 as of 4 (bench/NOTES.md)."""
_LINE_CYCLES = 7.0
"""What a cache line of weights takes from beyond level 2."""
_BUSY = 0.75
"""Of the time that the next product's weights take: products that take less are better off asking
for their own (measured by AVX2: 4 rows of 2 vectors are 0.68 and 8 percent faster so, 5 are 0.82
and 13 percent slower)."""
_HARDLY_BUSY = 0.25
"""The same where weights are long on their way: `_STREAMS` bring them sooner than a product of few
rows can ask for its own, 4 rows 14 percent, 6 18, 8 16. One row gains 6, but the products of an
LSTM's steps, whose weights stay near, lose a half."""
_CLEARLY = 0.9
"""Of an estimate: what is no better than that may be worse."""
_MANY = 20
"""Rows of a product whose next one's weights come slowly enough to be asked into the level 1 cache:
2.5 to 4 percent faster from 49 rows on, but up to 1.6 times slower than into level 2 with 8 or 16,
where so many lines on their way keep the product's own from coming."""
_NOTICED = 16
"""Weights of such a part of level 2 are noticed where that is slow: 1x1, 256 to 1024 channels at
14² 860 to 710 us."""
_MOST_STREAMED = 4
"""Of a tile of few rows whose panels stream, two at a time: by AVX-512 8 rows take 12 percent less
with 4 than with 6."""


def choose_streaming_tile(
    shape: Shape, target: Target, row_bytes: int = 0, *, once: bool = False
) -> Tile:
    """The tile of a direct product whose weights are one stream: where panels come from beyond the
    level 2 cache, one after the other, that of a block of all its rows."""
    m, n, k = shape
    rows, streams = prod(m), k > LONG and 4 * n * k > _stream_bytes(target)
    most = _MOST_STREAMED if streams and rows < _MANY else MOST_VECTORS
    usual = choose_tile(shape, target, row_bytes, most, once=once, streams=streams)
    if not streams or not usual.panel_outer or usual.whole_panels(n) < 2:
        return usual
    if rows >= _MANY:
        return asking_ahead(usual, _level(rows, target), target)
    tile = choose_block_tile(rows, k, usual, n, target)
    return tile if m[-1:] == (rows,) else replace(tile, rows=usual.rows, vectors=usual.vectors)


def choose_block_tile(rows: int, depth: int, usual: Tile, channels: int, target: Target) -> Tile:
    """The tile of products over a block of few rows whose weights come from beyond the level 2
    cache: its first tile waits for them and the others find them near, or all of its tiles are busy
    while the next product's arrive (`spread`). `usual` is the tile of many rows, and stays but for
    prefetches unless another is clearly better."""
    cycles = 0.5 * target.vector_units  # of a core, in those of `step_cycles`, which has two units
    line = cycles * _LINE_CYCLES * target.vector_bytes / 64

    def cost(vectors: int) -> tuple[float, bool]:
        """Cycles per vector of channels and step of k, and whether that is with `spread`."""
        steps = [step_cycles(r, vectors) for r in _tiles(rows, vectors, target)]
        waiting = max(steps[0], line * vectors) + sum(steps[1:])
        busy, arriving = sum(steps), line * vectors
        spread = busy >= (_HARDLY_BUSY if target.is_slow_afar else _BUSY) * arriving
        return (max(busy, arriving) if spread else waiting) / vectors, spread

    widths = range(1, max(1, min(4, -(-channels // target.lanes_f32))) + 1)
    best = min(widths, key=lambda v: (cost(v)[0], -v))
    if cost(best)[0] <= _CLEARLY * cost(usual.vectors)[0]:
        usual = replace(usual, rows=_tiles(rows, best, target)[0], vectors=best)
    # Not only where k is long: the weights of one transformed element follow those of another.
    if depth == 1 or target.lanes_f32 == 1:
        return usual
    if cost(usual.vectors)[1]:
        return asking_ahead(usual, _level(rows, target), target)
    return replace(usual, prefetch=AHEAD)


def asking_ahead(tile: Tile, level: int, target: Target) -> Tile:
    """The tile that asks for the next product's weights into that level of cache."""
    return replace(_in_streams(tile, target), spread=level, prefetch=0)


def rows_asked_ahead(tile: Tile, target: Target) -> Tile:
    """The tile that asks for the next rows while all panels pass these."""
    return replace(_in_streams(tile, target), rows_ahead=2)


def _in_streams(tile: Tile, target: Target) -> Tile:
    return replace(tile, k_step=_STREAMS) if target.is_slow_afar else tile


def _level(rows: int, target: Target) -> int:
    """The level of cache that the next product's weights are asked into. Where they are long on
    their way, level 2 has more room for them: 2 to 5 percent with 32 to 128 rows."""
    return 1 if rows >= _MANY and not target.is_slow_afar else 2


def _stream_bytes(target: Target) -> int:
    """From which size on weights are taken to come from beyond the level 2 cache: other layers'
    were there since. What a fast one costs is hidden all the same."""
    return target.l2_bytes // _NOTICED if target.is_slow_afar else target.l2_bytes


def _tiles(rows: int, vectors: int, target: Target) -> list[int]:
    """Rows of each tile of a block, the larger ones first."""
    split = even_split(rows, most_rows(vectors, target))
    return [r for r, count in split for _ in range(count)]
