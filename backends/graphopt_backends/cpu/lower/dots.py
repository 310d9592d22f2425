"""Scores of few queries: each a sum along the features, whose vectors keys hold side by side.

Scores as vectors along the keys need K turned, which a few queries do not pay for: of one query
over 1024 keys it takes longer than all else. Here K is read once, as it lies, some keys at a time,
and a sum crosses its lanes at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from graphopt.kernel import schedule as s
from graphopt.kernel.affine import linear
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    Kernel,
    Load,
    Ramp,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    const,
    index_const,
    index_var,
    loops,
)
from graphopt.lower.region import Region
from graphopt_backends.cpu.lower.tiles import ACROSS, FEWEST_LANES

_TURNED = 0.5
"""Cycles of writing an element of K where it is read as a vector along the keys. Measured: 6
queries of 64 and of 128 features are faster by sums (bench/NOTES.md)."""
_SUMS = 8
"""At a time: enough that they do not wait for themselves."""


def are_faster(queries: int, depth: int, lanes: int) -> bool:
    """By count of cycles per key; the products are as many either way."""
    return math.gcd(depth, lanes) >= FEWEST_LANES and queries * ACROSS < depth * _TURNED


def lie_by_rows(region: Region, key: Callable[[Expr, Expr], Expr], keys: int, depth: int) -> bool:
    """Whether keys are in memory, the features of each side by side; what is computed for each
    product had better be computed once."""
    e = key(region.loop("t", keys), region.loop("f", depth))
    if not isinstance(e, Load) or len(e.index) != 1:
        return False
    return linear(e.index[0], region.access.ranges).coefficient("f") == 1


@dataclass(frozen=True)
class Dots:
    """`query` and `key` are what is multiplied at (row, feature) and (key, feature); `stored` keeps
    the sum of (row, key)."""

    region: Region
    query: Callable[[Expr, Expr], Expr]
    key: Callable[[Expr, Expr], Expr]
    stored: Callable[[Expr, Expr, Expr], Stmt]

    def nests(self, rows: int, keys: int, depth: int) -> list[Stmt]:
        together = max(_SUMS // rows, 1)
        count, left = divmod(keys, together)
        out = []
        if count:
            t = binary("*", self.region.loop("tb", count), index_const(together))
            out.append(self._nest(("tb", count), t, together, rows, depth))
        if left:
            out.append(self._nest(None, index_const(keys - left), left, rows, depth))
        return out

    def _nest(
        self, around: tuple[str, int] | None, first: Expr, keys: int, rows: int, depth: int
    ) -> Stmt:
        lanes = math.gcd(depth, self.region.target.lanes_f32)
        mi, ti = self.region.loop("qi", rows), self.region.loop("ti", keys)
        t = binary("+", first, ti)
        f = binary("*", self.region.loop("f", depth // lanes), index_const(lanes))
        f = binary("+", f, self.region.loop("fl", lanes))
        term = binary("*", self.query(mi, f), self.key(t, f))
        part = Buffer.dense("part", term.dtype, (lanes,), Scope.REGISTER)
        every = Ramp(INDEX, lanes, index_const(0), 1)
        total = Call(part.dtype, 1, "reduce_add", (Load(part.dtype, lanes, part, (every,)),))
        body = block(
            Alloc(part),
            Store(part, (every,), const(0, part.dtype, lanes)),
            loops([("f", depth // lanes), ("fl", lanes)],
                  Store(part, (index_var("fl"),), term, reduce="+")),
            self.stored(mi, t, total),
        )  # fmt: skip
        nest = loops([("qi", rows), ("ti", keys)], body)
        return For(*around, nest) if around is not None else nest


def in_registers(k: Kernel) -> Kernel:
    """The sums of a tile of rows and keys in registers."""
    k = s.expand_accumulator(s.vectorize(k, "fl"), "part", ("qi", "ti"))
    return s.unroll(s.unroll(k, "ti"), "qi")
