"""Bugs in what is chosen for speed: convolutions for Winograd's algorithm, norms by channels."""

from __future__ import annotations

from graphopt_passes.algorithm import drop_axes, space_to_depth, split_frames, split_taps
from graphopt_passes.legalize import decompose_group_norm
from graphopt_passes.recipes import Make, make
from planting import Bugs

from graphopt.ir.graph import Value
from graphopt.ops import ReshapeAttrs

BUGS = Bugs()
plant = BUGS.plant


_split_frames = split_frames._frames
plant(
    "every image the first one",
    "split-frames",
    split_frames,
    "_frames",
    lambda batch, start, count: _split_frames(batch, 0, count),
    """%x = input : f32[1,32,3,24,24]
%w = constant {key="w"} : f32[16,32,2,3,3]
%y = conv %x, %w {stride=[1,1,1], padding=[[0,0],[0,0],[0,0]], dilation=[1,1,1]}
return %y""",
)


def _rows_for_channels(x: Value, _: int) -> Make:
    n, c, h, w = x.type.dims
    return make("reshape", x, attrs=ReshapeAttrs((n * h, c, w)))


plant(
    "rows in the place of channels",
    "drop-axes",
    drop_axes,
    "_lines",
    _rows_for_channels,
    """%x = input : f32[1,96,17,23]
%w = constant {key="w"} : f32[96,96,1,7]
%y = conv %x, %w {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}
return %y""",
)
_turned = space_to_depth.turned
plant(
    "weights of another phase",
    "space-to-depth",
    space_to_depth,
    "turned",
    lambda weights, step: _turned(weights[..., ::-1], step),
    """%x = input : f32[1,32,34,34]
%w = constant {key="w"} : f32[64,32,4,4]
%y = conv %x, %w {stride=[2,2], padding=[[0,0],[0,0]], dilation=[1,1]}
return %y""",
)
_parted = split_taps.parted
plant(
    "taps in another order",
    "split-taps",
    split_taps,
    "parted",
    lambda weights, few: _parted(weights[..., ::-1], few),
    """%x = input : f32[1,32,38,38]
%w = constant {key="w"} : f32[32,32,5,5]
%y = conv %x, %w {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}
return %y""",
)
plant(
    "the variance of a group without that of its channels' means",
    "decompose-group-norm",
    decompose_group_norm._Norm,
    "_spread",
    lambda self, variance, apart: variance,
    '%x = input : f32[1,6,4,4]\n%w = constant {key="w"} : f32[6]\n'
    '%b = constant {key="b"} : f32[6]\n%y = group_norm %x, %w, %b {groups=2, eps=1e-05}\n'
    "return %y",
)
