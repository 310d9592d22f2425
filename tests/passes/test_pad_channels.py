"""pad-channels: input channels brought to a multiple."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import attribute, fires, tiny

from graphopt.pipeline import Pipeline

Check = Callable[..., object]

ATTRS = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=%d}"


def _conv(channels: int, groups: int = 1, weights: str = 'constant {key="w"}') -> str:
    return f"""
      %x = input : f32[2,{channels},5,5]
      %w = {weights} : f32[4,{channels // groups},3,3]
      %y = conv %x, %w {ATTRS % groups}
      return %y"""


def test_zeros_come_behind_the_channels(check_pass: Check) -> None:
    after = check_pass("pad-channels{multiple=4}", _conv(3))
    assert attribute(after, "pad", "after") == [(0, 1, 0, 0)]
    (weights,) = after.constants.values()
    assert weights.shape == (4, 4, 3, 3)
    assert not weights[:, 3].any()


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ("{multiple=4}", _conv(8), "a multiple of 4"),
        ("", _conv(3), "a multiple of 1"),
        ("{multiple=8}", _conv(4, groups=2), "it has groups"),
        ("{multiple=8}", _conv(3, weights="input"), "computed while the model runs"),
    ],
)
def test_refuses(options: str, text: str, reason: str, check_refuses: Check) -> None:
    check_refuses(f"pad-channels{options}", text, reason=reason)


@pytest.mark.torch
def test_one_border_for_both_on_a_real_model() -> None:
    graph = Pipeline.parse("explicit-padding").run(tiny("tiny_resnet"))
    after, rewrites = fires("pad-channels{multiple=8}", graph)
    assert rewrites > 0
    composed = Pipeline.parse("compose-pads").run(after)
    assert attribute(composed, "pad", "after")[0] == (0, 5, 3, 3)
