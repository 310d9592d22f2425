"""The schedule spaces of register tiles. Defaults and likely points are the cost model's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cpu.lower.streaming import AHEAD
from graphopt_backends.cpu.lower.tiles import (
    LONG,
    TOGETHER,
    Shape,
    Tile,
    candidates,
    cycles,
    most_rows,
)

_STEPS = (1, 2, 4)
_DISTANCES = (0, 4, 8, 16, AHEAD)
_CACHES = (0, 1, 2)
_BLOCKS = (256, 512, 768, 1024)
_ROWS = (48, 96, 192, 384)
_MOST_TAPS = 49
_LIKELY = 8


def contraction_space(
    shape: Shape, target: Target, default: Tile, *, packed: bool, streamable: bool = False,
    packable: bool = False, rows_stream: bool = False,
) -> Space:  # fmt: skip
    """Tiles of a product. `packed`: its weights are one stream, which can be prefetched;
    `streamable`: so can those of the next panel; `packable`: it has none, and may pack panels;
    `rows_stream`: rows of the left factor are one stream, too."""
    m, n, k = shape
    outer, inner = (1, 1, *m)[-2:]
    long = k > LONG
    choices = {
        **_register_tile(shape, target),
        "outer_rows": range(1, min(outer, 4) + 1),
        "panel_outer": (0, 1) if n > target.lanes_f32 and m else (),
        "unroll_k": () if long else (0, 1),
        "k_step": _STEPS if long else (),
        "prefetch": _DISTANCES if long and packed and target.lanes_f32 > 1 else (),
        "spread": _CACHES if long and streamable and target.lanes_f32 > 1 else (),
        "k_block": _sizes(_BLOCKS, k, default.k_block)
        if streamable and target.lanes_f32 > 1
        else (),
        "packs": (0, 1) if packable else (),
        "rows_ahead": _CACHES if long and rows_stream and target.lanes_f32 > 1 else (),
        "row_block": _sizes(_ROWS, prod(m), default.row_block) if packed and len(m) == 1 else (),
    }

    def several(tile: Tile) -> bool:
        return tile.panel_outer and tile.whole_panels(n) >= 2

    def fits(tile: Tile) -> bool:
        whole = tile.outer_rows == 1 or tile.rows == inner
        if (tile.k_block or tile.row_block) and not several(tile):
            return False
        if tile.spread and (tile.prefetch or not several(tile)):
            return False
        if tile.rows_ahead and tile.panel_outer:
            return False
        return whole and tile.rows * tile.outer_rows <= most_rows(tile.vectors, target)

    return tile_space(default, choices, fits, _ranked(shape, target))


def _sizes(usual: Sequence[int], extent: int, default: int) -> Sequence[int]:
    """Of a block of `extent` iterations: those that make several, the default, and 0 for all."""
    return sorted({0, default, *(size for size in usual if size < extent)})


def window_space(shape: Shape, target: Target, default: Tile) -> Space:
    """Tiles of a window that slides over every channel by itself."""
    m, n, taps = shape
    outer, inner = (1, 1, *m)[-2:]
    choices = {
        "rows": range(1, min(inner, 14) + 1),
        "vectors": range(1, min(4, -(-n // target.lanes_f32)) + 1),
        "outer_rows": range(1, min(outer, 7) + 1),
        "panel_outer": (0, 1) if n > target.lanes_f32 and m else (),
        "unroll_k": (0, 1) if 1 < taps <= _MOST_TAPS else (),
    }
    budget = target.vector_registers - 4
    return tile_space(default, choices, lambda t: t.rows * t.outer_rows * t.vectors <= budget)


def register_space(shape: Shape, target: Target, default: Tile, *, packed: bool = False) -> Space:
    """Rows and vectors; where there are packed weights, the distance of prefetches and how many
    panels pass over the rows together."""
    distances = _DISTANCES if packed and shape[2] > 1 and target.lanes_f32 > 1 else ()

    def fits(tile: Tile) -> bool:
        columns = tile.vectors * tile.together * target.lanes_f32
        if (tile.together > 1 and shape[1] % columns) or (tile.spread and tile.prefetch):
            return False
        return tile.rows <= most_rows(tile.vectors, target)

    choices = {
        **_register_tile(shape, target),
        "k_step": _STEPS if distances else (),
        "prefetch": distances,
        "spread": _CACHES if distances else (),
        "together": TOGETHER if packed else (),
    }
    return tile_space(default, choices, fits, _ranked(shape, target))


def tile_space(
    default: Tile,
    choices: Mapping[str, Sequence[int]],
    fits: Callable[[Tile], bool],
    likely: Iterable[Tile] = (),
) -> Space:
    """A space over fields of a tile; those with a single choice are left out."""
    several = {name: tuple(c) for name, c in choices.items() if len(c) > 1}
    own = _point(default, several)
    near = dict.fromkeys(_point(_shaped(default, t), several) for t in likely)
    near.pop(own, None)
    return Space(
        tuple(Parameter(n, c, own[n]) for n, c in several.items()),
        lambda point: fits(default.at(point)),
        tuple(p for p in near if fits(default.at(p)))[:_LIKELY],
    )


def _register_tile(shape: Shape, target: Target) -> dict[str, Sequence[int]]:
    m, n, _ = shape
    return {
        "rows": range(1, min((1, *m)[-1], most_rows(1, target)) + 1),
        "vectors": range(1, min(6, -(-n // target.lanes_f32)) + 1),
    }


def _ranked(shape: Shape, target: Target) -> list[Tile]:
    """All tiles, the ones of fewest estimated cycles first."""
    return sorted(candidates(shape, target), key=lambda t: cycles(shape, t, target))


def _shaped(default: Tile, tile: Tile) -> Tile:
    """The default in the shape of another tile."""
    return replace(default, rows=tile.rows, vectors=tile.vectors, outer_rows=tile.outer_rows)


def _point(tile: Tile, names: Iterable[str]) -> Point:
    return Point({name: int(getattr(tile, name)) for name in names})
