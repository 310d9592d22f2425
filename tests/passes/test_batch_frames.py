"""batch-frames: images in place of frames, where no convolution looks from one to the next."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graphopt_passes.pipelines import text
from modules import Conv3dNet
from real_graphs import attribute, fires, traced
from torch import randn

from graphopt.ir.graph import Graph
from graphopt.pipeline import Pipeline

Check = Callable[..., object]

SPATIAL = "{stride=[1,1,1], padding=[[0,0],[1,1],[0,1]], dilation=[1,1,1]}"
FRAMES = f"""
  %x = input : f32[2,3,4,5,6]
  %w = constant {{key="w"}} : f32[7,3,1,3,3]
  %b = constant {{key="b"}} : f32[7]
  %y = conv %x, %w, %b {SPATIAL}
  return %y"""


def test_frames_become_images(check_pass: Check) -> None:
    result = check_pass("batch-frames", FRAMES)
    assert isinstance(result, Graph)
    (conv,) = (n for n in result.nodes if n.op.name == "conv")
    assert conv.result.type.shape == (8, 7, 5, 5)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (FRAMES.replace("[7,3,1,3,3]", "[7,3,2,3,3]"), "mixes frames"),
        (FRAMES.replace("[[0,0],", "[[1,0],"), "mixes frames"),
        (FRAMES.replace("[7,3,1,3,3]", "[7,3,1,1,1]"), "only dense 3x3"),
        (FRAMES.replace("stride=[1,1,1]", "stride=[1,2,2]"), "only dense 3x3"),
        (FRAMES.replace('constant {key="w"}', "input"), "computed at run time"),
        (FRAMES.replace("[2,3,4,5,6]", "[2,3,5,6]").replace("[7,3,1,3,3]", "[7,3,3,3]").replace(
            SPATIAL, "{stride=[1,1], padding=[[1,1],[0,1]], dilation=[1,1]}"), "frames, h, w"),
    ],
)  # fmt: skip
def test_refuses(graph: str, reason: str, check_refuses: Check) -> None:
    check_refuses("batch-frames", graph, reason=reason)


def test_a_video_model_gets_winograds_algorithm() -> None:
    before, after = text("O2").split(",batch-frames,")
    graph = Pipeline.parse(before).run(traced(Conv3dNet(32, 4), randn(1, 3, 8, 48, 48)))
    result, rewrites = fires("batch-frames", graph)
    assert rewrites == 1
    chosen = Pipeline.parse(after.split(",assign-layouts")[0]).run(result)
    # and the first layer, by space-to-depth
    assert sum(bool(w) for w in attribute(chosen, "conv", "winograd")) == 2
