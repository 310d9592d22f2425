"""Models with convolutions that reach along one axis alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _conv_norm(inputs: int, outputs: int, *size: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, padding=tuple(s // 2 for s in size), bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class InceptionBlock(nn.Module):
    """One of the four of Inception-v3 at 17 pixels [Szegedy 2015]. x: [n, 768, h, w]."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.pixel = _conv_norm(768, 192, 1, 1)
        self.cross = nn.Sequential(
            _conv_norm(768, wide, 1, 1), _conv_norm(wide, wide, 1, 7), _conv_norm(wide, 192, 7, 1)
        )
        self.twice = nn.Sequential(
            _conv_norm(768, wide, 1, 1), _conv_norm(wide, wide, 7, 1), _conv_norm(wide, wide, 1, 7),
            _conv_norm(wide, wide, 7, 1), _conv_norm(wide, 192, 1, 7),
        )  # fmt: skip
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), _conv_norm(768, 192, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.pixel(x), self.cross(x), self.twice(x), self.pooled(x)], 1)


def inception() -> nn.Module:
    """The middle of Inception-v3. x: [n, 768, h, w]."""
    return nn.Sequential(*(InceptionBlock(wide) for wide in (128, 160, 160, 192)))


class _Factored(nn.Module):
    """Two 3x3 convolutions as four along lines, and a shortcut. x: [n, channels, h, w]."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        d = dilation
        self.first = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.second = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.third = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.fourth = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.second(F.relu(self.first(x)))))
        return F.relu(self.norms[1](self.fourth(F.relu(self.third(y)))) + x)


class _Shrink(nn.Module):
    """Half the size, by a convolution and a pool side by side. x: [n, inputs, h, w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, 2, 1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([self.conv(x), F.max_pool2d(x, 2)], 1)))


def erfnet(classes: int = 20) -> nn.Module:
    """ERFNet [Romera 2017], half of its blocks, segmenting a road. x: [n, 3, h, w]."""
    deep = [_Factored(128, dilation) for dilation in (2, 4, 8, 16)]
    grow = [nn.ConvTranspose2d(i, o, 3, 2, 1, 1) for i, o in ((128, 64), (64, 16))]
    return nn.Sequential(
        _Shrink(3, 16), _Shrink(16, 64), _Factored(64, 1), _Factored(64, 1), _Shrink(64, 128),
        *deep, grow[0], nn.BatchNorm2d(64), nn.ReLU(), _Factored(64, 1), grow[1],
        nn.BatchNorm2d(16), nn.ReLU(), _Factored(16, 1), nn.ConvTranspose2d(16, classes, 2, 2),
    )  # fmt: skip
