"""Grids: which block and which thread does what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.kernel.ir import (
    Expr,
    For,
    If,
    Let,
    LoopKind,
    Stmt,
    binary,
    block,
    index_const,
    index_var,
)
from graphopt.lower.region import Region

THREAD = "t"


@dataclass(frozen=True)
class Part:
    """Something that `blocks` blocks do: `body(b)` is what block b does, thread loops included."""

    blocks: int
    body: Callable[[Expr], Stmt]


def grid(region: Region, parts: Sequence[Part]) -> Stmt:
    """One grid in which the parts stand side by side."""
    total = sum(p.blocks for p in parts)
    b = region.loop("b", total)
    if len(parts) == 1:
        return For("b", total, parts[0].body(b), LoopKind.BLOCK)
    out: list[Stmt] = []
    start = 0
    for n, part in enumerate(parts):
        end = start + part.blocks
        own = region.loop(f"b{n}", part.blocks)
        body = part.body(own)
        if part.blocks > 1:
            body = block(Let(f"b{n}", binary("-", b, index_const(start))), body)
        out.append(If(_between(b, start, end, total), body))
        start = end
    return For("b", total, block(*out), LoopKind.BLOCK)


def _between(b: Expr, start: int, end: int, total: int) -> Expr:
    low = binary(">=", b, index_const(start))
    high = binary("<", b, index_const(end))
    if start == 0:
        return high
    return low if end == total else binary("and", low, high)


def threads(region: Region, count: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """What every thread of a block does."""
    region.access.ranges[THREAD] = count
    return For(THREAD, count, body(index_var(THREAD)), LoopKind.THREAD)


def unrolled(name: str, extent: int, body: Stmt) -> Stmt:
    return For(name, extent, body, LoopKind.UNROLL) if extent > 1 else body


def guarded(condition: Expr | None, body: Stmt) -> Stmt:
    return body if condition is None else If(condition, body)


def both(a: Expr | None, b: Expr | None) -> Expr | None:
    """Where two conditions hold, None for one that always does."""
    if a is None or b is None:
        return a or b
    return binary("and", a, b)


def below(i: Expr, extent: int, most: int) -> Expr | None:
    """`i < extent`, None where i never reaches it, being below `most`."""
    return binary("<", i, index_const(extent)) if most > extent else None


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
