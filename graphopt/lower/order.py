"""The order of a selection: the largest or smallest first, nan being the largest of all, and equal
elements by their positions."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir.types import DType
from graphopt.kernel.ir import Expr, If, Stmt, binary, const, select


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
