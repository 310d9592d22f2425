"""Selection and its order: the largest or smallest first, nan being the largest of all, and equal
elements by their positions."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Expr,
    For,
    If,
    Stmt,
    Store,
    binary,
    block,
    const,
    index_const,
    load,
    select,
)
from graphopt.lower.region import Region
from graphopt.lower.serial import cell

Index = Callable[[Expr], tuple[Expr, ...]]
"""Of an element of a row."""


def beats(a: Expr, b: Expr, largest: bool) -> Expr:
    """Whether a stands before b wherever they come from."""
    first, second = (a, b) if largest else (b, a)
    more = binary(">", first, second)
    if not a.dtype.is_float:
        return more
    nan = binary("and", binary("!=", first, first), binary("==", second, second))
    return binary("or", more, nan)


def ties(a: Expr, b: Expr) -> Expr:
    """Whether only their positions tell which stands first."""
    same = binary("==", a, b)
    if not a.dtype.is_float:
        return same
    return binary("or", same, binary("and", binary("!=", a, a), binary("!=", b, b)))


def over_earlier(
    each: Expr, own: Expr, earlier: Expr, largest: bool, loop: Callable[[Expr], Stmt]
) -> Stmt:
    """`loop(before)` over elements of which `each` stands before `own` or not, and at an `earlier`
    position or not. Whether `own` is nan is asked once: that halves what a step compares."""
    tie = binary("and", binary("==", each, own), earlier)
    if largest:  # so that nan is more
        numbers = loop(select(binary("<=", each, own), tie, const(True, DType.BOOL)))
    else:
        numbers = loop(binary("or", binary("<", each, own), tie))
    if not own.dtype.is_float:
        return numbers
    if largest:
        before = binary("and", binary("!=", each, each), earlier)
    else:
        before = binary("or", binary("==", each, each), earlier)
    return If(binary("==", own, own), numbers, loop(before))


def picked(
    region: Region, root: Node, index: tuple[Expr, ...], value: Expr, place: Expr
) -> list[Stmt]:
    """Stores of a selection's value and its position, whichever the region has."""
    return [
        region.store(which, index, value if result is root.results[0] else place)
        for which, result in enumerate(region.body.outputs)
    ]


def selected(region: Region, root: Node, index: Index) -> Stmt:
    """A row's first k: one after the other, the best element that comes after the last pick."""
    (x,), attrs = root.operands, root.attrs
    k, largest = attrs.k, attrs.largest  # type: ignore[attr-defined]
    extent = x.type.dims[attrs.axis]  # type: ignore[attr-defined]
    p, i = region.loop("p", k), region.loop("k", extent)
    last, best = cell("last", x.type.dtype), cell("best", x.type.dtype)
    last_at, best_at = cell("last_at", INDEX), cell("best_at", INDEX)
    element = region.access.at(x, index(i))
    later = binary("and", ties(element, load(last)), binary(">", i, load(last_at)))
    left = binary("or", beats(load(last), element, largest), later)
    left = binary("or", binary("==", p, index_const(0)), left)
    none = binary("<", load(best_at), index_const(0))
    better = binary("or", none, beats(element, load(best), largest))
    take = block(Store(best, (), element), Store(best_at, (), i))
    pick = block(
        Store(best_at, (), index_const(-1)),
        For("k", extent, If(binary("and", left, better), take)),
        *picked(region, root, index(p), load(best), load(best_at)),
        Store(last, (), load(best)),
        Store(last_at, (), load(best_at)),
    )
    zero = const(0.0 if x.type.dtype.is_float else 0, x.type.dtype)
    start = block(Store(last, (), zero), Store(best, (), zero), Store(last_at, (), index_const(-1)))
    cells = (Alloc(b) for b in (last, best, last_at, best_at))
    return block(*cells, start, For("p", k, pick))
