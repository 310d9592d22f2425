"""Loops over the rows of ops whose steps depend on each other."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir.graph import Value
from graphopt.kernel.ir import Expr, For, Stmt
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
