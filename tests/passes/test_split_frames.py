"""split-frames: convolutions over frames as sums of convolutions of images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graphopt_passes.pipelines import text
from real_graphs import attribute, count, fires, traced
from torch import nn, randn

from graphopt.pipeline import Pipeline

Check = Callable[..., object]


def _conv(
    c: int = 32, o: int = 32, size: int = 24, taps: int = 3, kernel: int = 3, n: int = 1,
    pad: int = 0, stride: int = 1, groups: int = 1,
) -> str:  # fmt: skip
    body = f"%x = input : f32[{n},{c},5,{size},{size}]\n"
    body += f'%w = constant {{key="w"}} : f32[{o},{c // groups},{taps},{kernel},{kernel}]\n'
    body += f'%b = constant {{key="b"}} : f32[{o}]\n%y = conv %x, %w, %b {{stride=[1,{stride},1], '
    body += f"padding=[[0,0],[0,0],[{pad},0]], dilation=[1,1,1], groups={groups}}}\n"
    return body + "return %y"


@pytest.mark.parametrize("taps", [2, 3])
def test_every_frame_of_the_kernel_is_an_image(taps: int) -> None:
    from graphopt.check import check_pass, random_constant
    from graphopt.ir.text import parse

    graph = check_pass("split-frames", parse(_conv(taps=taps), fill=random_constant))
    found = count(graph)
    assert (found["conv"], found["slice"], found["add"]) == (taps, taps, taps - 1)
    assert all(n.operands[1].type.rank == 4 for n in graph.nodes if n.op.name == "conv")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_conv(n=2), "not one sequence of frames"),
        (_conv(taps=1), "not one of several frames of 3x3"),
        (_conv(kernel=5), "not one of several frames of 3x3"),
        (_conv(pad=1), "groups, steps, dilation or padding"),
        (_conv(stride=2), "groups, steps, dilation or padding"),
        (_conv(groups=2), "groups, steps, dilation or padding"),
        (_conv().replace('constant {key="w"}', "input"), "weights are computed at run time"),
        (_conv(c=3), "a direct sum is as fast"),
        (_conv(c=512, o=512, size=4), "a direct sum is as fast"),
    ],
)
def test_refusals(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("split-frames", body, reason)


def test_a_traced_module_gets_winograds_algorithm() -> None:
    module = nn.Sequential(nn.Conv3d(32, 32, 3, padding=1), nn.ReLU())
    graph = traced(module, randn(1, 32, 4, 20, 20))
    _, rewrites = fires("split-frames", Pipeline.parse("explicit-padding").run(graph))
    assert rewrites == 1
    whole = Pipeline.parse(text("O2")).run(graph)
    chosen = [w for r in whole.nodes if r.body for w in attribute(r.body, "conv", "winograd")]
    assert chosen == [4, 4, 4]
