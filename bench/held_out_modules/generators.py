"""Models that make images, volumes and sound."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def dcgan(width: int = 64) -> nn.Module:
    """The generator of DCGAN [Radford 2015]. z: [n, 100, 1, 1] -> [n, 3, 64, 64]."""
    layers: list[nn.Module] = []
    inputs = 100
    for at, outputs in enumerate((8 * width, 4 * width, 2 * width, width)):
        layers.append(
            nn.ConvTranspose2d(inputs, outputs, 4, 2 if at else 1, 1 if at else 0, bias=False)
        )
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.ConvTranspose2d(inputs, 3, 4, 2, 1), nn.Tanh())


class StyleTransfer(nn.Module):
    """Fast style transfer [Johnson 2016]: instance norms, reflected borders. x: [n, 3, h, w]."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, k, s, k // 2, padding_mode="reflect")
            for a, b, k, s in ((3, 32, 9, 1), (32, 64, 3, 2), (64, 128, 3, 2))
        )
        self.body = nn.ModuleList(
            nn.Conv2d(128, 128, 3, 1, 1, padding_mode="reflect") for _ in range(6)
        )
        self.up = nn.ModuleList((nn.Conv2d(128, 64, 3, 1, 1), nn.Conv2d(64, 32, 3, 1, 1)))
        self.out = nn.Conv2d(32, 3, 9, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.down:
            x = F.relu(F.instance_norm(conv(x)))
        for first, second in zip(self.body[::2], self.body[1::2], strict=True):
            x = x + F.instance_norm(second(F.relu(F.instance_norm(first(x)))))
        for conv in self.up:
            x = F.relu(F.instance_norm(conv(F.interpolate(x, scale_factor=2.0))))
        return self.out(x)


class SuperResolution(nn.Module):
    """EDSR-like [Lim 2017], with a pixel shuffle. x: [n, 3, h, w] -> [n, 3, 2h, 2w]."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width), nn.Conv2d(width, width, 3, 1, 1)
            )
            for _ in range(depth)
        )
        self.up = nn.Sequential(nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2))
        self.tail = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.head(x)
        for block in self.body:
            y = y + block(y)
        return self.tail(self.up(x + y))


class PixelGenerator(nn.Module):
    """The generator of pix2pix [Isola 2016]: a U-Net with transposed convolutions."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = (3, width, 2 * width, 4 * width, 8 * width, 8 * width, 8 * width)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(w))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(w[at] * (1 if at == 6 else 2), w[at - 1] if at > 1 else 3, 4, 2, 1)
            for at in range(6, 0, -1)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for conv in self.down:
            x = F.leaky_relu(conv(x), 0.2)
            kept.append(x)
        kept.pop()
        for conv in self.up:
            x = conv(F.relu(x))
            if kept:
                x = torch.cat((x, kept.pop()), 1)
        return torch.tanh(x)


class VolumeNet(nn.Module):
    """A 3-D U-Net [Cicek 2016] of two levels. x: [n, 1, depth, h, w] -> [n, 3, depth, h, w]."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        double = lambda a, b: nn.Sequential(  # noqa: E731
            nn.Conv3d(a, b, 3, padding=1), nn.ReLU(), nn.Conv3d(b, b, 3, padding=1), nn.ReLU()
        )
        self.first, self.second = double(1, 2 * w), double(2 * w, 4 * w)
        self.up = nn.ConvTranspose3d(4 * w, 2 * w, 2, 2)
        self.third = double(4 * w, 2 * w)
        self.head = nn.Conv3d(2 * w, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.first(x)
        x = self.up(self.second(F.max_pool3d(kept, 2)))
        return self.head(self.third(torch.cat((kept, x), 1)))


class HiFiGan(nn.Module):
    """A vocoder of transposed and dilated 1-D convolutions [Kong 2020]. x: [n, 80, frames]."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.stem = nn.Conv1d(80, width, 7, 1, 3)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for factor in (8, 8, 2):
            self.ups.append(nn.ConvTranspose1d(width, width // 2, 2 * factor, factor, factor // 2))
            width //= 2
            self.blocks.append(nn.ModuleList(
                nn.Conv1d(width, width, 3, 1, d, dilation=d) for d in (1, 3, 5)
            ))  # fmt: skip
        self.out = nn.Conv1d(width, 1, 7, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            for conv in block:
                x = x + conv(F.leaky_relu(x, 0.1))
        return torch.tanh(self.out(F.leaky_relu(x)))
