"""Copies that turn: what lies side by side in memory is written apart, and the other way round.

A gather reads every element by itself. Square tiles of whole vectors are read along what lies side
by side, turned in registers, and written along what is to lie side by side:

  r0 = in[0, 0..4]   a = zip_low(r0, r2) ..    out[0, 0..4] = zip_low(a, c)
  r1 = in[1, 0..4]   b = zip_high(r0, r2) ..   out[1, 0..4] = zip_high(a, c)
  ...

Source: log2(n) perfect shuffles of n vectors of n lanes transpose them [Stone, Parallel processing
with the perfect shuffle, 1971]. As many of n longer vectors let their lanes take turns, which turns
a tile of few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.ir.types import DType
from graphopt.kernel.affine import Ranges, linear
from graphopt.kernel.intrinsics import ZIPS
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    Let,
    Load,
    Ramp,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    broadcast,
    contiguous,
    index_const,
    index_var,
    loops,
)
from graphopt.kernel.visit import ExprMap, map_exprs, substitute, walk
from graphopt.target import Target
from graphopt_backends.cpu.lower.tiles import rows_missed

_FEWEST_LANES = 4
"""Of a tile; smaller ones shuffle more than they save."""

_FEW = 8
"""Rows of a tile that are interleaved: k of them take k shuffles for each factor of k."""

_TILES = 8
"""Along what is read side by side, one after the other: a stream for each row of a tile."""

Loop = tuple[str, int]


def turned_by_tiles(
    store: Stmt, outer: Sequence[Loop], inner: Loop, ranges: Ranges, target: Target
) -> list[Stmt]:
    """The loops `outer` and `inner` around a store of a vector that gathers one, by tiles that one
    of `outer` and the lanes span; nothing for a store that reads otherwise, or had better gather.
    """
    gather = _gathered(store)
    if gather is None:
        return []
    at, lanes = gather.index[0], gather.lanes
    assert isinstance(at, Ramp)
    reads = linear(at.base, ranges)
    across = next((v for v, n in outer if n >= lanes and reads.coefficient(v) == 1), None)
    if across is None or _had_better_gather(store, gather, across, ranges, target):
        return []
    extent = dict(outer)[across]
    others = [loop for loop in outer if loop[0] != across]
    tiles, left = divmod(extent, lanes)
    together = max(n for n in range(1, _TILES + 1) if tiles % n == 0)
    tile = binary("+", binary("*", index_var("to"), index_const(together)), index_var("ti"))
    first = binary("*", tile, index_const(lanes))
    around = [*others, ("to", tiles // together), inner, ("ti", together)]
    out = [_nest(around, _tile(store, gather, across, first))]
    if left:
        rest = binary("+", index_var(across), index_const(tiles * lanes))
        out.append(_nest([*others, (across, left), inner], substitute(store, {across: rest})))
    return out


def by_tile(
    compute: Callable[[Expr], Expr], write: Callable[[Expr, Expr], Stmt], dtype: DType, lanes: int
) -> Stmt:
    """A square tile whose rows are computed one after the other, turned, and written by columns.

    `compute(row)` is a row, a vector; `write(column, value)` stores a column.
    """
    tile = Buffer.dense("tile", dtype, (lanes * lanes,), Scope.SCRATCH)
    row, column = index_var("row"), index_var("column")
    place = contiguous(binary("*", row, index_const(lanes)), lanes)
    filled = Store(tile, (place,), broadcast(compute(row), lanes))
    gather = Load(dtype, lanes, tile, (Ramp(INDEX, lanes, column, lanes),))
    turned = _tile(write(column, gather), gather, "column", index_const(0))
    return block(Alloc(tile), For("row", lanes, filled), turned)


def interleaves(rows: int) -> bool:
    """Whether so many vectors can be shuffled such that their lanes take turns."""
    return 1 < rows <= _FEW and _factors(rows) is not None


def interleaved(rows: Sequence[Expr], write: Callable[[int, Expr], Stmt]) -> Stmt:
    """Vectors whose lanes take turns. `write(part, value)` stores a part of what comes out, as long
    as one of them."""
    lets, parts = _interleaved(rows)
    return block(*lets, *(write(part, value) for part, value in enumerate(parts)))


def _interleaved(rows: Sequence[Expr]) -> tuple[list[Stmt], list[Expr]]:
    """The statements that shuffle some vectors, and the parts of what comes out."""
    lets: list[Stmt] = []

    def keep(value: Expr) -> Expr:
        name = f"t{len(lets)}"
        lets.append(Let(name, value))
        return Var(value.dtype, value.lanes, name)

    factors = _factors(len(rows))
    assert factors is not None
    kept = [keep(row) for row in rows]
    for factor in factors:
        apart = len(kept) // factor
        turns = [tuple(kept[i::apart]) for i in range(apart)]
        kept = [
            keep(Call(taken[0].dtype, taken[0].lanes, name, taken))
            for taken in turns
            for name in ZIPS[factor]
        ]
    return lets, kept


def _factors(rows: int) -> list[int] | None:
    """Of how many vectors the lanes take turns at each step, where there are such steps."""
    out: list[int] = []
    for factor in ZIPS:
        while rows % factor == 0:
            out.append(factor)
            rows //= factor
    return out if rows == 1 else None


def _had_better_gather(
    store: Stmt, gather: Load, across: str, ranges: Ranges, target: Target
) -> bool:
    """Whether the lines that a tile writes push each other out of the level 1 cache, and those
    that two vectors gather do not: [9216, 64] takes 124 us by gathers and 162 by tiles. The other
    way round 951 and 144, and where neither does 2.6 and 1.9 (bench/NOTES.md)."""
    assert isinstance(store, Store)
    at, to = gather.index[0], store.index[-1]
    assert isinstance(at, Ramp)
    assert isinstance(to, Ramp)
    size = gather.dtype.size_bytes
    apart = size * linear(to.base, ranges).coefficient(across)
    written = rows_missed(gather.lanes, apart, target)
    return written > 0 and not rows_missed(2 * gather.lanes, size * at.stride, target)


def _nest(around: Sequence[Loop], body: Stmt) -> Stmt:
    return loops([(name, n) for name, n in around if n > 1], _without(around, body))


def _without(around: Sequence[Loop], body: Stmt) -> Stmt:
    """A body whose loops of one iteration are left out."""
    return substitute(body, {name: index_const(0) for name, n in around if n == 1})


def _gathered(store: Stmt) -> Load | None:
    """The only vector that a store of one gathers from elements that lie apart, evenly."""
    if not isinstance(store, Store) or not isinstance(store.index[-1], Ramp):
        return None
    reads = {
        e
        for e in walk(store.value)
        if isinstance(e, Load) and any(isinstance(i, Ramp) and i.stride != 1 for i in e.index)
    }
    if len(reads) != 1:
        return None
    (gather,) = reads
    lanes = gather.lanes
    square = lanes >= _FEWEST_LANES and lanes & (lanes - 1) == 0
    fits = square and len(gather.index) == 1 and gather.dtype is not DType.BOOL
    return gather if fits else None


def _tile(store: Stmt, gather: Load, across: str, first: Expr) -> Stmt:
    """As many stores as there are lanes, of a tile that begins at `first` of the loop `across`."""
    at, lanes = gather.index[0], gather.lanes
    assert isinstance(at, Ramp)
    start = ExprMap(lambda e: first if isinstance(e, Var) and e.name == across else e)(at.base)
    rows: list[Expr] = []
    for lane in range(lanes):
        base = binary("+", start, index_const(lane * at.stride))
        near = Ramp(INDEX, lanes, base, 1)
        rows.append(Load(gather.dtype, lanes, gather.buffer, (near,)))

    def write(lane: int, row: Expr) -> Stmt:
        one = binary("+", first, index_const(lane))
        return substitute(_reading(store, gather, row), {across: one})

    return interleaved(rows, write)


def _reading(store: Stmt, gather: Load, row: Expr) -> Stmt:
    """A store of what has been turned already."""
    return map_exprs(store, ExprMap(lambda e: row if e == gather else e))
