"""The register tile of a contraction: candidates, and the cost model that picks the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from graphopt.target import Target
from graphopt.tune.space import Point

Shape = tuple[tuple[int, ...], int, int]
"""Extents of the loops over output positions, outermost first; N; K."""

_NUMBERS = ("rows", "vectors", "outer_rows", "k_step", "prefetch")
_FLAGS = ("panel_outer", "unroll_k")


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
    weights are asked for, 0 for not at all.
    """

    rows: int
    vectors: int
    lanes: int
    outer_rows: int = 1
    panel_outer: bool = True
    unroll_k: bool = False
    k_step: int = 1
    prefetch: int = 0

    def at(self, point: Point) -> Tile:
        """The tile of a point of its space: what the point does not choose stays."""
        changes: dict[str, Any] = {n: point.number(n) for n in _NUMBERS if n in point}
        changes.update({n: bool(point.number(n)) for n in _FLAGS if n in point})
        return replace(self, **changes)


def panels_of(channels: int, tile: Tile, lanes: int) -> list[Panel]:
    """Panels that cover N: full ones, one narrower of whole vectors, then single short vectors."""
    out: list[Panel] = []
    start, width = 0, tile.vectors * lanes
    while start < channels:
        left = channels - start
        if left >= width:
            count = left // width
            out.append(Panel(start, width, count, lanes))
        elif left >= lanes:
            width, count = left // lanes * lanes, 1
            out.append(Panel(start, width, 1, lanes))
        else:
            lanes //= 2
            width = lanes
            continue
        start += width * count
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
    most_vectors = max(1, min(6, -(-n // target.lanes_f32)))
    for vectors in range(1, most_vectors + 1):
        limit = most_rows(vectors, target)
        for rows in range(1, min(limit, inner) + 1):
            yield Tile(rows, vectors, target.lanes_f32)
            # Two rows of a short image share the weights' loads.
            if rows == inner and outer >= 2 and 2 * rows <= limit:
                yield Tile(rows, vectors, target.lanes_f32, outer_rows=2)


def choose_tile(shape: Shape, target: Target) -> Tile:
    """The tile of least estimated cycles; among near ties the widest panel of fewest rows."""
    best = min(candidates(shape, target), key=lambda t: round(cycles(shape, t, target), 2))
    floor = cycles(shape, best, target)
    near = [t for t in candidates(shape, target) if cycles(shape, t, target) <= floor * 1.02]
    chosen = max(near, key=lambda t: (t.vectors <= 4, t.vectors, -abs(t.rows - 6)))
    m, n, _ = shape
    few_panels = n // (chosen.vectors * target.lanes_f32) < 2
    outer = m[0] if m else 1
    panel_outer = not (few_panels and outer > 1)
    return Tile(chosen.rows, chosen.vectors, chosen.lanes, chosen.outer_rows, panel_outer)


def cycles(shape: Shape, tile: Tile, target: Target) -> float:
    """Estimated cycles per step of k for the whole output: the larger of multiply-adds (two vector
    units), loads (two ports: weights, broadcasts) and the latency of one accumulator chain (4)."""
    m, n, _ = shape
    inner = m[-1] if m else 1
    outer = m[-2] if len(m) > 1 else 1
    rest = prod(m[:-2]) if len(m) > 2 else 1
    total = 0.0
    for panel in panels_of(n, tile, target.lanes_f32):
        vectors = max(1, panel.width // panel.lanes)
        per_outer = sum(
            count * _step(rows * tile.outer_rows, vectors)
            for rows, count in _split(inner, tile.rows)
        )
        full, left = divmod(outer, tile.outer_rows)
        tail = sum(c * _step(r * left, vectors) for r, c in _split(inner, tile.rows)) if left else 0
        total += panel.count * (full * per_outer + tail)
    return total * rest


def _split(extent: int, rows: int) -> list[tuple[int, int]]:
    full, left = divmod(extent, rows)
    return [(r, c) for r, c in ((rows, full), (left, 1 if left else 0)) if c]


def _step(rows: int, vectors: int) -> float:
    return max(rows * vectors / 2, (rows + vectors) / 2, 4.0)


def even_split(extent: int, rows: int) -> list[tuple[int, int]]:
    """(rows, count): tiles as even as can be, so that no block is nearly empty."""
    tiles = -(-extent // rows)
    low, more = divmod(extent, tiles)
    return [(r, c) for r, c in ((low + 1, more), (low, tiles - more)) if c]


def choose_window_tile(shape: Shape, target: Target) -> Tile:
    """The tile of a window that slides over every channel by itself (depthwise, pooling): a few
    rows by a few columns of one vector of channels, so that neighbouring windows share loads."""
    m, _, taps = shape
    inner = m[-1] if m else 1
    outer = m[-2] if len(m) > 1 else 1
    budget = target.vector_registers - 4
    outer_rows = min(outer, 4 if taps <= 9 and budget >= 24 else 2)
    most = min(inner, 7, budget // outer_rows)
    rows = min(range(1, most + 1), key=lambda r: (-(-inner // r) * (r + 1), -r))
    unroll = taps <= 49
    return Tile(rows, 1, target.lanes_f32, outer_rows, panel_outer=False, unroll_k=unroll)
