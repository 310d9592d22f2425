"""The schedules: which primitives, in which order, with which parameters. Reads as a story."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.errors import IRError
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import For, Kernel
from graphopt.kernel.visit import walk
from graphopt_backends.cpu.lower.tiles import Tile

_SHARES = 24
"""Iterations for threads to share: enough that a last one alone costs a few percent."""

Steps = list[tuple[str, Kernel]]


def contraction_steps(
    naive: Kernel, tile: Tile, weights: str | None = None, rows: str | None = None,
    far: int | None = None,
) -> Steps:  # fmt: skip
    """From one multiply-add per iteration to a register tile of vectors, shared by threads.
    `weights` is the buffer of the packed ones, `rows` that of rows which are one stream, if there
    are any; what an epilogue reads of inputs larger than `far` bytes is asked for before the
    sums."""
    steps = register_tile_steps(naive, tile, weights, rows)
    k = steps[-1][1]
    if far is not None:
        k = s.prefetch_epilogue(k, "acc", beyond=far)
        steps.append(("ask for what the epilogue reads", k))
    k = s.simplify(s.parallelize(k, at_least=_SHARES, where_proven=True))
    return [*steps, ("parallelize", k)]


def register_tile_steps(
    naive: Kernel, tile: Tile, weights: str | None = None, rows: str | None = None
) -> Steps:
    """The same for one thread."""
    steps: Steps = [("naive", naive)]

    def step(name: str, kernel: Kernel) -> None:
        steps.append((name, kernel))

    k = naive
    if tile.row_block:
        k = s.split(k, "m", tile.row_block, names=("rb", "m"))
        step("panels pass by a block of rows while it is near", k)
    names = _loops(k)
    if not tile.panel_outer:
        k = _jammed(k, (n for n in names if n.startswith("m")))
        step("panels of several widths pass by a position while it is near", k)
    tiled = ["mi", "jr", "jl"]
    if tile.outer_rows > 1 and "m0" in names:
        outer = _next_outer(names)
        k = s.split(k, outer, tile.outer_rows, names=("mt", "mh"))
        tiled.insert(0, "mh")
    if "m" in names:
        k = s.split(k, "m", tile.rows, names=("mo", "mi"))
    k = s.split(k, "j", tile.lanes, names=("jr", "jl"))
    step("tile", k)
    k = s.reorder(k, _order(tile, names))
    step("reorder", k)
    if tile.panel_outer:
        k = _jammed(k, ("jb",))
        step("rows that are left over pass by the same panel", k)
    if tile.k_block:
        reduction = next(n for n in names if n.startswith("k"))
        k = s.block_reduction(k, "acc", reduction, tile.k_block, within="jb")
        step("sum a block of the reduction at a time", k)
    k = s.expand_accumulator(k, "acc", tuple(t for t in tiled if t in _loops(k)))
    step("accumulate in registers", k)
    k = s.vectorize(k, "jl")
    step("vectorize", k)
    unrolled = ("k", "k0", "k1", "jr", "mi", "mh") if tile.unroll_k else ("jr", "mi", "mh")
    for var in unrolled:
        k = s.unroll(k, var)
    step("unroll", k)
    if weights and (tile.spread or (tile.prefetch and "k" in _loops(k))):
        k = ask_for_weights(k, tile, weights, "kb" if tile.k_block else "jb")
        step("prefetch the next panel" if tile.spread else "prefetch", k)
    if rows and tile.rows_ahead and {"mo", "k"} <= set(_loops(k)):
        k = s.prefetch_next(k, rows, "mo", "k", level=tile.rows_ahead, streams=tile.k_step)
        step("prefetch the next rows", k)
    if tile.k_step > 1 and "k" in _loops(k):
        k = unroll_reduction(k, tile)
        step("unroll the reduction", k)
    return steps


def ask_for_weights(k: Kernel, tile: Tile, weights: str, within: str) -> Kernel:
    """Packed weights are asked for before they are needed: those of the next iteration of `within`,
    or those of some steps on."""
    if tile.spread:
        return s.prefetch_next(k, weights, within, "k", level=tile.spread, streams=tile.k_step)
    return s.prefetch(k, weights, "k", tile.prefetch) if tile.prefetch else k


def unroll_reduction(k: Kernel, tile: Tile) -> Kernel:
    """So many steps of k in one iteration, which may each ask in a stream of its own."""
    if tile.k_step == 1:
        return k
    return s.unroll(s.split(k, "k", tile.k_step, names=("k", "ks")), "ks")


def along_reduction_steps(naive: Kernel, rows: int) -> Steps:
    """From one sum at a time, of vectors `l` of the reduction, to a tile of `rows` positions by all
    channels, shared by threads."""
    steps: Steps = [("naive", naive)]
    k = s.vectorize(naive, "l")
    steps.append(("vectorize", k))
    if "m" in _loops(k):
        k = s.split(k, "m", rows, names=("mo", "mi"))
    tiled = tuple(name for name in ("mi", "jb") if name in _loops(k))
    if tiled:
        k = s.expand_accumulator(k, "part", tiled)
        steps.append(("accumulate in registers", k))
    for var in tiled:
        k = s.unroll(k, var)
    steps.append(("unroll", k))
    k = s.simplify(s.parallelize(k, at_least=_SHARES, where_proven=True))
    return [*steps, ("parallelize", k)]


def _jammed(k: Kernel, names: Iterable[str]) -> Kernel:
    """With those loops jammed; as it is where there is no proof that they may."""
    try:
        for var in names:
            k = s.jam(k, var)
    except IRError:
        pass
    return k


def _loops(k: Kernel) -> tuple[str, ...]:
    """Loop names, outermost first, each once."""
    return tuple(dict.fromkeys(p.var for p in walk(k.body) if isinstance(p, For)))


def _next_outer(names: tuple[str, ...]) -> str:
    """The position loop around `m`."""
    return [n for n in names if n.startswith("m") and n != "m"][-1]


def _order(tile: Tile, names: tuple[str, ...]) -> tuple[str, ...]:
    """Loops that move. Positions that panels share are outermost already, and stay so, but for
    those between the two loops of `outer_rows`."""
    positions = [n for n in names if n.startswith("m") and n != "m"]
    if tile.panel_outer:
        if tile.outer_rows > 1 and positions:
            positions[-1] = "mt"
        return ("jb", *positions, "mo", "mh", "mi", "jr", "jl")
    between = ("mo",) if tile.outer_rows > 1 else ()
    return (*between, "jb", "mh", "mi", "jr", "jl")
