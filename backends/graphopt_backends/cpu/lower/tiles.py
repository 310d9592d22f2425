"""The register tile of a contraction: candidates, and the cost model that picks the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd, inf, prod
from typing import Any

from graphopt.target import Target
from graphopt.tune.space import Point

Shape = tuple[tuple[int, ...], int, int]
"""Extents of the loops over output positions, outermost first; N; K."""

_SMALL_TAPS = 9
_MOST_TAPS = 49
"""Of a window that is unrolled: more are code that does not fit."""
_TURN = 0.75
"""Cycles of a step of k whatever its tile. Without it a tile of 8 accumulators looks as good as one
of 12; measured it is 4 to 7 percent slower."""
_PAGE = 4096
"""Rows this many bytes apart, or a multiple, share the same set of the level 1 cache."""
_MISS = 0.4
"""Cycles that a row costs a step of k when its set holds more rows than it has ways."""
_FROM_LEVEL_2, _FROM_LEVEL_3 = 1.15, 1.7
"""Cycles that a vector of weights takes that every tile of positions finds there, and not in the
level 1 cache. Zen 3 is measured (bench/NOTES.md): 28 and 19 bytes a cycle."""
LONG = 32
"""Steps of k from which on it is not unrolled, since each is written out for all of the tile, but
stepped and prefetched."""
ACROSS = 5.0
"""Cycles of adding up the lanes of a vector and storing the sum."""
FEWEST_LANES = 4
"""Of such a vector: with fewer, a sum takes as long to cross the lanes as it has saved."""
_NEARLY = 1.03
"""Of an estimate: what is no worse than that may be better."""
_EVEN = (3, 2, 4, 1)
"""Vectors of a panel that are good for a block of many rows, the best first: within 1 percent on
Zen 4; on Zen 5 4 are 8 percent slower than 2 (16 rows of depth 256, bench/NOTES.md)."""
_WAITS = 0.15
"""Of what weights take from another cache than the first, that multiply-adds do not hide on such a
core: panels of 3 vectors are 3 to 6 percent faster than of 4 there, by fewer bytes for each
multiply-add (bench/NOTES.md)."""
_EVENLY = 1.04
"""Likewise, where panels that stream are then all of one width: a narrower one left over waits."""
MOST_VECTORS = 6
"""Of a tile."""
TOGETHER = (1, 2, 4)
"""Panels that may pass over transformed rows as one."""
_NUMBERS = (
    "rows",
    "vectors",
    "outer_rows",
    "k_step",
    "prefetch",
    "spread",
    "together",
    "k_block",
    "row_block",
    "rows_ahead",
)
_FLAGS = ("panel_outer", "unroll_k", "packs")


@dataclass(frozen=True)
class Panel:
    """`count` neighbouring panels of `width` columns from column `start`, computed with vectors of
    `lanes`. A ragged N ends in narrower panels, so that no column is computed twice."""

    start: int
    width: int
    count: int
    lanes: int


@dataclass(frozen=True)
class Tile:
    """One point of the schedule space: `rows` output positions of the innermost position loop
    (times `outer_rows` of the next) by `vectors` vectors of channels are accumulated in registers.

    `panel_outer`: the loop over weight panels is outermost, so that a panel stays in cache while
    all positions pass; else positions are outermost and stay while all panels pass. `unroll_k`
    unrolls the reduction, so that overlapping windows of a row share their loads; `k_step` steps of
    its innermost loop are one iteration. `prefetch` is how many steps ahead of their use packed
    weights are asked for, 0 for not at all; `spread`: into which level of cache what the next
    product reads is asked for, all along the tiles of one, 0 for not at all. `together`: panels,
    all of one width, that pass over transformed rows as one. `k_block`: iterations of the outermost
    loop of the reduction that are summed at a time, for all positions, 0 for all. `row_block`: rows
    that all panels pass before the next ones, 0 for all. `rows_ahead`: into which level of cache
    the rows of the next positions are asked for while all panels pass these, 0 for not at all.
    `packs`: panels of a computed right factor are packed before positions pass by them.
    """

    rows: int
    vectors: int
    lanes: int
    outer_rows: int = 1
    panel_outer: bool = True
    unroll_k: bool = False
    k_step: int = 1
    prefetch: int = 0
    spread: int = 0
    together: int = 1
    k_block: int = 0
    row_block: int = 0
    rows_ahead: int = 0
    packs: bool = False

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes

    def whole_panels(self, channels: int) -> int:
        """Panels of the full width."""
        return channels // self.width

    def at(self, point: Point) -> Tile:
        """The tile of a point of its space: what the point does not choose stays."""
        changes: dict[str, Any] = {n: point.number(n) for n in _NUMBERS if n in point}
        changes.update({n: bool(point.number(n)) for n in _FLAGS if n in point})
        return replace(self, **changes)


def panels_of(channels: int, tile: Tile, lanes: int) -> list[Panel]:
    """Panels that cover N: full ones, one narrower of whole vectors, then one of a short vector."""
    out: list[Panel] = []
    start, width = 0, tile.vectors * lanes
    while start < channels:
        left = channels - start
        if left >= width:
            out.append(Panel(start, width, left // width, lanes))
        elif left >= lanes:
            out.append(Panel(start, left // lanes * lanes, 1, lanes))
        else:
            out.append(Panel(start, left, 1, left))
        start += out[-1].width * out[-1].count
    return out


def most_rows(vectors: int, target: Target) -> int:
    """Rows of a tile that fit the vector registers beside the weights' and a broadcast."""
    spare = 1 if target.vector_registers >= 32 else 2
    return (target.vector_registers - spare - vectors) // vectors


def candidates(shape: Shape, target: Target) -> Iterator[Tile]:
    """All register tiles that fit the target's vector registers."""
    m, n, _ = shape
    inner = m[-1] if m else 1
    outer = m[-2] if len(m) > 1 else 1
    most_vectors = max(1, min(MOST_VECTORS, -(-n // target.lanes_f32)))
    for vectors in range(1, most_vectors + 1):
        limit = most_rows(vectors, target)
        for rows in range(1, min(limit, inner) + 1):
            yield Tile(rows, vectors, target.lanes_f32)
            # Two rows of a short image share the weights' loads.
            if rows == inner and outer >= 2 and 2 * rows <= limit:
                yield Tile(rows, vectors, target.lanes_f32, outer_rows=2)


def choose_tile(
    shape: Shape, target: Target, row_bytes: int = 0, most_vectors: int = MOST_VECTORS, *,
    once: bool = False, streams: bool = False,
) -> Tile:  # fmt: skip
    """The tile of least estimated cycles; among near ties the widest panel of fewest rows.
    `row_bytes` lie between neighbouring rows of the left factor, which is passed by `once`, all
    panels for each of its tiles, or panel by panel. `streams`: panels come from far, one after the
    other, if all are of one width."""
    fitting = (t for t in candidates(shape, target) if t.vectors <= most_vectors)
    costs = {t: cycles(shape, t, target, row_bytes, once=once) for t in fitting}
    floor = min(costs.values())
    m, n, _ = shape
    even = {t: cost for t, cost in costs.items() if not n % t.width}
    if streams and min(even.values(), default=inf) <= _EVENLY * floor:
        costs, floor = even, min(even.values())
    near = [t for t, cost in costs.items() if cost <= floor * 1.02]
    chosen = max(near, key=lambda t: (t.vectors <= 4, t.vectors, -abs(t.rows - 6)))
    few_panels = chosen.whole_panels(n) < 2
    outer = m[0] if m else 1
    panel_outer = not once and not (few_panels and outer > 1)
    return Tile(chosen.rows, chosen.vectors, chosen.lanes, chosen.outer_rows, panel_outer)


def choose_even_tile(shape: Shape, target: Target) -> Tile:
    """A tile whose panels threads can share: of one width, an even number of them if that can be;
    else the usual one. Wide panels of few rows ask least of what is beyond the level 1 cache."""

    def cost(vectors: int) -> float:
        rows = most_rows(vectors, target)
        return step_cycles(rows, vectors) / (rows * vectors)

    least = min(map(cost, _EVEN))
    good = [v for v in _EVEN if cost(v) <= _NEARLY * least]
    counts = {v: divmod(shape[1], v * target.lanes_f32) for v in good}
    whole = [v for v in good if counts[v][0] and not counts[v][1]]
    best = next((v for v in whole if counts[v][0] % 2 == 0), next(iter(whole), None))
    if best is None:
        return choose_tile(shape, target, most_vectors=good[0])
    return Tile(min(most_rows(best, target), *shape[0][-1:]), best, target.lanes_f32)


def cycles(
    shape: Shape, tile: Tile, target: Target, row_bytes: int = 0, *, once: bool = False
) -> float:
    """Estimated cycles per step of k for the whole output: the larger of multiply-adds (two vector
    units), loads (two ports: weights, broadcasts), weights that come from another cache than the
    first, and the latency of one accumulator chain (4), and the step itself, and the rows that push
    each other out of the level 1 cache."""
    m, n, k = shape
    inner = m[-1] if m else 1
    outer = m[-2] if len(m) > 1 else 1
    rest = prod(m[:-2]) if len(m) > 2 else 1
    total, missed = 0.0, _MISS * rows_missed(tile.rows * tile.outer_rows, row_bytes, target)
    waits = _WAITS if target.is_slow_afar else 0.0
    for panel in panels_of(n, tile, target.lanes_f32):
        vectors = max(1, panel.width // panel.lanes)
        weight = _weight_cycles(4 * k * (n if once else panel.width), tile, shape, target)
        per_outer = sum(
            count * (step_cycles(rows * tile.outer_rows, vectors, weight, waits) + missed)
            for rows, count in _split(inner, tile.rows)
        )
        full, left = divmod(outer, tile.outer_rows)
        split = _split(inner, tile.rows) if left else []
        tail = sum(c * step_cycles(r * left, vectors, weight, waits) for r, c in split)
        total += panel.count * (full * per_outer + tail)
    return total * rest


def narrow_cycles(shape: Shape, lanes: int, rows: int, target: Target) -> float:
    """Estimated cycles of sums along the reduction, `rows` positions by all channels at a time."""
    m, n, k = shape
    per_tile = k / lanes * step_cycles(rows, n) + ACROSS * rows * n
    return prod(m) / rows * per_tile


def _weight_cycles(again: int, tile: Tile, shape: Shape, target: Target) -> float:
    """Cycles per vector of weights of which every tile of positions reads so many bytes `again`,
    beside its rows: none where they stay in the level 1 cache, or where all positions are one
    tile's and nothing is read twice."""
    m, _, k = shape
    rows = tile.rows * tile.outer_rows
    if prod(m) <= rows or again + 4 * k * rows <= target.l1_bytes:
        return 0.0
    return _FROM_LEVEL_2 if again <= target.l2_bytes else _FROM_LEVEL_3


def rows_missed(rows: int, row_bytes: int, target: Target) -> int:
    """How many of a tile's rows are not found in the level 1 cache where they were a step before:
    all, if a set has to hold more of them than it can beside the weights."""
    if not row_bytes:
        return 0
    sets = _PAGE // gcd(row_bytes, _PAGE)
    ways = target.l1_bytes // _PAGE - 1
    return rows if -(-rows // sets) > ways else 0


def _split(extent: int, rows: int) -> list[tuple[int, int]]:
    full, left = divmod(extent, rows)
    return [(r, c) for r, c in ((rows, full), (left, 1 if left else 0)) if c]


def step_cycles(rows: int, vectors: int, weight: float = 0.0, waits: float = 0.0) -> float:
    """Of a core with two units: a step of k of a register tile."""
    busy = max(rows * vectors / 2, (rows + vectors) / 2, weight * vectors, 4.0)
    return busy + waits * weight * vectors + _TURN


def even_split(extent: int, rows: int) -> list[tuple[int, int]]:
    """(rows, count): tiles as even as can be, so that no block is nearly empty."""
    tiles = -(-extent // rows)
    low, more = divmod(extent, tiles)
    return [(r, c) for r, c in ((low + 1, more), (low, tiles - more)) if c]


def choose_window_tile(
    shape: Shape, target: Target, left_bytes: int = 0, *, filters: bool = True
) -> Tile:
    """The tile of a window that slides over every channel by itself (depthwise, pooling): a few
    rows by a few columns of one vector of channels, so that neighbouring windows share loads.

    Small windows take a small tile. Where input and output stream past the level 2 cache, all
    channels of a pixel are used while it is near. Else, if a vector is a whole cache line, it pays
    to keep a panel's filters in registers beside the tile, and to pass by the image again for the
    next. Large windows without `filters`, which have no other loads to share, take two columns by
    two vectors: more of a pool's image does not stay in registers. Measured in bench/NOTES.md.
    `left_bytes`: of the image; 0 if it is as large as the result.
    """
    m, channels, taps = shape
    outer, inner = (1, 1, *m)[-2:]
    small = taps <= _SMALL_TAPS
    if not small and not filters:
        vectors = 2 if channels >= 2 * target.lanes_f32 else 1
        unroll = taps <= _MOST_TAPS
        return Tile(min(2, inner), vectors, target.lanes_f32, panel_outer=False, unroll_k=unroll)
    written = 4 * prod(m) * channels
    streams = (left_bytes or written) + written > target.l2_bytes
    stay = target.vector_bytes >= 64 and target.vector_registers >= taps + 12
    budget = target.vector_registers - 4
    if small and (streams or stay):
        outer_rows, most = min(outer, 4), 2
    else:
        outer_rows = min(outer, 4 if small and budget >= 24 else 2)
        most = min(7, budget // outer_rows)
    rows = min(range(1, min(most, inner) + 1), key=lambda r: (-(-inner // r) * (r + 1), -r))
    panel_outer = small and stay and not streams
    return Tile(rows, 1, target.lanes_f32, outer_rows, panel_outer, unroll_k=taps <= _MOST_TAPS)
