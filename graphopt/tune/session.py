"""A model's tuning run: build it, profile it, and search the spaces of the regions that matter."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.config import Config
from graphopt.driver import Compilation, Options, Progress, build, default_kernel_pipeline
from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Node
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline
from graphopt.target import Backend, Target, resolve
from graphopt.tune.attribution import attribute, locs_of
from graphopt.tune.candidate import Candidate
from graphopt.tune.case import Case, capture
from graphopt.tune.database import Database, default_path
from graphopt.tune.explore import Effort, Exploration
from graphopt.tune.measure import Measurer
from graphopt.tune.place import place_of
from graphopt.tune.search import Search
from graphopt.tune.shares import allot
from graphopt.tune.space import Point, Space
from graphopt.tune.standings import Standings

if TYPE_CHECKING:
    from graphopt.kernel.ir import Kernel

_PROFILES = 15


@dataclass(frozen=True)
class Region:
    """What is tuned as one: `calls` of one computation, `time_us` all of them in one run of the
    model, `share` of its time. `computes` is the first call in the model's words."""

    digest: str
    node: Node
    space: Space
    computes: str
    calls: int
    time_us: float
    share: float


@dataclass(frozen=True)
class Tuned:
    """What came of a region. Times are of one call; `cost` is best over default. `outcomes` counts
    trials by what became of them."""

    region: str
    computes: str
    calls: int
    share: float
    points: int
    trials: int
    outcomes: Mapping[str, int]
    default: str
    best: str
    default_us: float
    best_us: float
    cost: float


@dataclass(frozen=True)
class Tuning:
    """A finished run. `model_us` is the untuned model's time, kernel by kernel added up; `untried`
    the share of it that nothing was measured of. Records are in `database`."""

    database: Path
    target: str
    model_us: float
    regions: tuple[Tuned, ...]

    @property
    def untried(self) -> float:
        return 1.0 - sum(r.share for r in self.regions)

    @property
    def gain(self) -> float:
        """How many times faster the model would be, by its regions' times."""
        return 1.0 / (1.0 - sum(r.share * (1.0 - r.cost) for r in self.regions))


def tune(
    source: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    target: str = "cpu",
    trials: int = 200,
    database: str | Path | None = None,
    options: Options | None = None,
    seed: int = 0,
    effort: Effort | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search the schedules of a model's kernels on this machine; `compile(tuned=...)` uses what was
    found.

    source: what `compile` takes. trials: how many kernels are measured in all, those of earlier
    runs on the same file included; they are shared out by time. database: the file of records,
    by default one in the cache folder. Raises: GraphoptError.
    """
    backend, row = resolve(target)
    backend.check_runs_here(row)
    Search(Space())  # a missing package is told at once, not after minutes
    progress = progress or (lambda text: None)
    options = replace(options or Options(), tuned=None)  # what is to be beaten is the default
    path = default_path() if database is None else Path(database)
    with Database(path) as records:
        run = _Run(backend, row, options, records, seed, effort or Effort(), progress)
        made = build(source, example_inputs, target=target, options=options, progress=progress)
        planned = run.left_open(made)
        regions, model_us = run.regions(made, planned)
        tuned = run.search(made, planned, regions, trials)
    return Tuning(path, f"{row.backend}:{row.name}", model_us, tuple(tuned))


@dataclass
class _Run:
    backend: Backend
    target: Target
    options: Options
    records: Database
    seed: int
    effort: Effort
    progress: Progress
    passes: Callable[[Kernel], Kernel] = field(init=False)

    def __post_init__(self) -> None:
        from graphopt.kernel.passbase import KernelContext

        pipeline = default_kernel_pipeline(self.options)
        self.passes = lambda kernel: pipeline.run(kernel, KernelContext(target=self.target))

    # What to tune ------------------------------------------------------------------------------

    def left_open(self, made: Compilation) -> Graph:
        """The planned graph in which passes have left to us what they decide by tables."""
        pipeline = Pipeline.parse(made.pipeline)
        left_open = pipeline.left_open()
        if left_open == pipeline:
            return made.planned
        self.progress("passes")
        return left_open.run(made.source, PassContext(target=self.target))

    def regions(self, made: Compilation, planned: Graph) -> tuple[list[Region], float]:
        """Regions with something to choose, the longest first; and the model's time in us."""
        self.progress("profile")
        times = _profile(made)
        spent = attribute(made.program.calls, times, planned)
        alike: dict[str, list[Node]] = {}
        for node in planned.nodes:
            if node.body is not None:
                alike.setdefault(region_digest(node), []).append(node)
        out = []
        for digest, nodes in alike.items():
            space = self.backend.space(nodes[0], self.target)
            if len(space) > 1:
                time_us = sum(spent[n] for n in nodes)
                out.append(
                    Region(
                        digest, nodes[0], space, _computes(nodes[0]), len(nodes), time_us,
                        time_us / sum(times),
                    )
                )  # fmt: skip
        return sorted(out, key=lambda r: -r.share), sum(times)

    # The search --------------------------------------------------------------------------------

    def search(
        self, made: Compilation, planned: Graph, regions: Sequence[Region], trials: int
    ) -> list[Tuned]:
        quota = allot(trials, [r.share for r in regions], [len(r.space) for r in regions])
        chosen = [(r, n) for r, n in zip(regions, quota, strict=True) if n]
        self.progress("reference")
        cases = _cases(made, planned, [r.node for r, _ in chosen])
        place = place_of(self.backend, self.target, self.options.cc)
        self.records.add_place(place.key, str(place))
        out: list[Tuned] = []
        with Measurer(self.target, cc=self.options.cc) as judge:
            for number, (region, count) in enumerate(chosen):
                judge.open(cases.pop(region.node))
                label = f"tune {number + 1}/{len(chosen)} {region.computes}"
                exploration = Exploration(
                    region.space, self._lowering(region, planned), judge, self.records,
                    region.digest, place.key, region.computes, self.seed,
                    Config.from_environment().jobs, self.effort,
                    partial(self._told, label, count),
                )  # fmt: skip
                out.append(_tuned(region, exploration.run(count)))
        return out

    def _lowering(self, region: Region, planned: Graph) -> Callable[[Point], Candidate]:
        def lower(point: Point) -> Candidate:
            return self.backend.candidate(region.node, planned, self.target, point, self.passes)

        return lower

    def _told(self, label: str, trials: int, standings: Standings) -> None:
        best = min(standings.costs.values(), default=1.0)
        done = min(len(standings.records), trials)
        self.progress(f"{label}: {done}/{trials}, {1 / best:.2f}x")


def _profile(made: Compilation) -> list[float]:
    """Microseconds of each kernel call of the artifact."""
    from graphopt.artifact.golden import sample_inputs
    from graphopt.artifact.loader import load
    from graphopt.artifact.timing import time_calls
    from graphopt.tune.worker import undisturbed

    assert made.artifact is not None
    with load(made.artifact) as model, undisturbed(max(os.sched_getaffinity(0))):
        inputs = sample_inputs(made.artifact, model.manifest)
        return [ns / 1e3 for ns in time_calls(model, inputs, _PROFILES)]


def _cases(made: Compilation, planned: Graph, nodes: Sequence[Node]) -> dict[Node, Case]:
    from graphopt.artifact.format import read_manifest
    from graphopt.artifact.golden import sample_inputs

    assert made.artifact is not None
    inputs = sample_inputs(made.artifact, read_manifest(made.artifact))
    weights = sum(w.size_bytes for w in made.program.weights)
    return capture(planned, inputs, nodes, weights + made.program.arena_bytes)


def _computes(node: Node) -> str:
    names = (x.module or x.source for x in locs_of(node))
    return ", ".join(dict.fromkeys(names)) or node.op.name


def _tuned(region: Region, standings: Standings) -> Tuned:
    """A region whose default is no good keeps it: its outcome tells."""
    winner, default = standings.winner(), str(region.space.default)
    default_us, cost = region.time_us / region.calls, 1.0
    if winner is not None:
        default_us = statistics.median(winner.rival_times_ns) / 1e3
        cost = standings.costs[winner.point]
    elif default in standings.costs:
        default_us = statistics.median(standings.records[default].times_ns) / 1e3
    outcomes = Counter(r.outcome.value for r in standings.records.values())
    best = winner.point if winner else default
    return Tuned(
        region.digest, region.computes, region.calls, region.share, len(region.space),
        len(standings.records), dict(outcomes), default, best, default_us, default_us * cost, cost,
    )  # fmt: skip
