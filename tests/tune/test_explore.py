"""A region's exploration with a judge that knows all times: what is tried, kept and taken up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from graphopt.tune.candidate import Candidate
from graphopt.tune.database import Database, Outcome
from graphopt.tune.explore import Effort, Exploration
from graphopt.tune.measure import Duel
from graphopt.tune.messages import Failed
from graphopt.tune.space import Parameter, Point, Space

SPACE = Space(
    (Parameter("rows", tuple(range(1, 13)), 6), Parameter("vectors", (1, 2, 3, 4), 4)),
    lambda p: p.number("rows") * p.number("vectors") <= 28,
)
BEST = Point({"rows": 11, "vectors": 2})


def lower(point: Point, version: str = "a") -> Candidate:
    return Candidate(f"go_{version}_{point['rows']}_{point['vectors']}", {})


def time_ns(kernel: str) -> int:
    rows, vectors = map(int, kernel.split("_")[-2:])
    return 1000 + 40 * abs(rows - 11) + 100 * abs(vectors - 2)


@dataclass
class Oracle:
    """A judge without a machine. `bad` kernels fail as it says; `interrupt` is called before each
    comparison; `seen` are the comparisons made."""

    bad: dict[str, Failed] = field(default_factory=dict)
    interrupt: Callable[[], None] = lambda: None
    seen: list[tuple[str, str, int]] = field(default_factory=list)

    def prebuild(self, candidates: Sequence[Candidate]) -> None:
        pass

    def renew(self) -> None:
        self.seen.append(("renewed", "", 0))

    def prepare(self, candidate: Candidate, rival: Candidate | None = None) -> Failed | None:
        return self.bad.get(candidate.kernel)

    def duel(self, candidate: Candidate, rival: Candidate, rounds: int) -> Duel | Failed:
        self.interrupt()
        self.seen.append((candidate.kernel, rival.kernel, rounds))
        return Duel((time_ns(candidate.kernel),) * rounds, (time_ns(rival.kernel),) * rounds)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "r.sqlite") as database:
        yield database


def explore(
    database: Database, judge: Oracle, lower: Callable[[Point], Candidate] = lower, batch: int = 1
) -> Exploration:
    return Exploration(SPACE, lower, judge, database, "region", "here", batch=batch)


@pytest.mark.parametrize("batch", [1, 3])
def test_finds_the_planted_best_and_confirms_it(database: Database, batch: int) -> None:
    judge = Oracle()
    standings = explore(database, judge, batch=batch).run(25)
    winner = standings.winner()
    assert winner is not None
    assert Point.parse(winner.point) == BEST
    assert winner.final
    assert len(winner.times_ns) == Effort().final * Effort().processes
    assert judge.seen.count(("renewed", "", 0)) >= Effort().processes
    assert len(standings.records) == 25
    assert standings.costs[str(BEST)] == pytest.approx(1000 / time_ns("go_a_6_4"))


def test_the_default_is_measured_first(database: Database) -> None:
    explore(database, Oracle()).run(4)
    first, *others = database.records("here")
    assert (first.point, first.rival) == (str(SPACE.default), "")
    assert all(r.rival for r in others)


def test_a_hopeless_candidate_gets_few_rounds(database: Database) -> None:
    judge = Oracle()
    explore(database, judge).run(12)
    effort, incumbents = Effort(), {r for _, r, _ in judge.seen if r}
    long = [c for c, r, rounds in judge.seen if rounds == effort.more and c != r]
    assert long, "some are worth more rounds"
    assert any(c not in long for c, _, rounds in judge.seen if rounds == effort.first)
    assert len(incumbents) > 1, "and better ones become the next to beat"


def test_a_run_that_was_stopped_goes_on(database: Database) -> None:
    def stop() -> None:
        if len(database.records("here")) == 7:
            raise KeyboardInterrupt

    judge = Oracle(interrupt=stop)
    with pytest.raises(KeyboardInterrupt):
        explore(database, judge).run(25)
    before = database.records("here")
    judge.interrupt = lambda: None
    standings = explore(database, judge).run(25)
    after = database.records("here")
    assert after[:7] == before
    assert len(standings.records) == 25
    trials = [r.point for r in after if not r.final]
    assert len(trials) == len(set(trials)) == 25, "nothing is measured twice"


def test_a_finished_run_has_nothing_to_do(database: Database) -> None:
    explore(database, Oracle()).run(25)
    count, judge = len(database.records("here")), Oracle()
    explore(database, judge).run(25)
    assert judge.seen == []
    assert len(database.records("here")) == count


def test_other_kernels_than_those_recorded_begin_anew(database: Database) -> None:
    explore(database, Oracle()).run(10)
    standings = explore(database, Oracle(), lambda p: lower(p, "b")).run(5)
    assert len(standings.records) == 5
    assert all(r.kernel.startswith("go_b_") for r in standings.records.values())


def test_failures_are_recorded_and_left_behind(database: Database) -> None:
    bad = {
        lower(p).kernel: Failed(Outcome.CRASHED, "killed by SIGSEGV")
        for p in SPACE.points if p.number("vectors") == 2 and p.number("rows") > 8
    }  # fmt: skip
    judge = Oracle(bad)
    standings = explore(database, judge).run(40)
    crashed = [r for r in standings.records.values() if r.outcome is Outcome.CRASHED]
    assert crashed
    assert {r.kernel for r in crashed} <= set(bad)
    assert {r.message for r in crashed} == {"killed by SIGSEGV"}
    winner = standings.winner()
    assert winner is not None
    assert winner.kernel not in bad


def test_a_default_that_fails_ends_it_and_is_tried_again_next_time(database: Database) -> None:
    default = lower(SPACE.default).kernel
    judge = Oracle({default: Failed(Outcome.WRONG, "result 0 is off by 3")})
    standings = explore(database, judge).run(10)
    assert standings.winner() is None
    assert [r.outcome for r in database.records("here")] == [Outcome.WRONG]
    assert judge.seen == []
    assert len(explore(database, Oracle()).run(10).records) == 10


def test_points_of_the_same_kernel_are_measured_once(database: Database) -> None:
    judge = Oracle()
    standings = explore(database, judge, lambda p: lower(p.but({"vectors": 2}))).run(100)
    kernels = [r.kernel for r in database.records("here") if not r.final]
    assert len(kernels) == len(set(kernels)) == 12
    assert len(standings.records) == 12
