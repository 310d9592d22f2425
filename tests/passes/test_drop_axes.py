"""drop-axes: convolutions of images along one axis alone as convolutions of lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, tiles_behind
from torch import nn, randn

from graphopt.check import check_pass, random_constant
from graphopt.ir.text import parse
from graphopt.ops import ConvAttrs

Check = Callable[..., object]


def _conv(
    extents: str = "17,23", kernel: str = "1,7", dilation: str = "1,1", c: int = 96, o: int = 96,
    stride: str = "1,1", pad: int = 0, groups: int = 1, n: int = 1, dtype: str = "f32",
) -> str:  # fmt: skip
    padding = ",".join([f"[{pad},0]"] * len(extents.split(",")))
    body = f"%x = input : {dtype}[{n},{c},{extents}]\n"
    body += f'%w = constant {{key="w"}} : {dtype}[{o},{c // groups},{kernel}]\n'
    body += f'%b = constant {{key="b"}} : {dtype}[{o}]\n%y = conv %x, %w, %b {{stride=[{stride}], '
    body += f"padding=[{padding}], dilation=[{dilation}], groups={groups}}}\n"
    return body + "return %y"


@pytest.mark.parametrize(
    ("conv", "batch", "dilation"),
    [
        (_conv(), 17, 1),
        (_conv(n=2), 34, 1),
        (_conv(kernel="1,3"), 17, 1),
        (_conv("17,41", dilation="2,3"), 17, 3),
        (_conv("23,17", "7,1"), 1, 17),
        (_conv("23,17", "7,1", n=2), 2, 17),
        (_conv("23,17", "3,1", "2,3"), 1, 34),
        (_conv("23,16", "4,1"), 1, 16),
    ],
)
def test_what_is_left_is_a_line(conv: str, batch: int, dilation: int) -> None:
    """Rows are a batch; columns are an image's pixels a row apart."""
    graph = check_pass("drop-axes", parse(conv, fill=random_constant))
    (node,) = (n for n in graph.nodes if n.op.name == "conv")
    assert isinstance(node.attrs, ConvAttrs)
    assert (node.operands[0].type.dims[0], node.operands[0].type.rank) == (batch, 3)
    assert node.attrs.dilation == (dilation,)
    assert count(graph)["transpose"] == (2 if batch >= 17 else 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_conv(kernel="3,3"), "not of one pixel along one axis alone"),
        (_conv(kernel="1,1"), "not of one pixel along one axis alone"),
        (_conv("9,17,23", "1,1,7", "1,1,1", stride="1,1,1"), "not an image"),
        (_conv(dtype="f16"), "not an image of f32"),
        (_conv(stride="2,1"), "groups, steps or padding"),
        (_conv(pad=1), "groups, steps or padding"),
        (_conv(groups=2), "groups, steps or padding"),
        (_conv().replace('constant {key="w"}', "input"), "weights are computed at run time"),
        (_conv(o=3), "a direct sum is as fast"),
        (_conv("4,8", "1,7", c=512, o=512), "a direct sum is as fast"),
    ],
)
def test_refusals(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("drop-axes", body, reason)


def test_refuses_what_is_divided_by_its_own_length(check_refuses: Check) -> None:
    norm = "%q = mul %y, %y\n%s = sum %q {axes=[1], keepdims=true}\n%i = rsqrt %s\n%z = mul %y, %i"
    body = _conv().replace("return %y", f"{norm}\nreturn %z")
    check_refuses("drop-axes", body, "divided by its own size")


@pytest.mark.parametrize(("kernel", "padding"), [((1, 7), (0, 3)), ((7, 1), (3, 0)), ((3, 1), 0)])
def test_a_traced_module_gets_winograds_algorithm(
    kernel: tuple[int, int], padding: tuple[int, int] | int
) -> None:
    module = nn.Sequential(nn.Conv2d(64, 64, kernel, padding=padding), nn.ReLU())
    (tile,) = tiles_behind("drop-axes", module, randn(1, 64, 17, 17))
    assert tile > 0
