"""The search: what comes first, that it finds what is there, and that it can be repeated."""

from __future__ import annotations

import sys

import pytest

from graphopt.errors import GraphoptError
from graphopt.tune.search import Search
from graphopt.tune.space import Parameter, Point, Space

SPACE = Space(
    (
        Parameter("rows", tuple(range(1, 31)), 6),
        Parameter("vectors", (1, 2, 3, 4, 5, 6), 4),
        Parameter("prefetch", (0, 4, 8, 16), 0),
    ),
    lambda p: (p.number("rows") + 1) * p.number("vectors") <= 31,
    tuple(Point({"rows": r, "vectors": 2, "prefetch": 0}) for r in (4, 8)),
)  # fmt: skip
BEST = Point({"rows": 12, "vectors": 2, "prefetch": 8})


def cost(p: Point) -> float:
    """Least at BEST; rows and vectors trade off, as in a register tile."""
    rows, vectors = p.number("rows"), p.number("vectors")
    return abs(rows - 12) / 12 + abs(vectors - 2) / 3 + (p["prefetch"] != 8) * 0.2


def run(seed: int, trials: int, batch: int = 1) -> list[Point]:
    search, out = Search(SPACE, seed=seed), []
    while len(out) < trials and (points := search.ask(batch)):
        for point in points:
            search.tell(point, cost(point))
        out += points
    return out


def test_the_default_then_what_is_likely() -> None:
    assert run(0, 3) == [SPACE.default, *SPACE.likely]


@pytest.mark.parametrize("batch", [1, 3])
def test_finds_a_planted_best_in_a_quarter_of_the_space(batch: int) -> None:
    assert len(SPACE) == 272
    for seed in range(4):
        assert BEST in run(seed, 68, batch)


def test_the_same_seed_and_results_give_the_same_points() -> None:
    assert run(7, 40) == run(7, 40)
    assert run(7, 40) != run(8, 40)


def test_every_point_is_given_out_once_and_then_none() -> None:
    space = Space((Parameter("rows", (1, 2, 3, 4, 5), 3), Parameter("unroll", (0, 1), 0)))
    search = Search(space)
    points = search.ask(4) + search.ask(100)
    assert sorted(map(str, points)) == sorted(map(str, space.points))
    assert search.ask() == []


def test_failed_points_are_left_alone() -> None:
    search, asked = Search(SPACE, seed=1), []
    for _ in range(60):
        (point,) = search.ask()
        asked.append(point)
        search.tell(point, None if point.number("vectors") > 2 else cost(point))
    assert sum(p.number("vectors") > 2 for p in asked[30:]) < 15


def test_what_is_told_is_not_asked_again() -> None:
    search = Search(SPACE)
    search.tell(SPACE.default, 1.0)
    assert search.ask() == [SPACE.likely[0]]


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(GraphoptError) as raised:
        Search(SPACE)
    assert str(raised.value) == (
        "optuna is not installed, and tuning searches with it\n"
        "hint: run `pip install 'graphopt[tune]'`"
    )
