"""compose-products: one product where two stand in a row, unless that is more work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from torch import Tensor, nn, randn

from graphopt.ir.graph import Graph

Check = Callable[..., object]

ONE = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"
LINEARS = """
  %x = input : f32[2,5,3]
  %v = constant {key="v"} : f32[4,3]
  %c = constant {key="c"} : f32[4]
  %w = constant {key="w"} : f32[6,4]
  %b = constant {key="b"} : f32[6]
  %a = linear %x, %v, %c
  %y = linear %a, %w, %b
  return %y"""
CONVS = f"""
  %x = input : f32[2,4,7,7]
  %v = constant {{key="v"}} : f32[8,4,3,3]
  %c = constant {{key="c"}} : f32[8]
  %w = constant {{key="w"}} : f32[5,8,1,1]
  %a = conv %x, %v, %c {{stride=[2,2], padding=[[1,1],[1,1]], dilation=[1,1]}}
  %y = conv %a, %w {ONE}
  return %y"""
ROWS = f"""
  %x = input : f32[2,6,3]
  %v = constant {{key="v"}} : f32[4,3]
  %w = constant {{key="w"}} : f32[5,4,1,1]
  %b = constant {{key="b"}} : f32[5]
  %a = linear %x, %v
  %t = transpose %a {{perm=[0,2,1]}}
  %i = reshape %t {{shape=[2,4,2,3]}}
  %y = conv %i, %w, %b {ONE}
  return %y"""


@pytest.mark.parametrize(("graph", "op"), [(LINEARS, "linear"), (CONVS, "conv"), (ROWS, "conv")])
def test_composes(graph: str, op: str, check_pass: Check) -> None:
    result = check_pass("compose-products", graph)
    assert isinstance(result, Graph)
    assert [n.op.name for n in result.nodes if n.op.kind == "contraction"] == [op]


@pytest.mark.parametrize("without", [", %c", ", %b"])
def test_either_bias_is_enough(without: str, check_pass: Check) -> None:
    result = check_pass("compose-products", LINEARS.replace(without, ""))
    assert isinstance(result, Graph)
    (product,) = (n for n in result.nodes if n.op.name == "linear")
    assert len(product.operands) == 3


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (LINEARS.replace("f32[4,3]", "f32[1,3]").replace("f32[6,4]", "f32[6,1]").replace(
            "f32[4]", "f32[1]"), "3 to 1 to 6 channels is less work in two steps"),
        (LINEARS.replace("f32[4,3]", "f32[0,3]").replace("f32[6,4]", "f32[6,0]").replace(
            "f32[4]", "f32[0]"), "3 to 0 to 6 channels is less work in two steps"),
        (LINEARS.replace("return %y", "return %y, %a"), "read elsewhere too"),
        (LINEARS.replace("return %y", "return %y, %w"), "the weights are shared"),
        (LINEARS.replace('constant {key="v"}', "input"), "computed at run time"),
        (LINEARS.replace("%a = linear %x, %v, %c", "%l = linear %x, %v, %c\n%a = relu %l"),
         "its input is not a linear"),
        (CONVS.replace("[5,8,1,1]", "[5,8,3,3]"), "not a 1x1 convolution"),
        (CONVS.replace("stride=[1,1]", "stride=[2,2]"), "not a 1x1 convolution"),
        (CONVS.replace("padding=[[1,1],[1,1]], dilation=[1,1]",
                       "padding=[[1,1],[1,1]], dilation=[1,1], groups=2").replace(
            "f32[8,4,3,3]", "f32[8,2,3,3]"), "has groups"),
        (ROWS.replace("return %y", "return %y, %i"), "no image of a linear's rows"),
        (ROWS.replace("f32[2,6,3]", "f32[2,8,3]").replace("shape=[2,4,2,3]", "shape=[2,8,2,2]")
         .replace("f32[5,4,1,1]", "f32[5,8,1,1]"), "no image of a linear's rows"),
    ],
)  # fmt: skip
def test_refuses(graph: str, reason: str, check_refuses: Check) -> None:
    check_refuses("compose-products", graph, reason=reason)


class Embedded(nn.Module):
    """A stem without an activation, and tokens that are projected twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.widen = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 1)
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 12)

    def forward(self, image: Tensor) -> Tensor:
        tokens = torch.relu(self.widen(self.stem(image))).flatten(2).transpose(1, 2)
        return self.second(self.first(tokens))


def test_fires_on_a_module() -> None:
    result, rewrites = fires("compose-products", traced(Embedded(), randn(1, 3, 16, 16)))
    assert rewrites == 2
    assert count(result)["linear"] == count(result)["conv"] == 1
