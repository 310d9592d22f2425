"""Records to decisions: who computes the regions of which a pass leaves that open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Node
from graphopt.ops import FusedAttrs
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline
from graphopt.target import Backend, Target
from graphopt.tune.database import Database, Record
from graphopt.tune.openings import KERNEL, computed_by, is_open
from graphopt.tune.place import place_of
from graphopt.tune.space import Point
from graphopt.tune.standings import Standings


@dataclass(frozen=True)
class Decisions:
    """What records say of `open` regions, by the digest that each has where it is left open.

    `records` are those that decided; `whole` are the regions of which all that could compute them
    were tried. `stale` regions have records of kernels or calls that this graphopt does not make.
    Where the generated kernel won, `schedules` has its record as one of the region that nothing is
    open of, and `kept` the default's where that won: by that region's digest, too."""

    open: frozenset[str] = frozenset()
    records: Mapping[str, Record] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()
    schedules: Mapping[str, Record] = field(default_factory=dict)
    kept: Mapping[str, Record] = field(default_factory=dict)

    @property
    def by(self) -> dict[str, str]:
        """Who computes what, for `Pipeline.settled`."""
        return {region: computed_by(Point.parse(r.point)) for region, r in self.records.items()}


NONE = Decisions()


def settle(
    pipeline: Pipeline,
    graph: Graph,
    backend: Backend,
    target: Target,
    database: Path,
    cc: str | None = None,
) -> tuple[Pipeline, Decisions]:
    """Passes that decide as the records of this machine say, and what those say.

    Raises: GraphoptError when the file is missing or damaged.
    """
    left_open = pipeline.left_open()
    if left_open == pipeline:
        return pipeline, NONE
    planned = left_open.run(graph, PassContext(target=target))
    decisions = decide(planned, backend, target, database, cc)
    return pipeline.settled(decisions.by), decisions


def decide(
    graph: Graph, backend: Backend, target: Target, database: Path, cc: str | None = None
) -> Decisions:
    """Of a planned graph that was left open, by the records of this machine.

    Raises: GraphoptError when the file is missing or damaged.
    """
    nodes = {region_digest(n): n for n in graph.nodes if is_open(n)}
    place = place_of(backend, target, cc)
    with Database(database, create=False) as records:
        found = {r: Standings(records.records(place.key, r)) for r in nodes}
    best = {r: s.winner() or s.kept for r, s in found.items()}
    measured = {r: record for r, record in best.items() if record is not None}
    valid = {r: d for r, d in measured.items() if _is_made(d, nodes[r], graph, backend, target)}
    kernels = dict(
        _as_closed(record, nodes[region], backend, target)
        for region, record in valid.items()
        if computed_by(Point.parse(record.point)) == KERNEL
    )
    won = {r.id for s in found.values() if (r := s.winner())}
    return Decisions(
        frozenset(nodes),
        valid,
        frozenset(r for r in valid if _all_tried(found[r], nodes[r])),
        frozenset(measured) - frozenset(valid),
        {region: r for region, r in kernels.items() if r.id in won},
        {region: r for region, r in kernels.items() if r.id not in won},
    )


def _all_tried(standings: Standings, node: Node) -> bool:
    """Whether everyone who could compute a region has a record, be it of a failure."""
    assert isinstance(node.attrs, FusedAttrs)
    tried = {computed_by(Point.parse(point)) for point in standings.records}
    return tried >= set(node.attrs.offers)


def _as_closed(record: Record, node: Node, backend: Backend, target: Target) -> tuple[str, Record]:
    """A kernel's record as one of the region of which nothing is open, and the digest of that."""
    assert isinstance(node.attrs, FusedAttrs)
    types = [r.type for r in node.results]
    attrs = replace(node.attrs, offers=())
    closed = Node(node.op, node.operands, attrs, types, loc=node.loc, body=node.body)
    point = Point.parse(record.point).only(backend.space(closed, target).names)
    region = region_digest(closed)
    return region, replace(record, region=region, point=str(point))


def _is_made(record: Record, node: Node, graph: Graph, backend: Backend, target: Target) -> bool:
    """Whether what was measured is what would be made."""
    point = Point.parse(record.point)
    if point not in backend.space(node, target):
        return False
    made = backend.candidate(node, graph, target, point, lambda kernel: kernel)
    return made.kernel == record.kernel
