"""choose-winograd: 3x3 convolutions whose transformed products are fewer."""

from __future__ import annotations

import dataclasses
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


def test_refuses_what_is_divided_by_its_own_length(check_refuses: Check) -> None:
    """As descriptors are, pixel by pixel."""
    norm = (
        "%q = mul %y, %y\n%s = sum %q {axes=[1], keepdims=true}\n%i = rsqrt %s\n%z = mul %y, %i\n"
    )
    text = _conv(size=24, more=norm).replace("return %y", "return %z")
    check_refuses("choose-winograd", text, reason="divided by its own size")


def test_chooses_the_larger_tile(check_pass: Check) -> None:
    check_pass("choose-winograd", _conv(size=24), _conv(size=24, winograd=4))


@pytest.mark.parametrize(
    ("channels", "groups", "size", "tile"),
    [
        (128, 2, 56, 4),
        (64, 16, 56, 4),
        (128, 8, 56, 4),
        (512, 8, 14, 4),
        (512, 32, 14, 4),
        (1088, 17, 7, 2),
    ],
)
def test_chooses_by_the_channels_of_a_group(
    channels: int, groups: int, size: int, tile: int, check_pass: Check
) -> None:
    """The narrower a group, the less work per weight streamed. As measured in bench/NOTES.md."""
    check_pass(
        "choose-winograd",
        _conv(channels, size, groups=groups),
        _conv(channels, size, groups=groups, winograd=tile),
    )


@pytest.mark.parametrize(
    ("channels", "groups", "size", "tile"),
    [(128, 1, 56, 4), (256, 1, 28, 2), (512, 1, 14, 0), (64, 1, 112, 4), (192, 3, 56, 4)],
)
def test_chooses_by_size_with_stride_2(
    channels: int, groups: int, size: int, tile: int, check_pass: Check
) -> None:
    check_pass(
        "choose-winograd",
        _conv(channels, size, stride=2, groups=groups),
        _conv(channels, size, stride=2, groups=groups, winograd=tile),
    )


def test_four_taps(check_pass: Check) -> None:
    check_pass("choose-winograd", _conv(size=24, kernel=4), _conv(size=24, kernel=4, winograd=3))


def test_option_bounds_the_tile(check_pass: Check) -> None:
    check_pass("choose-winograd{largest=2}", _conv(64, 32), _conv(64, 32, winograd=2))


@pytest.mark.parametrize(
    ("pass_", "text", "reason"),
    [
        ("choose-winograd", _conv(kernel=5), "not of 2 to 4 taps along one axis or two"),
        ("choose-winograd", _conv(stride=3), "there is none of its stride"),
        ("choose-winograd", _conv(24, stride=2, groups=8), "too few channels per group"),
        ("choose-winograd", _conv(channels=3), "too few channels"),
        ("choose-winograd", _conv(24, 56, groups=8), "too few channels per group"),
        ("choose-winograd", _conv(64, 56, groups=64), "too few channels per group"),
        ("choose-winograd", _conv(1024, 4, groups=16), "a direct sum is as fast"),
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
    large, small = Shape(1, 64, 64, (56, 56)), Shape(1, 512, 512, (7, 7))
    assert large.cost(4) < 0.5 * large.direct_cost()
    assert small.cost(4) > 0.9 * small.direct_cost()


def test_groups_cost_what_as_many_convolutions_cost() -> None:
    alone, together = Shape(1, 64, 64, (14, 14)), Shape(1, 64, 64, (14, 14), groups=8)
    assert together.direct_cost() == 8 * alone.direct_cost()
    assert [together.cost(m) for m in (2, 4)] == [8 * alone.cost(m) for m in (2, 4)]


def _taps(channels: int, size: int, stride: int = 1, dilation: int = 1, winograd: int = 0) -> str:
    text = f"%x = input : f32[1,{channels},{size}]\n"
    text += f'%w = constant {{key="w"}} : f32[{channels},{channels},3]\n'
    attrs = f"stride=[{stride}], padding=[[0,0]], dilation=[{dilation}], winograd={winograd}"
    return text + f"%y = conv %x, %w {{{attrs}}}\nreturn %y"


@pytest.mark.parametrize(
    ("channels", "size", "stride", "dilation", "tile"),
    [
        (64, 400, 1, 1, 4),
        (64, 400, 1, 16, 4),
        (512, 32, 1, 1, 2),
        (512, 400, 2, 1, 4),
        (64, 400, 2, 1, 4),
    ],
)
def test_along_one_axis(
    channels: int, size: int, stride: int, dilation: int, tile: int, check_pass: Check
) -> None:
    sizes = channels, size, stride, dilation
    check_pass("choose-winograd", _taps(*sizes), _taps(*sizes, winograd=tile))


def test_refuses_stride_and_dilation_at_once(check_refuses: Check) -> None:
    check_refuses("choose-winograd", _taps(64, 400, 2, 2), reason="or of its stride and dilation")


def test_the_phases_of_a_transposed_convolution(check_pass: Check) -> None:
    """Kernels of 2x2."""
    check_pass("choose-winograd", _conv(64, 33, 2), _conv(64, 33, 2, winograd=4))
    check_pass("choose-winograd", _conv(256, 7, 2), _conv(256, 7, 2, winograd=2))


def test_dilated_images(check_pass: Check) -> None:
    """The phases of 2 x 2 pixels are images of their own."""
    plain, dilated = _conv(64, 30), _conv(64, 30, winograd=4)
    plain, dilated = (t.replace("dilation=[1,1]", "dilation=[2,2]") for t in (plain, dilated))
    check_pass("choose-winograd", plain, dilated)


def test_fires_on_a_traced_module() -> None:
    module = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 1))
    result, rewrites = fires("choose-winograd", traced(module, randn(1, 32, 24, 24)))
    assert rewrites == 1
    assert attribute(result, "conv", "winograd") == [4, 0]


def test_fires_on_a_bottleneck_of_groups() -> None:
    """1x1, grouped 3x3 of stride 2 and of stride 1, 1x1, as in RegNet and ResNeXt."""
    module = nn.Sequential(
        nn.Conv2d(32, 96, 1),
        nn.Conv2d(96, 96, 3, stride=2, padding=1, groups=3),
        nn.ReLU(),
        nn.Conv2d(96, 96, 3, padding=1, groups=3),
        nn.Conv2d(96, 32, 1),
    )
    result, rewrites = fires("choose-winograd", traced(module, randn(1, 32, 48, 48)))
    assert rewrites == 1
    assert attribute(result, "conv", "winograd") == [0, 0, 4, 0]


def test_transformed_rows_that_leave_the_cache_are_counted() -> None:
    """128 channels, 56 to 28 squared: 2 MB of rows and 5 MB of weights by tiles of four pixels."""
    near, anywhere = (
        Shape(1, 128, 128, (28, 28), stride=2, streaming=26.0, near=elements)
        for elements in (2**19, float("inf"))
    )
    assert near.cost(4) > anywhere.cost(4)
    assert min((2, 3, 4), key=near.cost) == 2
    assert min((2, 3, 4), key=anywhere.cost) == 4
    small = Shape(1, 64, 64, (28, 28), streaming=26.0, near=2**19)
    assert small.cost(4) == dataclasses.replace(small, near=float("inf")).cost(4)
