"""linear-to-conv: products at every pixel beside depthwise convolutions, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from graphopt_passes.pipelines import text
from real_graphs import count, fires, traced
from torch import Tensor, nn, randn

from graphopt.ir.graph import Graph
from graphopt.pipeline import Pipeline

Check = Callable[..., object]

DEPTHWISE = "{stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1], groups=4, winograd=0}"
POINTWISE = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], groups=1, winograd=0}"
HEAD = """
  %x = input : f32[2,6,3]
  %w = constant {key="w"} : f32[4,3]
  %b = constant {key="b"} : f32[4]
  %k = constant {key="k"} : f32[4,1,3,3]"""
READ = f"""{HEAD}
  %y = linear %x, %w, %b
  %t = transpose %y {{perm=[0,2,1]}}
  %i = reshape %t {{shape=[2,4,2,3]}}
  %c = conv %i, %k {DEPTHWISE}
  return %c"""
MADE = f"""
  %x = input : f32[2,4,2,3]
  %w = constant {{key="w"}} : f32[3,4]
  %k = constant {{key="k"}} : f32[4,1,3,3]
  %c = conv %x, %k {DEPTHWISE}
  %g = relu %c
  %f = reshape %g {{shape=[2,4,6]}}
  %t = transpose %f {{perm=[0,2,1]}}
  %y = linear %t, %w
  return %y"""


def test_before_a_depthwise_convolution(check_pass: Check) -> None:
    result = check_pass("linear-to-conv", READ)
    assert isinstance(result, Graph)
    assert [n.op.name for n in result.nodes if n.op.name != "constant"] == [
        "transpose", "reshape", "conv", "reshape", "transpose", "transpose", "reshape", "conv",
    ]  # fmt: skip


def test_after_a_depthwise_convolution(check_pass: Check) -> None:
    result = check_pass("linear-to-conv", MADE)
    assert isinstance(result, Graph)
    assert count(result)["conv"] == 2
    assert count(result)["linear"] == 0


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (READ.replace('constant {key="w"}', "input"), "computed at run time"),
        (READ.replace("groups=4", "groups=1").replace("f32[4,1,3,3]", "f32[4,4,3,3]"),
         "no depthwise convolution"),
        (READ.replace("return %c", "return %c, %y"), "no depthwise convolution"),
        (READ.replace("[2,4,2,3]", "[1,8,2,3]").replace("groups=4", "groups=8").replace(
            "[4,1,3,3]", "[8,1,3,3]"), "no depthwise convolution"),
        (MADE.replace("%g = relu %c", "%g = add %c, %c"), "no depthwise convolution"),
        ("%x = input : f32[6,3]\n%w = constant {key=\"w\"} : f32[4,3]\n%y = linear %x, %w\n"
         "return %y", "not [n, pixels, channels]"),
    ],
)  # fmt: skip
def test_refuses(graph: str, reason: str, check_refuses: Check) -> None:
    check_refuses("linear-to-conv", graph, reason=reason)


class MixFeedForward(nn.Module):
    """As in SegFormer: linear, depthwise 3x3, gelu, linear, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project = nn.Linear(8, 16), nn.Linear(16, 8)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, tokens: Tensor) -> Tensor:
        n, pixels, _ = tokens.shape
        image = self.expand(tokens).transpose(1, 2).reshape(n, 16, 6, pixels // 6)
        mixed = self.depthwise(image).flatten(2).transpose(1, 2)
        return tokens + self.project(torch.nn.functional.gelu(mixed))


def test_a_feed_forward_becomes_three_convolutions_and_one_region() -> None:
    before = Pipeline.parse(text("O2").split(",linear-to-conv")[0]).run(
        traced(MixFeedForward(), randn(2, 42, 8))
    )
    result, rewrites = fires("linear-to-conv", before)
    assert rewrites == 2
    rest = text("O2").split(",linear-to-conv,")[1].replace("fuse-strips", "fuse-strips{least=-9.0}")
    planned = Pipeline.parse(rest).run(result)
    kinds = Counter(n.attrs.kind for n in planned.nodes if n.body is not None)  # type: ignore[attr-defined]
    assert kinds == {"strips": 1}
