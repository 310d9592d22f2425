"""Softmax of attention's scores in scratch, row by row, in place: weights without their factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    Let,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    broadcast,
    call,
    const,
    contiguous,
    index_const,
    load,
    select,
)
from graphopt.lower.attention import MASKED
from graphopt.lower.loops import chunks
from graphopt.lower.region import Region

_CHAINS = 4
"""Of maxima: each waits for the one before, for a comparison and a selection."""


@dataclass(frozen=True)
class Run:
    """`steps` steps along a row from element `start`, each of `ways` vectors of `lanes`."""

    start: int
    lanes: int
    ways: int
    steps: int

    @property
    def width(self) -> int:
        """Elements of a step."""
        return self.lanes * self.ways


def whole_rows(extent: int, lanes: int) -> list[Run]:
    """All of a row."""
    runs = []
    for start, width, count in chunks(extent, lanes):
        steps, left = divmod(count, _CHAINS)
        runs += [Run(start, width, _CHAINS, steps)] if steps else []
        runs += [Run(start + steps * _CHAINS * width, width, left, 1)] if left else []
    return runs


@dataclass(frozen=True)
class RowSoftmax:
    """`within` puts the condition around a step under which its scores, from an element on, were
    computed."""

    region: Region
    scores: Buffer
    runs: Sequence[Run]
    within: Callable[[Run, Expr, Stmt], Stmt]

    def into(self, sums: Buffer) -> Stmt:
        """Rows of exp(x - max), unnormalised; `sums` holds 1 / sum. A row that is masked
        everywhere has maximum -inf; its shift is 0, its sum 0 and its factor 0."""
        rows, dtype = self.scores.shape[0], self.scores.dtype
        i = self.region.loop("i", rows)
        low, zero, one = (const(x, dtype) for x in (MASKED, 0.0, 1.0))
        peak, shift, total = (Var(dtype, 1, name) for name in ("top", "shift", "total"))
        inverse = select(binary("==", total, zero), zero, binary("/", one, total))
        nest = block(
            *self._maximum(i),
            Let("shift", select(binary("==", peak, low), zero, peak)),
            *self._exponentials(i, shift),
            Store(sums, (i,), inverse),
        )
        return For("i", rows, nest) if rows > 1 else nest

    def _maximum(self, i: Expr) -> list[Stmt]:
        """`top`."""
        return self._reduced(
            i, "max", "top", _CHAINS,
            lambda acc, lane, at: Store(acc, (lane,), load(self.scores, *at), reduce="max"),
        )  # fmt: skip

    def _exponentials(self, i: Expr, shift: Expr) -> list[Stmt]:
        """Each score's, in its place, and their `total`."""

        def part(acc: Buffer, lane: Expr, at: tuple[Expr, ...]) -> Stmt:
            shifted = binary("-", load(self.scores, *at), broadcast(shift, acc.numel))
            e = Var(acc.dtype, acc.numel, "e")
            stored = Store(self.scores, at, e), Store(acc, (lane,), e, reduce="+")
            return block(Let("e", call("exp_flushed", shifted)), *stored)

        return self._reduced(i, "+", "total", 1, part)

    def _reduced(
        self,
        i: Expr,
        op: str,
        name: str,
        chains: int,
        part: Callable[[Buffer, Expr, tuple[Expr, ...]], Stmt],
    ) -> list[Stmt]:
        """`part` accumulates a vector of scores, given the accumulator, its lanes, and where; in
        several `chains` where one would wait for itself."""
        accs: dict[tuple[int, int], Buffer] = {}
        sums: list[Stmt] = []
        for run in self.runs:
            lane = contiguous(index_const(0), run.lanes)
            step = binary("*", self.region.loop("x", run.steps), index_const(run.width))
            first = binary("+", step, index_const(run.start))
            parts = []
            for way in range(run.ways):
                key = run.lanes, way % chains
                names = f"{name}{run.lanes}_{way % chains}"
                acc = Buffer.dense(names, self.scores.dtype, (run.lanes,), Scope.REGISTER)
                at = contiguous(binary("+", first, index_const(way * run.lanes)), run.lanes)
                parts.append(part(accs.setdefault(key, acc), lane, (i, at)))
            body = self.within(run, first, block(*parts))
            sums.append(For("x", run.steps, body) if run.steps > 1 else body)
        initial = 0.0 if op == "+" else MASKED
        starts: list[Stmt] = []
        for acc in accs.values():
            value = const(initial, acc.dtype, acc.numel)
            starts += [Alloc(acc), Store(acc, (contiguous(index_const(0), acc.numel),), value)]
        return [*starts, *sums, Let(name, _over_lanes(op, list(accs.values())))]


def _over_lanes(op: str, accs: Sequence[Buffer]) -> Expr:
    """All lanes of all accumulators as one number; those of one width first, vector by vector."""
    widths = dict.fromkeys(acc.numel for acc in accs)
    values = []
    for width in widths:
        alike = (load(acc, contiguous(index_const(0), width)) for acc in accs if acc.numel == width)
        value = reduce(partial(binary, op), alike)
        if width > 1:
            value = Call(value.dtype, 1, "reduce_add" if op == "+" else "reduce_max", (value,))
        values.append(value)
    return reduce(partial(binary, op), values)
