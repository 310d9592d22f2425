"""gather-to-slice: constant, evenly spaced positions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

Check = Callable[..., object]


def _gather(value: str, shape: str, axis: int = 1, dtype: str = "i64") -> str:
    return (
        f"%x = input : f32[4,8,3]\n"
        f'%i = constant {{key="i", value=[{value}]}} : {dtype}[{shape}]\n'
        f"%y = gather %x, %i {{axis={axis}}}\nreturn %y"
    )


def _sliced(starts: str, stops: str, steps: str, more: str = "") -> str:
    return (
        f"%x = input : f32[4,8,3]\n"
        f"%s = slice %x {{starts=[{starts}], stops=[{stops}], steps=[{steps}]}}\n{more}"
        f"return {'%y' if more else '%s'}"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_gather("3, 4, 5", "3"), _sliced("0,3,0", "4,6,3", "1,1,1")),
        (_gather("0, 3, 6", "3", dtype="i32"), _sliced("0,0,0", "4,7,3", "1,3,1")),
        (_gather("-2, -1", "2"), _sliced("0,6,0", "4,8,3", "1,1,1")),
        (_gather("2", "1", axis=0), _sliced("2,0,0", "3,8,3", "1,1,1")),
        (
            _gather("1, 2, 3, 4", "2,2"),
            _sliced("0,1,0", "4,5,3", "1,1,1", "%y = reshape %s {shape=[4,2,2,3]}\n"),
        ),
    ],
    ids=["run", "steps", "from-the-end", "one", "grid"],
)
def test_slices(before: str, after: str, check_pass: Check) -> None:
    check_pass("gather-to-slice", before, after)


def test_one_row_by_number(check_pass: Check) -> None:
    """As `x[:, 0]` is imported."""
    text = "%x = input : f32[4,8,3]\n%i = full {value=0, shape=[], dtype=i64}\n"
    after = _sliced("0,0,0", "4,1,3", "1,1,1", "%y = reshape %s {shape=[4,3]}\n")
    check_pass("gather-to-slice", text + "%y = gather %x, %i {axis=1}\nreturn %y", after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_gather("1, 2, 4", "3"), "not evenly spaced"),
        (_gather("5, 4, 3", "3"), "not evenly spaced"),
        (_gather("2, 2", "2"), "not evenly spaced"),
        ("%x = input : f32[4,8]\n%i = input : i64[2]\n%y = gather %x, %i {axis=0}\nreturn %y",
         "computed at run time"),
        ('%x = constant {key="x"} : f32[4,8]\n%i = full {value=1, shape=[], dtype=i64}\n'
         "%y = gather %x, %i {axis=0}\nreturn %y", "gathers from a constant"),
        ("%x = input : f32[n:1..4,8]\n%i = full {value=1, shape=[], dtype=i64}\n"
         "%y = gather %x, %i {axis=1}\nreturn %y", "a dimension is symbolic"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("gather-to-slice", text, reason=reason)


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_vit", "tiny_bert"])
def test_fires_on_a_real_model(name: str) -> None:
    """The first token is what the classifier or pooler reads."""
    graph = prepared(name, "fold-constants")
    result, rewrites = fires("gather-to-slice", graph)
    assert rewrites == count(graph)["gather"] - count(result)["gather"] >= 0
    assert count(result)["slice"] >= 1
