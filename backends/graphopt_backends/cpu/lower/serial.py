"""What nests of dependent steps share: loops over rows, and their elements."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.kernel.ir import Buffer, Expr, For, Scope, Stmt
from graphopt.lower.loops import in_parallel
from graphopt.lower.region import Region


def rows(region: Region, value: Value, axis: int) -> tuple[dict[int, Expr], Callable[[Stmt], Stmt]]:
    """Loops over every axis but one: index per axis, and a function that wraps them around."""
    dims = value.type.dims
    order = [a for a in value.type.order if a != axis]
    index = {a: region.loop(f"i{a}", dims[a]) for a in order}

    def around(body: Stmt) -> Stmt:
        for a in reversed(order):
            if dims[a] > 1:
                body = For(f"i{a}", dims[a], body)
        return in_parallel(body)

    return index, around


def at(index: dict[int, Expr], axis: int, i: Expr) -> tuple[Expr, ...]:
    """The index of element i of a row."""
    return tuple({**index, axis: i}[a] for a in range(len(index) + 1))


def cell(name: str, dtype: DType) -> Buffer:
    """A scalar in a register."""
    return Buffer.dense(name, dtype, (), Scope.REGISTER)
