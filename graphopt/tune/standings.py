"""How a region's points compare, from its records in the order they were made."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from graphopt.tune.database import Outcome, Record

_SURE = 0.99
"""Of the default's time: closer to it than that, the default stays."""
_UNCONFIRMED = 0.95
"""The same for a point that only trials of few runs speak for: the best of many such trials looks
better than it is."""


def ratio(times: Sequence[int], rival_times: Sequence[int]) -> float:
    """Median over rounds of one kernel's time over its rival's in the same round: what slows both
    down for a moment cancels."""
    return statistics.median(a / b for a, b in zip(times, rival_times, strict=True))


class Standings:
    """Costs of points relative to the default, 1.0.

    A trial says how a point compares with the incumbent of its time, whose own cost is known: costs
    are products along that chain. A final comparison, with the default itself, replaces them. A
    record without rival is the default's first: what came before belongs to another code generator.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.baseline: Record | None = None
        self.costs: dict[str, float] = {}
        self.records: dict[str, Record] = {}
        self.confirmed: set[str] = set()
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in the next record of the region."""
        if not record.rival:
            self.baseline, self.costs, self.records, self.confirmed = record, {}, {}, set()
        self.records[record.point] = record
        if record.outcome is not Outcome.OK:
            self.costs.pop(record.point, None)
            return
        if record.rival:
            relative = ratio(record.times_ns, record.rival_times_ns)
            self.costs[record.point] = relative * self.costs.get(record.rival, 1.0)
        else:
            self.costs[record.point] = 1.0
        if record.final or not record.rival:
            self.confirmed.add(record.point)

    @property
    def best(self) -> str:
        """The point of least cost."""
        return min(self.costs, key=lambda p: self.costs[p])

    def unconfirmed(self) -> str | None:
        """The best point, unless it has met the default in a final comparison."""
        return None if not self.costs or self.best in self.confirmed else self.best

    @property
    def kept(self) -> Record | None:
        """The default's record, where another point has been timed beside it."""
        first = self.baseline
        beside = first is not None and first.point in self.costs and len(self.costs) > 1
        return first if beside else None

    def winner(self) -> Record | None:
        """The record of the point to use in place of the default; None to stay with it."""
        finals = [p for p in self.confirmed if p in self.costs and self.records[p].rival]
        pool, bound = (finals, _SURE) if finals else (list(self.costs), _UNCONFIRMED)
        best = min(pool, key=lambda p: self.costs[p], default=None)
        return self.records[best] if best is not None and self.costs[best] < bound else None
