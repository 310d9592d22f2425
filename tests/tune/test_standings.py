"""From records to an order of points."""

from __future__ import annotations

import pytest
from records import record

from graphopt.tune.database import Outcome
from graphopt.tune.standings import Standings, ratio

DEFAULT = record("rows=6", (100, 100, 100))


def test_a_ratio_is_taken_round_by_round() -> None:
    """The second round is slow for both, and says no more than the others."""
    assert ratio((9, 900, 9), (10, 1000, 10)) == 0.9


def test_costs_follow_the_chain_of_incumbents() -> None:
    standings = Standings([
        DEFAULT,
        record("rows=8", (80, 80), "rows=6", (100, 100)),
        record("rows=9", (45, 45), "rows=8", (90, 90)),  # the machine is slower now
        record("rows=4", (120, 120), "rows=8", (80, 80)),
    ])  # fmt: skip
    assert standings.costs == pytest.approx({"rows=6": 1.0, "rows=8": 0.8, "rows=9": 0.4,
                                             "rows=4": 1.2})  # fmt: skip
    assert standings.best == "rows=9"


def test_a_final_comparison_has_the_last_word() -> None:
    standings = Standings([
        DEFAULT,
        record("rows=8", (80, 80), "rows=6", (100, 100)),
        record("rows=9", (85, 85), "rows=6", (100, 100)),
    ])  # fmt: skip
    assert standings.unconfirmed() == "rows=8"
    standings.add(record("rows=8", (98, 98), "rows=6", (100, 100), final=True))
    assert standings.unconfirmed() == "rows=9"
    standings.add(record("rows=9", (90, 90), "rows=6", (100, 100), final=True))
    assert standings.unconfirmed() is None
    winner = standings.winner()
    assert winner is not None
    assert (winner.point, winner.final) == ("rows=9", True)


def test_the_default_stays_when_nothing_is_surely_better() -> None:
    assert Standings([DEFAULT]).winner() is None
    close = Standings([DEFAULT, record("rows=8", (97, 97), "rows=6", (100, 100))])
    assert close.winner() is None, "few runs, and no final comparison"
    close.add(record("rows=8", (97, 97), "rows=6", (100, 100), final=True))
    winner = close.winner()
    assert winner is not None
    assert winner.point == "rows=8"
    close.add(record("rows=8", (999, 999), "rows=6", (1000, 1000), final=True))
    assert close.winner() is None


def test_an_interrupted_run_may_still_have_a_clear_winner() -> None:
    winner = Standings([DEFAULT, record("rows=8", (60, 60), "rows=6", (100, 100))]).winner()
    assert winner is not None
    assert winner.point == "rows=8"


def test_failures_have_no_cost() -> None:
    standings = Standings([
        DEFAULT,
        record("rows=8", (50, 50), "rows=6", (100, 100)),
        record("rows=8", outcome=Outcome.CRASHED, rival="rows=6", final=True),
        record("rows=9", outcome=Outcome.WRONG, rival="rows=6"),
    ])  # fmt: skip
    assert standings.costs == {"rows=6": 1.0}
    assert set(standings.records) == {"rows=6", "rows=8", "rows=9"}
    assert standings.winner() is None


def test_a_new_baseline_begins_anew() -> None:
    """What was measured before is of another code generator."""
    old = [DEFAULT, record("rows=8", (50, 50), "rows=6", (100, 100), final=True)]
    standings = Standings([*old, record("rows=6", (70, 70), kernel="another")])
    assert standings.costs == {"rows=6": 1.0}
    assert standings.winner() is None
    assert standings.baseline is not None
    assert standings.baseline.kernel == "another"


def test_a_default_is_kept_for_a_reason() -> None:
    """Only what was timed beside it says that it is the best."""
    slower = record("rows=8", (100, 100), "rows=6", (50, 50))
    wrong = record("rows=9", outcome=Outcome.WRONG, rival="rows=6")
    assert Standings([DEFAULT, slower]).kept == DEFAULT
    assert Standings([DEFAULT, slower]).winner() is None
    assert Standings([DEFAULT, wrong]).kept is None
    assert Standings([DEFAULT]).kept is None
    assert Standings().kept is None
