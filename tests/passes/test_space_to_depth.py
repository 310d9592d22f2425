"""space-to-depth: convolutions with steps as convolutions without, over phases of pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphopt_passes.algorithm.space_to_depth import turned
from real_graphs import attribute, count, tiles_behind
from torch import nn, randn

from graphopt.check import check_pass, random_constant
from graphopt.ir.text import parse

Check = Callable[..., object]


def _conv(
    extents: str = "34,34", kernel: str = "4,4", stride: str = "2,2", c: int = 32, o: int = 64,
    pad: int = 0, dilation: str = "1,1", groups: int = 1, n: int = 1, dtype: str = "f32",
) -> str:  # fmt: skip
    padding = ",".join(f"[{pad},0]" for _ in extents.split(","))
    body = f"%x = input : {dtype}[{n},{c},{extents}]\n"
    body += f'%w = constant {{key="w"}} : {dtype}[{o},{c // groups},{kernel}]\n'
    body += f'%b = constant {{key="b"}} : {dtype}[{o}]\n%y = conv %x, %w, %b {{stride=[{stride}], '
    body += f"padding=[{padding}], dilation=[{dilation}], groups={groups}}}\n"
    return body + "return %y"


@pytest.mark.parametrize(
    ("conv", "added"),
    [
        (_conv(), ()),
        (_conv(n=3), ()),
        (_conv("35,36"), ("slice",)),
        (_conv("34,37", "5,5"), ("pad",)),
        (_conv("64,65", "7,7", c=3), ("pad",)),
        (_conv("81,82", "10,10", "4,4", c=8), ("pad", "slice")),
        (_conv("402", "4", "2", dilation="1"), ()),
        (_conv("1605", "16", "8", dilation="1"), ("slice",)),
    ],
)
def test_the_channels_are_phases(conv: str, added: tuple[str, ...]) -> None:
    graph = check_pass("space-to-depth", parse(conv, fill=random_constant))
    found = count(graph)
    assert (found["conv"], found["reshape"], found["transpose"]) == (1, 2, 1)
    assert (found["slice"], found["pad"]) == ("slice" in added, "pad" in added)
    assert {s for stride in attribute(graph, "conv", "stride") for s in stride} == {1}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("reach", [1, 3])
def test_frames_that_a_kernel_reaches_are_channels(reach: int, n: int) -> None:
    conv = _conv("6,64,64", f"{reach},7,7", "1,2,2", c=4, n=n, dilation="1,1,1")
    graph = check_pass("space-to-depth", parse(conv, fill=random_constant))
    found = count(graph)
    assert (found["conv"], found["concat"]) == (1, reach > 1)
    assert {n.operands[1].type.rank for n in graph.nodes if n.op.name == "conv"} == {4}
    assert {s for stride in attribute(graph, "conv", "stride") for s in stride} == {1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_conv("34,34", stride="1,1"), "its images have no step"),
        (_conv("34,34", stride="2,1"), "its axes differ"),
        (_conv("34,34", kernel="4,6"), "its axes differ"),
        (_conv("9,34,34", "4,4,4", "2,2,2", dilation="1,1,1"), "or frames have one"),
        (_conv("9,34,34", "4,4,4", "1,1,1", dilation="1,1,1"), "its images have no step"),
        (_conv("9,34,34", "4,4,4", "1,2,2", dilation="2,1,1"), "groups, dilation or padding"),
        (_conv("9,34,34", "4,3,3", "1,2,2", dilation="1,1,1"), "as it is it is as fast"),
        (_conv(dtype="f16"), "not of f32 and known extents"),
        (_conv(pad=1), "groups, dilation or padding"),
        (_conv(dilation="2,2"), "groups, dilation or padding"),
        (_conv(groups=2), "groups, dilation or padding"),
        (_conv(kernel="2,2"), "not of 2 to 4 taps"),
        (_conv(kernel="9,9"), "not of 2 to 4 taps"),
        (_conv().replace('constant {key="w"}', "input"), "weights are computed at run time"),
        (_conv(kernel="3,3"), "as it is it is as fast"),
        (_conv(c=512, o=512, extents="6,6"), "as it is it is as fast"),
        (_conv(c=16, o=3), "as it is it is as fast"),
    ],
)
def test_refusals(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("space-to-depth", body, reason)


def test_refuses_what_is_divided_by_its_own_length(check_refuses: Check) -> None:
    norm = "%q = mul %y, %y\n%s = sum %q {axes=[1], keepdims=true}\n%i = rsqrt %s\n%z = mul %y, %i"
    body = _conv().replace("return %y", f"{norm}\nreturn %z")
    check_refuses("space-to-depth", body, "divided by its own size")


def test_weights_lie_as_the_phases_do() -> None:
    """Pixel 2 y + p of an image is pixel y of phase p."""
    w = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    got = turned(w, 2).reshape(2, 2, 2, 3, 2, 2)
    for p in range(2):
        for q in range(2):
            np.testing.assert_array_equal(got[:, p, q], w[:, :, p::2, q::2])


@pytest.mark.parametrize(
    ("module", "extents", "tile"),
    [
        (nn.Conv2d(3, 64, 7, stride=2, padding=3), (64, 64), 3),
        (nn.Conv2d(32, 64, 4, stride=2, padding=1), (64, 64), 4),
        (nn.Conv1d(32, 64, 8, stride=4, padding=2), (1600,), 4),
        (nn.Conv3d(3, 32, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3)), (4, 64, 64), 3),
    ],
)
def test_a_traced_module_gets_winograds_algorithm(
    module: nn.Conv2d, extents: tuple[int, ...], tile: int
) -> None:
    activated, x = nn.Sequential(module, nn.ReLU()), randn(1, module.in_channels, *extents)
    assert tiles_behind("space-to-depth", activated, x) == [tile]
