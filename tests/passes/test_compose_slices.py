"""compose-slices: slices of slices, concats and pads; concats of what was cut apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphopt_passes.simplify.compose_slices import Range, _composed_range
from hypothesis import given
from hypothesis import strategies as st
from real_graphs import count, fires, prepared

Check = Callable[..., object]
HEAD = "%x = input : f32[8,10]\n%z = input : f32[4,10]\n"


def _slice(result: str, x: str, rows: tuple[int, int, int], columns: tuple[int, int, int]) -> str:
    starts, stops, steps = (list(r) for r in zip(rows, columns, strict=True))
    return f"{result} = slice {x} {{starts={starts}, stops={stops}, steps={steps}}}"


ALL_ROWS, ALL = (0, 8, 1), (0, 10, 1)

CASES = {
    "everything": (_slice("%y", "%x", ALL_ROWS, ALL), None),
    "slice-of-slice": (
        _slice("%a", "%x", (1, 7, 1), (2, 9, 1)) + "\n" + _slice("%y", "%a", (2, 5, 1), (0, 3, 1)),
        _slice("%y", "%x", (3, 6, 1), (2, 5, 1)),
    ),
    "steps": (
        _slice("%a", "%x", (1, 8, 2), ALL) + "\n" + _slice("%y", "%a", (1, 4, 2), ALL),
        _slice("%y", "%x", (3, 8, 4), ALL),
    ),
    "concat-of-one": ("%y = concat %x {axis=1}", None),
    "inside-the-second-part": (
        "%c = concat %x, %z {axis=0}\n" + _slice("%y", "%c", (9, 11, 1), (0, 5, 1)),
        _slice("%y", "%z", (1, 3, 1), (0, 5, 1)),
    ),
    "the-whole-first-part": (
        "%c = concat %x, %z {axis=0}\n" + _slice("%y", "%c", ALL_ROWS, ALL), None,
    ),
    "put-together-again": (
        _slice("%a", "%x", ALL_ROWS, (0, 4, 1)) + "\n" + _slice("%b", "%x", ALL_ROWS, (4, 10, 1))
        + "\n%y = concat %a, %b {axis=1}", None,
    ),
    "neighbours": (
        _slice("%a", "%x", ALL_ROWS, (1, 4, 1)) + "\n" + _slice("%b", "%x", ALL_ROWS, (4, 9, 1))
        + "\n%y = concat %a, %b {axis=1}",
        _slice("%y", "%x", ALL_ROWS, (1, 9, 1)),
    ),
    "nothing-after": (_slice("%a", "%z", (0, 4, 1), (3, 3, 1)) + "\n"
        + _slice("%b", "%x", (0, 4, 1), ALL) + "\n%y = concat %a, %b, %z {axis=1}",
        _slice("%b", "%x", (0, 4, 1), ALL) + "\n%y = concat %b, %z {axis=1}",
    ),
    "concat-of-concat": (
        "%c = concat %x, %z {axis=0}\n%y = concat %z, %c {axis=0}",
        "%y = concat %z, %x, %z {axis=0}",
    ),
    "inside-a-pad": (
        "%p = pad %x {before=[1,2], after=[0,0], value=0.0, mode=\"constant\"}\n"
        + _slice("%y", "%p", (2, 6, 1), (2, 12, 1)),
        _slice("%y", "%x", (1, 5, 1), ALL),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_composes(case: str, check_pass: Check) -> None:
    before, after = CASES[case]
    expected = "return %x" if after is None else after + "\nreturn %y"
    check_pass("compose-slices", HEAD + before + "\nreturn %y", HEAD + expected)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, Range, Range]:
    extent = draw(st.integers(0, 12))

    def inside(n: int) -> Range:
        start = draw(st.integers(0, n))
        return start, draw(st.integers(start, n)), draw(st.integers(1, 4))

    first = inside(extent)
    return extent, first, inside(len(range(*first)))


@given(ranges())
def test_ranges_compose_as_numpy_has_it(case: tuple[int, Range, Range]) -> None:
    extent, first, then = case
    x = np.arange(extent)
    start, stop, step = _composed_range(first, then)
    assert np.array_equal(x[slice(*first)][slice(*then)], x[start:stop:step])
    assert 0 <= start <= stop <= extent  # what the op demands


REFUSED = {
    "%c = concat %x, %z {axis=0}\n" + _slice("%y", "%c", (6, 10, 1), ALL): "of several parts",
    '%p = pad %x {before=[1,2], after=[0,0], value=0.0, mode="constant"}\n'
    + _slice("%y", "%p", (0, 6, 1), (2, 12, 1)): "it takes elements of the padding",
    "%y = concat %x, %z {axis=0}": "neither concats nor neighbouring slices",
    # not neighbours: overlapping, and in the other order
    _slice("%a", "%x", ALL_ROWS, (0, 4, 1)) + "\n" + _slice("%b", "%x", ALL_ROWS, (3, 9, 1))
    + "\n%y = concat %a, %b {axis=1}": "neither concats nor neighbouring slices",
    _slice("%a", "%x", ALL_ROWS, (0, 4, 1)) + "\n" + _slice("%b", "%x", ALL_ROWS, (4, 9, 1))
    + "\n%y = concat %b, %a {axis=1}": "neither concats nor neighbouring slices",
}  # fmt: skip


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(body: str, check_refuses: Check) -> None:
    check_refuses("compose-slices", HEAD + body + "\nreturn %y", reason=REFUSED[body])


def test_refuses_a_concat_that_others_read(check_refuses: Check) -> None:
    text = HEAD + "%c = concat %x, %z {axis=0}\n%y = concat %z, %c {axis=0}\nreturn %y, %c"
    check_refuses("compose-slices", text, reason="neither concats")


def test_refuses_symbolic_dimensions(check_refuses: Check) -> None:
    text = "%x = input : f32[n:1..8,4]\n%a = slice %x {starts=[0,1], stops=[8,4], steps=[1,1]}\n"
    text += "%y = slice %a {starts=[0,0], stops=[8,2], steps=[1,1]}\nreturn %y"
    check_refuses("compose-slices", text, reason="a dimension is symbolic")


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """Merging patches in Swin: every second row of every second column."""
    graph = prepared("tiny_swin", "fold-constants,compose-views")
    result, rewrites = fires("compose-slices", graph)
    assert rewrites >= 4
    assert count(result)["slice"] < count(graph)["slice"]
