"""Partial results of an online softmax: brought to the largest maximum, and added up in order.

What has seen some of the keys holds the largest of their scores, the sum of exp(score - largest),
and for every column of V the sum weighted by it. One that has seen none, or masked ones alone,
holds -inf, 0 and 0, and adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    For,
    Let,
    LoopKind,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    call,
    const,
    index_var,
    load,
    select,
)
from graphopt.lower.attention import MASKED

Place = tuple[Expr, ...]


@dataclass(frozen=True)
class Sums:
    """A query's sums over the keys that were seen, and the columns of V alike."""

    peak: Expr
    total: Expr
    value: Expr

    @property
    def mean(self) -> Expr:
        """The weighted mean of V; 0 where all keys are masked."""
        zero, one = (const(x, self.total.dtype) for x in (0.0, 1.0))
        none = binary("==", self.total, zero)
        return binary("*", self.value, select(none, zero, binary("/", one, self.total)))


@dataclass(frozen=True)
class Partials:
    """Memory for many of them: peaks and sums [*shape], values [*shape, columns]."""

    peaks: Buffer
    sums: Buffer
    values: Buffer

    @staticmethod
    def of(names: Sequence[str], dtype: DType, shape: Sequence[int], columns: int,
           scope: Scope) -> Partials:  # fmt: skip
        shapes = (shape, shape, (*shape, columns))
        made = (Buffer.dense(n, dtype, s, scope) for n, s in zip(names, shapes, strict=True))
        return Partials(*made)

    @property
    def allocs(self) -> tuple[Stmt, ...]:
        return Alloc(self.peaks), Alloc(self.sums), Alloc(self.values)

    def added(
        self, count: int, at: Callable[[Expr], Place], column: Expr, use: Callable[[Sums], Stmt]
    ) -> Stmt:
        """What a thread does with the sum, in its column, of the `count` that lie `at` places."""
        dtype, g = self.peaks.dtype, index_var("g")
        low, zero = const(MASKED, dtype), const(0.0, dtype)
        top, total, whole = (
            Buffer.dense(n, dtype, (), Scope.REGISTER) for n in ("top", "total", "whole")
        )
        weight, shift = Var(dtype, 1, "weight"), Var(dtype, 1, "shift")
        peak, own = load(self.peaks, *at(g)), load(self.values, *at(g), column)
        return block(
            *map(Alloc, (top, total, whole)),
            Store(top, (), low),
            For("g", count, Store(top, (), peak, "max"), LoopKind.UNROLL),
            Let("shift", select(binary("==", load(top), low), zero, load(top))),
            Store(total, (), zero),
            Store(whole, (), zero),
            For("g", count, block(
                Let("weight", call("exp", binary("-", peak, shift))),
                Store(total, (), binary("*", load(self.sums, *at(g)), weight), "+"),
                Store(whole, (), binary("*", own, weight), "+"),
            )),
            use(Sums(load(top), load(total), load(whole))),
        )  # fmt: skip
