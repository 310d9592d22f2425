"""hoist-products: products of few pixels in place of products of the many they become."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from graphopt_passes.pipelines import text
from real_graphs import count, fires, traced
from torch import Tensor, nn, randn
from torch.nn.functional import interpolate

from graphopt.ir.graph import Graph
from graphopt.pipeline import Pipeline

Check = Callable[..., object]

ONE = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"
HEAD = """
  %x = input : f32[2,48,2,3]
  %s = input : f32[2,4,8,8]
  %b = constant {key="b"} : f32[5]"""
ENLARGE = '%r = resize %x {size=[8,8], mode="bilinear"}'
SINGLE = f"""{HEAD}
  %w = constant {{key="w"}} : f32[5,48,1,1]
  {ENLARGE}
  %y = conv %r, %w, %b {ONE}
  return %y, %s"""
SEVERAL = f"""{HEAD}
  %z = input : f32[2,32,4,4]
  %t = input : f32[2,2,8,8]
  %w = constant {{key="w"}} : f32[5,86,1,1]
  {ENLARGE}
  %q = resize %z {{size=[8,8], mode="nearest"}}
  %i = concat %s, %r, %t, %q {{axis=1}}
  %y = conv %i, %w, %b {ONE}
  return %y"""
ALL = f"""{HEAD}
  %w = constant {{key="w"}} : f32[5,96,1,1]
  {ENLARGE}
  %z = exp %x
  %q = resize %z {{size=[8,8], mode="bicubic"}}
  %i = concat %r, %q {{axis=1}}
  %y = conv %i, %w, %b {ONE}
  return %y, %s"""


def test_a_resize_goes_behind(check_pass: Check) -> None:
    result = check_pass("hoist-products", SINGLE)
    assert isinstance(result, Graph)
    kinds = [n.op.name for n in result.nodes if n.op.name != "constant"]
    assert kinds == ["conv", "resize"]


def test_what_keeps_its_size_stays_one_product(check_pass: Check) -> None:
    result = check_pass("hoist-products", SEVERAL)
    assert isinstance(result, Graph)
    assert count(result)["conv"] == 3
    assert [len(n.operands) for n in result.nodes if n.op.name == "concat"] == [2]
    assert result.nodes[-1].op.name == "add"


def test_the_bias_is_added_once(check_pass: Check) -> None:
    result = check_pass("hoist-products", ALL)
    assert isinstance(result, Graph)
    assert [len(n.operands) for n in result.nodes if n.op.name == "conv"] == [3, 2]


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (SINGLE.replace("%r, %w", "%x, %w").replace("return %y", "return %r, %y"),
         "no enlarged image"),
        (SINGLE.replace("size=[8,8]", "size=[2,2]"), "no enlarged image"),
        (SINGLE.replace("return %y", "return %r, %y"), "no enlarged image"),
        (SINGLE.replace("f32[5,48", "f32[300,48").replace("f32[5]", "f32[300]").replace(
            "size=[8,8]", "size=[3,3]"), "enlarging its result takes longer"),
        (SINGLE.replace('constant {key="w"}', "input"), "computed at run time"),
        (SINGLE.replace("return %y", "return %w, %y"), "weights are shared"),
        (SINGLE.replace("[5,48,1,1]", "[5,48,2,2]"), "not a 1x1 convolution"),
        (SEVERAL.replace("return %y", "return %y, %i"), "read elsewhere too"),
        (f"""{HEAD}
  %w = constant {{key="w"}} : f32[5,48,1,1]
  {ENLARGE}
  %i = concat %r, %r {{axis=0}}
  %y = conv %i, %w, %b {ONE}
  return %y, %s""", "along other axes"),
    ],
)  # fmt: skip
def test_refuses(graph: str, reason: str, check_refuses: Check) -> None:
    check_refuses("hoist-products", graph, reason=reason)


class Decoder(nn.Module):
    """As in SegFormer: feature maps of several sizes, projected, enlarged, fused by one product."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(c, 16) for c in (8, 12, 16))
        self.fuse, self.norm = nn.Conv2d(48, 16, 1, bias=False), nn.BatchNorm2d(16)

    def forward(self, *maps: Tensor) -> Tensor:
        size = maps[0].shape[2:]
        wide = []
        for image, project in zip(maps, self.project, strict=True):
            n, _, h, w = image.shape
            tokens = project(image.flatten(2).transpose(1, 2))
            rows = tokens.transpose(1, 2).reshape(n, -1, h, w)
            wide.append(interpolate(rows, size=size, mode="bilinear", align_corners=False))
        return torch.relu(self.norm(self.fuse(torch.cat(wide[::-1], dim=1))))


def test_a_decoder_computes_each_map_at_its_own_size() -> None:
    maps = [randn(1, c, s, s) for c, s in ((8, 16), (12, 8), (16, 4))]
    before, after = text("O2").split(",hoist-products,")
    graph = Pipeline.parse(before).run(traced(Decoder(), *maps))
    result, rewrites = fires("hoist-products", graph)
    assert rewrites == 1
    assert count(result)["concat"] == 0
    final = Pipeline.parse(after.split(",assign-layouts")[0]).run(result)
    products = [n.result.type.shape[-1] for n in final.nodes if n.op.kind == "contraction"]
    assert sorted(products) == [4, 8, 16]  # the projections are in them
