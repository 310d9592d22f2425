"""choose-strassen: products that fewer products of blocks compute sooner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from graphopt_backends.cpu.targets import TARGETS
from graphopt_passes.algorithm.choose_strassen import ChooseStrassen, Shape
from real_graphs import attribute, fires, traced
from torch import nn, randn

from graphopt.check import random_constant
from graphopt.ir.text import parse
from graphopt.ops.strassen import SCHEMES
from graphopt.passbase import PassContext

Check = Callable[..., object]


def _linear(rows: int = 128, depth: int = 512, channels: int = 512, dtype: str = "f32",
            strassen: int = 0) -> str:  # fmt: skip
    attrs = f" {{strassen={strassen}}}" if strassen else ""
    return (
        f"%x = input : {dtype}[{rows},{depth}]\n"
        f'%w = constant {{key="w"}} : {dtype}[{channels},{depth}]\n'
        f"%y = linear %x, %w{attrs}\nreturn %y"
    )


def _conv(kernel: int = 1, groups: int = 1, stride: int = 1, strassen: int = 0) -> str:
    attrs = f"stride=[{stride},{stride}], padding=[[0,0],[0,0]], dilation=[1,1], groups={groups}"
    return (
        "%x = input : f32[1,512,28,28]\n"
        f'%w = constant {{key="w"}} : f32[512,{512 // groups},{kernel},{kernel}]\n'
        f"%y = conv %x, %w {{{attrs}{f', strassen={strassen}' if strassen else ''}}}\nreturn %y"
    )


def test_chooses_it_for_a_large_linear(check_pass: Check) -> None:
    check_pass("choose-strassen", _linear(), _linear(strassen=26))


@pytest.mark.parametrize("stride", [1, 2])
def test_chooses_it_for_a_convolution_of_one_pixel(stride: int, check_pass: Check) -> None:
    check_pass("choose-strassen", _conv(stride=stride), _conv(stride=stride, strassen=26))


@pytest.mark.parametrize(
    ("pass_", "text", "reason"),
    [
        ("choose-strassen", _conv(kernel=3), "several pixels or groups"),
        ("choose-strassen", _conv(groups=2), "several pixels or groups"),
        ("choose-strassen", _linear(depth=511), "cannot be parted"),
        ("choose-strassen", _linear(channels=61), "cannot be parted"),
        ("choose-strassen", _linear().replace("[128", "[N:1..512"), "told only when it runs"),
        ("choose-strassen", _linear(channels=0), "no elements"),
        ("choose-strassen", _linear(rows=1), "a direct sum is as fast"),
        ("choose-strassen", _linear(depth=64), "a direct sum is as fast"),
        ("choose-strassen", _linear(dtype="f16"), "whose rounding would show"),
        ("choose-strassen", _linear(strassen=26), "chosen already"),
        ("choose-strassen", _linear().replace('constant {key="w"}', "input"), "while the model"),
        ("choose-strassen{largest=0}", _linear(), "larger than may grow"),
    ],
)
def test_refuses(pass_: str, text: str, reason: str, check_refuses: Check) -> None:
    check_refuses(pass_, text, reason=reason)


NORM = """%h = reshape %y {shape=[128,8,64]}
%q = mul %h, %h
%s = sum %q {axes=[2], keepdims=true}
%n = sqrt %s
%m = clamp %n {low=1e-12}
"""
LENGTHS = {
    "reciprocal": NORM + "%i = reciprocal %m\n%z = mul %h, %i\nreturn %z",
    "division": NORM + "%z = div %h, %m\nreturn %z",
    "root": NORM.replace("%n = sqrt %s", "%n = abs %s")
    + "%i = rsqrt %m\n%z = mul %h, %i\nreturn %z",
}
SUMS = {
    "beside others": "%r = input : f32[128,512]\n%a = add %y, %r\n"
    "%s = sum %a {axes=[1], keepdims=true}\n%z = div %a, %s\nreturn %z",
    "not divided by": "%s = mean %y {axes=[1], keepdims=true}\n%z = sub %y, %s\nreturn %z",
    "with an epsilon": '%g = constant {key="g"} : f32[512]\n'
    "%z = layer_norm %y, %g, %g {axes=1, eps=1e-05}\nreturn %z",
}


@pytest.mark.parametrize("follows", LENGTHS.values(), ids=LENGTHS)
def test_refuses_what_is_divided_by_its_own_length(follows: str, check_refuses: Check) -> None:
    """As in cosine attention: a row of zeros, a border say, would become one of noise."""
    text = _linear().replace("return %y", follows)
    check_refuses("choose-strassen", text, reason="divided by its own size")


@pytest.mark.parametrize("follows", SUMS.values(), ids=SUMS)
def test_chooses_it_before_other_sums(follows: str, check_pass: Check) -> None:
    first, *rest = follows.split("\n") if "input" in follows else ("", follows)
    inputs = f"{first}\n" if first else ""
    before, after = (
        inputs + _linear(strassen=s).replace("return %y", "\n".join(rest)) for s in (0, 26)
    )
    check_pass("choose-strassen", before, after)


def test_cost_streams_weights_where_rows_are_few() -> None:
    few, many = Shape(4, 4096, 4096), Shape(512, 4096, 4096)
    assert all(few.cost(s) > few.direct_cost() for s in SCHEMES.values())
    assert many.cost(SCHEMES[7]) < 0.9 * many.direct_cost()


def test_takes_the_scheme_that_costs_least() -> None:
    """More parts save more products and cost more sums."""
    assert Shape(128, 768, 768).fastest() == 26
    assert Shape(512, 768, 1152).fastest() == 26
    assert Shape(512, 1026, 1056).fastest() == 15
    assert Shape(512, 1022, 1024).fastest() == 7
    assert Shape(512, 1021, 1024).fastest() == 0


def test_sums_cost_more_where_they_leave_the_level_2_cache() -> None:
    """Measured with 512 KiB: 784 rows of 128 x 512 take 1.07 times as long by 26 products, 128 rows
    of 768 x 3072 0.86 times."""
    assert Shape(784, 128, 512).fastest() == 26
    assert Shape(784, 128, 512, 512 << 10).fastest() == 0
    assert Shape(128, 768, 3072, 512 << 10).fastest() == 26


def test_the_cache_is_the_targets_unless_it_is_told() -> None:
    graph = parse(_linear(784, 128, 512), fill=random_constant)
    small = replace(TARGETS["x86-64-v4"], l2_bytes=512 << 10)
    for target, told, chosen in (
        (small, 0, 0),
        (small, 1 << 20, 26),
        (TARGETS["x86-64-v4"], 0, 26),
    ):
        after = ChooseStrassen(cache_bytes=told).run(graph, PassContext(target=target))
        (linear,) = (n for n in after.nodes if n.op.name == "linear")
        assert linear.attrs.strassen == chosen


def test_few_columns_may_be_left_over() -> None:
    """A vocabulary of 50257 words: all but 17 by the scheme."""
    assert Shape(128, 768, 50257).fastest() == 26
    assert Shape(512, 1023, 1024).fastest() == 15
    assert Shape(512, 768, 80).fitting() == [7, 26]
    assert Shape(512, 768, 79).fitting() == []


def test_columns_that_are_left_over_cost_a_direct_sum() -> None:
    whole, more = Shape(512, 768, 1024), Shape(512, 768, 1041)
    rest = Shape(512, 768, 17).direct_cost()
    assert more.cost(SCHEMES[26]) == pytest.approx(whole.cost(SCHEMES[26]) + rest)


def test_parts_that_no_vector_divides_cost_more() -> None:
    """75 of 150 channels are four vectors and three shorter ones."""
    ragged, whole = Shape(4096, 256, 150), Shape(4096, 256, 160)
    ratios = [s.cost(SCHEMES[7]) / s.direct_cost() for s in (ragged, whole)]
    assert ratios[0] > 1.1 * ratios[1]


def test_fires_on_a_traced_module() -> None:
    module = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    result, rewrites = fires("choose-strassen", traced(module, randn(1, 196, 256)))
    assert rewrites == 1
    assert attribute(result, "linear", "strassen") == [26, 0]
