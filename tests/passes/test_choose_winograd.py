"""choose-winograd: 3x3 convolutions whose transformed products are fewer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graphopt_passes.algorithm.choose_winograd import Shape
from real_graphs import attribute, fires, traced
from torch import nn, randn

Check = Callable[..., object]


def _conv(channels: int = 32, size: int = 16, kernel: int = 3, more: str = "", dtype: str = "f32",
          stride: int = 1, winograd: int = 0, groups: int = 1) -> str:  # fmt: skip
    inner = channels // groups
    text = f"%x = input : {dtype}[1,{channels},{size},{size}]\n"
    text += f'%w = constant {{key="w"}} : {dtype}[{channels},{inner},{kernel},{kernel}]\n'
    attrs = f"stride=[{stride},{stride}], padding=[[1,1],[1,1]], dilation=[1,1], groups={groups}"
    return text + f"%y = conv %x, %w {{{attrs}, winograd={winograd}}}\n{more}return %y"


def test_chooses_the_larger_tile(check_pass: Check) -> None:
    check_pass("choose-winograd", _conv(size=24), _conv(size=24, winograd=4))


def test_option_bounds_the_tile(check_pass: Check) -> None:
    check_pass("choose-winograd{largest=2}", _conv(64, 32), _conv(64, 32, winograd=2))


@pytest.mark.parametrize(
    ("pass_", "text", "reason"),
    [
        ("choose-winograd", _conv(kernel=5), "its kernel is not 3x3"),
        ("choose-winograd", _conv(stride=2), "strided, dilated or grouped"),
        ("choose-winograd", _conv(groups=2), "strided, dilated or grouped"),
        ("choose-winograd", _conv(channels=8), "too few channels"),
        ("choose-winograd", _conv(channels=512, size=4), "a direct sum is as fast"),
        ("choose-winograd", _conv(dtype="f16"), "whose rounding would show"),
        ("choose-winograd", _conv(winograd=2), "chosen already"),
        ("choose-winograd", _conv().replace('constant {key="w"}', "input"), "while the model runs"),
        ("choose-winograd{largest=0}", _conv(64, 32), "a direct sum is as fast"),
    ],
)
def test_refuses(pass_: str, text: str, reason: str, check_refuses: Check) -> None:
    check_refuses(pass_, text, reason=reason)


def test_cost_streams_weights_where_tiles_are_few() -> None:
    """By count F(4,3) halves the work; with few tiles its weights, 4 times as many, limit it."""
    large, small = Shape(1, 64, 64, 56, 56), Shape(1, 512, 512, 7, 7)
    assert large.cost(4) < 0.5 * large.direct_cost()
    assert small.cost(4) > 0.9 * small.direct_cost()


def test_fires_on_a_traced_module() -> None:
    module = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 1))
    result, rewrites = fires("choose-winograd", traced(module, randn(1, 32, 24, 24)))
    assert rewrites == 1
    assert attribute(result, "conv", "winograd") == [4, 0]
