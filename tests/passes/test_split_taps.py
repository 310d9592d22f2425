"""split-taps: convolutions of many taps as ones of few, over moved copies of their input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphopt_passes.algorithm.split_taps import parted
from real_graphs import count, tiles_behind
from torch import nn, randn

from graphopt.check import check_pass, random_constant
from graphopt.ir.text import parse

Check = Callable[..., object]


def _conv(
    extents: str = "38,40", kernel: str = "5,5", dilation: str = "1,1", c: int = 32, o: int = 32,
    stride: int = 1, pad: int = 0, groups: int = 1, n: int = 1, dtype: str = "f32",
) -> str:  # fmt: skip
    axes = extents.split(",")
    padding, steps = (",".join([e] * len(axes)) for e in (f"[{pad},0]", str(stride)))
    body = f"%x = input : {dtype}[{n},{c},{extents}]\n"
    body += f'%w = constant {{key="w"}} : {dtype}[{o},{c // groups},{kernel}]\n'
    body += f'%b = constant {{key="b"}} : {dtype}[{o}]\n%y = conv %x, %w, %b {{stride=[{steps}], '
    body += f"padding=[{padding}], dilation=[{dilation}], groups={groups}}}\n"
    return body + "return %y"


@pytest.mark.parametrize(
    ("conv", "parts"),
    [
        (_conv(), 4),
        (_conv(n=2), 4),
        (_conv(kernel="6,6"), 4),
        (_conv("40,40", "7,7", c=3), 4),
        (_conv("40,42", "9,9", c=8), 9),
        (_conv("44,45", dilation="2,3"), 4),
        (_conv("803", "7", "1"), 2),
        (_conv("803", "11", "5"), 3),
    ],
)
def test_the_channels_are_what_parts_reach(conv: str, parts: int) -> None:
    graph = check_pass("split-taps", parse(conv, fill=random_constant))
    found = count(graph)
    assert (found["conv"], found["concat"], found["slice"]) == (1, 1, parts)
    assert {d for n in graph.nodes if n.op.name == "conv"
            for d in n.operands[1].type.dims[2:]} <= {2, 3, 4}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_conv(kernel="4,4"), "its taps are few"),
        (_conv(kernel="5,7"), "its axes differ"),
        (_conv("9,38,40", "5,5,5", "1,1,1"), "not a sequence or an image"),
        (_conv(dtype="f16"), "not a sequence or an image of f32"),
        (_conv(stride=2), "groups, steps or padding"),
        (_conv(pad=1), "groups, steps or padding"),
        (_conv(groups=2), "groups, steps or padding"),
        (_conv().replace('constant {key="w"}', "input"), "weights are computed at run time"),
        (_conv(o=3), "a direct sum is as fast"),
        (_conv("6,6", c=512, o=512), "a direct sum is as fast"),
    ],
)
def test_refusals(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("split-taps", body, reason)


def test_refuses_what_is_divided_by_its_own_length(check_refuses: Check) -> None:
    norm = "%q = mul %y, %y\n%s = sum %q {axes=[1], keepdims=true}\n%i = rsqrt %s\n%z = mul %y, %i"
    body = _conv().replace("return %y", f"{norm}\nreturn %z")
    check_refuses("split-taps", body, "divided by its own size")


def test_weights_lie_as_the_parts_do() -> None:
    """Tap 3 p + t is tap t of part p; what the last part lacks is 0."""
    w = np.arange(2 * 3 * 5 * 5).reshape(2, 3, 5, 5) + 1
    got = parted(w, 3).reshape(2, 2, 2, 3, 3, 3)
    for p in range(2):
        for q in range(2):
            part = w[:, :, 3 * p : 3 * p + 3, 3 * q : 3 * q + 3]
            np.testing.assert_array_equal(got[:, p, q, :, : part.shape[2], : part.shape[3]], part)
    assert not got[:, 1, :, :, 2].any()
    assert not got[:, :, 1, :, :, 2].any()


@pytest.mark.parametrize(
    ("module", "extents"),
    [(nn.Conv2d(32, 32, 5, padding=2), (40, 40)), (nn.Conv1d(64, 64, 7, padding=3), (1600,))],
)
def test_a_traced_module_gets_winograds_algorithm(
    module: nn.Conv2d, extents: tuple[int, ...]
) -> None:
    activated, x = nn.Sequential(module, nn.ReLU()), randn(1, module.in_channels, *extents)
    (tile,) = tiles_behind("split-taps", activated, x)
    assert tile > 0
