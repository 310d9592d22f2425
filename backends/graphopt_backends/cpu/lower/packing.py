"""Right factors that are computed, in panels as the inner loop of a product reads them.

Constants are packed when a model is compiled (`contraction.pack_panels`). What is computed is
packed while it runs, into scratch of a thread: where it is read often, and a vector of it would be
a gather or its rows push each other out of the level 1 cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    Buffer,
    Expr,
    Load,
    Stmt,
    Store,
    binary,
    block,
    broadcast,
    contiguous,
    index_const,
    loops,
)
from graphopt.kernel.visit import walk
from graphopt.lower.region import Region
from graphopt_backends.cpu.lower.tiles import Panel, rows_missed
from graphopt_backends.cpu.lower.turning import turned_by_tiles

_OFTEN = 8
"""Tiles of rows that read a panel whose rows lie side by side: 1024 cubed 0.5 of before, 16 pairs
of 512 0.4, on a Zen 3 by AVX2."""
_AGAIN = 2
"""Tiles that would compute what a panel is made of once more."""


def pays(region: Region, right: Expr, steps: str, depth: int, tiles: float) -> bool:
    """Whether a computed right factor is better packed for so many tiles of rows. `right` is its
    element in column `j`, step `steps` of a reduction of `depth`. One whose vectors would be
    gathered is turned on the way, whoever reads it: 1024 cubed 0.1 of before."""
    reads = [e for e in walk(right) if isinstance(e, Load)]
    if not reads:
        return False
    at = linear(reads[0].index[-1], region.access.ranges)
    if at.coefficient("j") != 1:
        return True
    if not isinstance(right, Load):
        return tiles >= _AGAIN
    apart = abs(at.coefficient(steps)) * right.dtype.size_bytes
    return tiles >= _OFTEN and rows_missed(depth, apart, region.target) > 0


def pack(
    region: Region,
    packed: Buffer,
    panels: Sequence[Panel],
    rows: int,
    element: Callable[[Expr, Expr], Expr],
) -> Stmt:
    """packed[panel][row][column] = element(column, row), turned where rows of elements lie side by
    side. `rows`: of a panel, one for each step of the reduction."""
    nests: list[Stmt] = []
    simplify = region.access.simplify
    for p in panels:
        vectors = p.width // p.lanes
        row, pb = region.loop("d", rows), region.loop("pb", p.count)
        j = binary("*", region.loop("v", vectors), index_const(p.lanes))
        j = contiguous(j, p.lanes)
        at = simplify(packed_at(p, pb, row, j, rows))
        value = element(simplify(column(p, pb, j)), row)
        store = Store(packed, (at,), broadcast(value, p.lanes))
        around, vector = [("pb", p.count), ("d", rows)], ("v", vectors)
        nests += turned_by_tiles(store, around, vector, region.access.ranges, region.target) or [
            loops([loop for loop in (*around, vector) if loop[1] > 1], store)
        ]
    return block(*nests)


def packed_at(p: Panel, jb: Expr, row: Expr, j: Expr, rows: int) -> Expr:
    """Where the column `j` of a panel is kept."""
    at = binary("+", binary("*", jb, index_const(rows)), row)
    at = binary("+", binary("*", at, index_const(p.width)), j)
    return binary("+", at, index_const(p.start * rows))


def column(p: Panel, jb: Expr, j: Expr) -> Expr:
    """The column that is `j` of a panel."""
    return binary("+", binary("+", binary("*", jb, index_const(p.width)), j), index_const(p.start))
