"""Records to code: a planned graph lowered with the schedules that won."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph
from graphopt.program import Program
from graphopt.target import Backend, Measured, Target
from graphopt.tune.database import Database, Record
from graphopt.tune.decide import NONE, Decisions
from graphopt.tune.openings import KERNEL
from graphopt.tune.place import Place, place_of
from graphopt.tune.space import Point, Schedules
from graphopt.tune.standings import Standings


@dataclass(frozen=True)
class Applied:
    """The records in use, by region digest. `stale` regions have records too, but of kernels that
    this graphopt does not make: they got the default. So did those of `kept`, whose default met
    others and was the best. `decisions` say who computes what."""

    database: Path
    place: Place
    records: dict[str, Record]
    stale: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    decisions: Decisions = NONE

    @property
    def measured(self) -> Measured:
        """What measurements chose."""
        open, whole = self.decisions.open, self.decisions.whole
        return Measured(self.kept | self.records.keys(), len(open), len(whole))

    @property
    def all_stale(self) -> frozenset[str]:
        return self.stale | self.decisions.stale

    @property
    def schedules(self) -> Schedules:
        return {region: Point.parse(r.point) for region, r in self.records.items()}

    def without(self, regions: Iterable[str]) -> Applied:
        """The same, some regions found to be stale."""
        stale = frozenset(regions)
        records = {r: record for r, record in self.records.items() if r not in stale}
        return replace(self, records=records, stale=self.stale | stale)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: which kernels are tuned, and by what."""
        kernels = {
            r.kernel: {
                "region": r.region, "point": r.point, "record": r.id, "date": r.date,
                "computes": r.computes,
            }
            for r in self.records.values()
        }  # fmt: skip
        libraries = {
            r.kernel: {
                "region": region, "library": who, "record": r.id, "date": r.date,
                "computes": r.computes,
            }
            for region, who in self.decisions.by.items()
            if who != KERNEL and (r := self.decisions.records[region])
        }  # fmt: skip
        return {
            "place": str(self.place), "kernels": kernels, "libraries": libraries,
            "stale": len(self.all_stale), "defaults": len(self.kept),
        }  # fmt: skip


def lower_tuned(
    graph: Graph,
    backend: Backend,
    target: Target,
    database: Path,
    cc: str | None = None,
    decisions: Decisions | None = None,
) -> tuple[Program, Applied]:
    """A graph planned by `decisions`, with the schedules that records of this machine say are best.

    A record counts if lowering makes the kernel that was measured. Raises: GraphoptError when the
    file is missing or damaged.
    """
    decisions = decisions or NONE
    applied, defaults = _winners(graph, backend, target, database, cc)
    records = {r: record for r, record in applied.records.items() if r not in decisions.kept}
    applied = replace(applied, records={**records, **decisions.schedules}, decisions=decisions)
    defaults.update((region, r.kernel) for region, r in decisions.kept.items())
    program = backend.lower(graph, target, applied.schedules)
    made = {call.region: call.kernel for call in program.calls}
    other = [region for region, r in applied.records.items() if made[region] != r.kernel]
    if other:
        applied = applied.without(other)
        program = backend.lower(graph, target, applied.schedules)
    kept = (region for region, kernel in defaults.items() if made.get(region) == kernel)
    return program, replace(applied, kept=frozenset(kept))


def _winners(
    graph: Graph, backend: Backend, target: Target, path: Path, cc: str | None
) -> tuple[Applied, dict[str, str]]:
    """Each region's winner, where its point is one of the space that the region has today; and the
    default's kernel as it was measured, where it won."""
    nodes = {region_digest(n): n for n in graph.nodes if n.body is not None}
    place = place_of(backend, target, cc)
    own: dict[str, list[Record]] = {}
    with Database(path, create=False) as database:
        for record in database.records(place.key):
            own.setdefault(record.region, []).append(record)
    standings = {r: Standings(records) for r, records in own.items() if r in nodes}
    winners = {r: s.winner() for r, s in standings.items()}
    records = {r: record for r, record in winners.items() if record is not None}
    outside = [
        r for r, record in records.items()
        if Point.parse(record.point) not in backend.space(nodes[r], target)
    ]  # fmt: skip
    kept = ((r, s.kept) for r, s in standings.items() if winners[r] is None)
    defaults = {r: record.kernel for r, record in kept if record is not None}
    return Applied(path, place, records).without(outside), defaults
