"""One region: ask for points, measure each beside the incumbent, keep every result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from graphopt.tune.candidate import Candidate
from graphopt.tune.database import Database, Outcome, Record
from graphopt.tune.measure import Duel
from graphopt.tune.messages import Failed
from graphopt.tune.search import Search
from graphopt.tune.space import Point, Space
from graphopt.tune.standings import Standings, ratio


class Judge(Protocol):
    """Builds, checks and times; see `measure.Measurer`."""

    def prebuild(self, candidates: Sequence[Candidate]) -> None: ...
    def prepare(self, candidate: Candidate, rival: Candidate | None = None) -> Failed | None: ...
    def duel(self, candidate: Candidate, rival: Candidate, rounds: int) -> Duel | Failed: ...
    def renew(self) -> None: ...


@dataclass(frozen=True)
class Effort:
    """Rounds of a comparison. A candidate that is slower by more than `hopeless` after `first` gets
    no more; one that is faster by `better` in the end is the next incumbent. `finals` is how many
    points may meet the default once more: for `final` rounds in each of `processes` new processes,
    whose memory lies elsewhere."""

    first: int = 7
    more: int = 14
    final: int = 15
    processes: int = 3
    hopeless: float = 1.06
    better: float = 0.985
    finals: int = 3


@dataclass
class Exploration:
    """`region`, `place` and `computes` go into every record; `lower` makes a point's kernel;
    `batch` points are built at a time; `progress` hears of every trial."""

    space: Space
    lower: Callable[[Point], Candidate]
    judge: Judge
    database: Database
    region: str
    place: str
    computes: str = ""
    seed: int = 0
    batch: int = 1
    effort: Effort = field(default_factory=Effort)
    progress: Callable[[Standings], None] = lambda standings: None

    def run(self, trials: int) -> Standings:
        """Go on until `trials` points are measured, those of earlier runs included, or the space is
        exhausted; then hold the best against the default once more, at length."""
        self.standings = Standings(self.database.records(self.place, self.region))
        self._default = self.lower(self.space.default)
        if not self._begin():
            return self.standings
        self._kernels = {r.kernel: p for p, r in self.standings.records.items()}
        self._crown(self.standings.best)
        search = self._search()
        while (left := trials - len(self.standings.records)) > 0:
            points = search.ask(min(left, self.batch))
            if not points:
                break
            self._try_all(points, search)
        self._confirm()
        return self.standings

    def _begin(self) -> bool:
        """The default's own measurement, unless there is one of this very kernel."""
        point, baseline = str(self.space.default), self.standings.baseline
        if baseline and baseline.kernel == self._default.kernel and point in self.standings.costs:
            return True
        failed = self.judge.prepare(self._default)
        rounds = self.effort.first + self.effort.more
        self._add(point, self._default, failed or self._turns(self._default, self._default, rounds))
        return point in self.standings.costs

    def _search(self) -> Search:
        """A search that knows what was measured before."""
        search = Search(self.space, seed=self.seed)
        for text in self.standings.records:
            point = Point.parse(text)
            if point in self.space:
                search.tell(point, self.standings.costs.get(text))
        return search

    def _try_all(self, points: Sequence[Point], search: Search) -> None:
        candidates = [(p, self.lower(p)) for p in points]
        self.judge.prebuild([c for _, c in candidates if c.kernel not in self._kernels])
        for point, candidate in candidates:
            same = self._kernels.setdefault(candidate.kernel, str(point))
            if same == str(point):
                self._try(same, candidate)
            search.tell(point, self.standings.costs.get(same))

    def _try(self, point: str, candidate: Candidate) -> None:
        """One trial: a short comparison with the incumbent, a longer one if it may be worth it."""
        champion, rival = self._champion
        result = self.judge.prepare(candidate, rival) or self._turns(
            candidate, rival, self.effort.first, self.effort.more
        )
        self._add(point, candidate, result, champion)
        costs = self.standings.costs
        if costs.get(point, 1e9) < self.effort.better * costs[champion]:
            self._crown(point, candidate)

    def _turns(self, candidate: Candidate, rival: Candidate, *rounds: int) -> Duel | Failed:
        """Rounds and more rounds, while there is hope."""
        whole = Duel((), ())
        for count in rounds:
            duel = self.judge.duel(candidate, rival, count)
            if isinstance(duel, Failed):
                return duel
            whole = Duel(whole.times + duel.times, whole.rival_times + duel.rival_times)
            if ratio(whole.times, whole.rival_times) > self.effort.hopeless:
                break
        return whole

    def _confirm(self) -> None:
        """Final comparisons until the best is one that has had its own."""
        for _ in range(self.effort.finals):
            best = self.standings.unconfirmed()
            if best is None:
                return
            candidate = self.lower(Point.parse(best))
            result = self._finals(candidate)
            self._add(best, candidate, result, str(self.space.default), final=True)

    def _finals(self, candidate: Candidate) -> Duel | Failed:
        """Rounds with the default, each part of them in a process of its own."""
        whole = Duel((), ())
        for _ in range(self.effort.processes):
            self.judge.renew()
            failed = self.judge.prepare(self._default) or self.judge.prepare(candidate)
            duel = failed or self.judge.duel(candidate, self._default, self.effort.final)
            if isinstance(duel, Failed):
                return duel
            whole = Duel(whole.times + duel.times, whole.rival_times + duel.rival_times)
        return whole

    def _crown(self, point: str, candidate: Candidate | None = None) -> None:
        """The incumbent from now on. One candidate is kept: each holds its weights."""
        self._champion = point, candidate or self.lower(Point.parse(point))

    def _add(
        self,
        point: str,
        candidate: Candidate,
        result: Duel | Failed,
        rival: str = "",
        *,
        final: bool = False,
    ) -> None:
        record = Record(
            self.region, self.place, point, candidate.kernel, Outcome.OK, rival=rival, final=final,
            computes=self.computes, date=datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        if isinstance(result, Failed):
            record = replace(record, outcome=result.outcome, message=result.message)
        else:
            times = result.rival_times if rival else ()
            record = replace(record, times_ns=result.times, rival_times_ns=times)
        self.standings.add(self.database.add(record))
        self.progress(self.standings)
