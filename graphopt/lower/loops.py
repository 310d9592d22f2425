"""Loop structure shared by the lowerings: which axes fuse, how a range splits into vectors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from graphopt.kernel.ir import Binary, For, Load, LoopKind, Stmt, Store
from graphopt.kernel.visit import walk

Axis = TypeVar("Axis", bound=Hashable)
Groups = tuple[tuple[int, ...], ...]
"""Axes fused into one loop each, outermost loop first."""


def fuse_axes(
    axes: Sequence[Axis], build: Callable[[tuple[tuple[Axis, ...], ...]], Stmt]
) -> tuple[tuple[Axis, ...], ...]:
    """Fuse neighbouring axes, inner pairs first, while every access that `build` makes of them
    stays free of divisions, i.e. where they lie adjacent in every buffer."""
    groups: tuple[tuple[Axis, ...], ...] = tuple((a,) for a in axes)
    for i in range(len(groups) - 2, -1, -1):
        fused = (*groups[:i], groups[i] + groups[i + 1], *groups[i + 2 :])
        if _is_affine(build(fused)):
            groups = fused
    return groups


def _is_affine(stmt: Stmt) -> bool:
    return not any(
        isinstance(e, Binary) and e.op in ("//", "%")
        for part in walk(stmt)
        if isinstance(part, (Load, Store))
        for i in part.index
        for e in walk(i)
    )


def chunks(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """(start, lanes, count): vectors of `lanes`, then a shorter one, that cover `extent`."""
    count, left = divmod(extent, lanes)
    parts = (0, lanes, count), (count * lanes, left, 1)
    return [(start, width, n) for start, width, n in parts if width * n]


def halves(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """The same by vectors of `lanes`, then of its halves: every one fills a register."""
    out, start = [], 0
    while start < extent and lanes >= 1:
        count = (extent - start) // lanes
        if count:
            out.append((start, lanes, count))
            start += count * lanes
        lanes //= 2
    return out


def in_parallel(nest: Stmt) -> Stmt:
    """Let threads share the outermost loop of a nest."""
    if isinstance(nest, For) and nest.extent > 1:
        return For(nest.var, nest.extent, nest.body, LoopKind.PARALLEL)
    return nest
