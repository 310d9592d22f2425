"""Points and spaces: text forms, constraints, spaces made of spaces."""

from __future__ import annotations

import pytest

from graphopt.errors import GraphoptError, InternalError
from graphopt.tune.space import NOTHING, Parameter, Point, Space, alternatives, with_parameter

ROWS, VECTORS = Parameter("rows", (1, 2, 4), 2), Parameter("vectors", (1, 2), 1)
TILES = Space((ROWS, VECTORS), lambda p: p.number("rows") * p.number("vectors") <= 4)


def test_the_text_of_a_point_does_not_depend_on_order_and_reads_back() -> None:
    a, b = Point({"rows": 4, "mode": "wide"}), Point({"mode": "wide", "rows": 4})
    assert str(a) == str(b) == "mode=wide rows=4"
    assert a == b == Point.parse(str(a))
    assert len({a, b}) == 1


@pytest.mark.parametrize("text", ["rows", "rows=", "=4", "rows=4 rows=2", "Rows=4", "rows = 4"])
def test_text_that_is_no_point(text: str) -> None:
    with pytest.raises(GraphoptError) as raised:
        Point.parse(text)
    assert str(raised.value) == f"{text!r} is not a schedule\nhint: write rows=6 vectors=4"


def test_a_word_is_no_number() -> None:
    with pytest.raises(InternalError, match=r"mode of the point \(mode=wide\) is no number"):
        Point({"mode": "wide"}).number("mode")


def test_a_space_is_its_allowed_combinations() -> None:
    assert [str(p) for p in TILES.points] == [
        "rows=1 vectors=1", "rows=1 vectors=2", "rows=2 vectors=1", "rows=2 vectors=2",
        "rows=4 vectors=1",
    ]  # fmt: skip
    assert TILES.default == Point({"rows": 2, "vectors": 1})
    assert Point({"rows": 4, "vectors": 2}) not in TILES, "too large a tile"
    assert Point({"rows": 3, "vectors": 1}) not in TILES, "not a choice"
    assert Point({"rows": 2}) not in TILES, "a parameter is missing"
    assert TILES.default.but({"prefetch": 0}) not in TILES, "one too many"


def test_the_default_must_be_a_point_of_the_space() -> None:
    with pytest.raises(InternalError, match=r"default \(rows=9\) is not in its space"):
        Space((Parameter("rows", (1, 2), 9),))
    with pytest.raises(InternalError, match="is not in its space"):
        Space((ROWS,), lambda p: p.number("rows") > 2)


def test_nothing_to_choose_is_one_empty_point() -> None:
    assert len(NOTHING) == 1
    assert str(NOTHING.default) == ""
    assert Point.parse("") in NOTHING


def test_a_parameter_more_goes_with_every_point() -> None:
    wider = with_parameter(TILES, Parameter("blocks", (1, 7), 7))
    assert len(wider) == 2 * len(TILES)
    assert wider.default == TILES.default.but({"blocks": 7})
    assert with_parameter(TILES, Parameter("blocks", (1,), 1)) is TILES


def test_of_alternatives_one_has_a_say() -> None:
    other = Space(
        (ROWS, Parameter("depth", (1, 2, 3), 3)), likely=(Point({"rows": 4, "depth": 1}),)
    )
    space = alternatives("how", {0: TILES, 4: other}, 4)
    assert len(space) == len(TILES) + len(other)
    assert set(space.points) == set(Space(space.parameters, space.allows).points)
    assert str(space.default) == "depth=3 how=4 rows=2 vectors=1"
    assert Point.parse("depth=1 how=0 rows=2 vectors=2") in space
    assert Point.parse("depth=2 how=0 rows=2 vectors=2") not in space, "depth has no effect there"
    assert Point.parse("depth=1 how=4 rows=2 vectors=2") not in space, "vectors has none here"
    assert [str(p) for p in space.likely] == [
        "depth=1 how=0 rows=2 vectors=1",  # what the other one would do
        "depth=1 how=4 rows=4 vectors=1",
    ]
    assert all(p in space for p in (*space.points, *space.likely))
