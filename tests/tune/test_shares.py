"""How trials are shared out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphopt.tune.shares import allot


def test_by_share_of_time() -> None:
    assert allot(100, [0.5, 0.3, 0.2], [1000] * 3) == [50, 30, 20]


def test_what_a_small_space_cannot_take_goes_to_the_others() -> None:
    assert allot(100, [0.5, 0.25, 0.25], [10, 1000, 1000]) == [10, 45, 45]


def test_a_region_gets_no_trials_rather_than_hardly_any() -> None:
    assert allot(20, [0.9, 0.05, 0.05], [1000] * 3) == [20, 0, 0]
    assert allot(20, [0.9, 0.1], [1000, 2]) == [18, 2], "two points are all there are"


@given(
    st.integers(0, 500),
    st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(2, 60)), min_size=1, max_size=12),
)
def test_never_more_than_there_are(trials: int, regions: list[tuple[float, int]]) -> None:
    shares, sizes = [s for s, _ in regions], [n for _, n in regions]
    quota = allot(trials, shares, sizes)
    assert sum(quota) <= trials
    assert all(q <= n for q, n in zip(quota, sizes, strict=True))
    assert all(q == 0 or q >= min(3, n) for q, n in zip(quota, sizes, strict=True))
    if sum(n for s, n in regions if s > 0) <= trials:
        assert quota == [n if s > 0 else 0 for s, n in regions]
