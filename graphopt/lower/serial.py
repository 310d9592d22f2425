"""What ops whose steps depend on each other, or whose addresses are data, share: elements of a row,
cells in registers, places that are data."""

from __future__ import annotations

from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Expr,
    Scope,
    Store,
    binary,
    cast,
    index_const,
    select,
)
from graphopt.lower.region import Region
from graphopt.lower.rows import ACCUMULATE
from graphopt.ops.base import Attrs


def at(index: dict[int, Expr], axis: int, i: Expr) -> tuple[Expr, ...]:
    """The index of element i of a row."""
    return tuple({**index, axis: i}[a] for a in range(len(index) + 1))


def cell(name: str, dtype: DType) -> Buffer:
    """A scalar in a register."""
    return Buffer.dense(name, dtype, (), Scope.REGISTER)


def wrapped(i: Expr, extent: int) -> Expr:
    """A position that counts from the end where it is negative."""
    i = cast(i, INDEX)
    return select(binary("<", i, index_const(0)), binary("+", i, index_const(extent)), i)


def inside(i: Expr, extent: int) -> Expr:
    """Whether a position lies in an axis: elements outside are dropped, never written."""
    return binary("and", binary(">=", i, index_const(0)), binary("<", i, index_const(extent)))


def scattered(region: Region, index: tuple[Expr, ...], value: Expr, attrs: Attrs) -> Store:
    """A scatter's store."""
    store = region.store(0, index, value)
    assert isinstance(store, Store)
    if attrs.accumulate:  # type: ignore[attr-defined]
        reduce = ACCUMULATE[attrs.combine]  # type: ignore[attr-defined]
        store = Store(store.buffer, store.index, store.value, reduce)
    return store
