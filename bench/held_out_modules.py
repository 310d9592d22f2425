"""Hand-written models of the held-out list: shapes that no model of the zoo has. Needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1,
    act: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:  # fmt: skip
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act())


def vgg(plan: Iterable[int | str] = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M")) -> nn.Module:
    """VGG-16 [Simonyan 2014] up to its third pooling, and a small head. x: [n, 3, h, w]."""
    layers: list[nn.Module] = []
    channels = 3
    for entry in plan:
        if isinstance(entry, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, entry, 3, padding=1), nn.ReLU()]
            channels = entry
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


class DenseNet(nn.Module):
    """DenseNet-121 [Huang 2016]. x: [n, 3, h, w]."""

    def __init__(self, growth: int = 32, depths: tuple[int, ...] = (6, 12, 24, 16)) -> None:
        super().__init__()
        channels = 64
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for at, depth in enumerate(depths):
            block = nn.ModuleList()
            for _ in range(depth):
                wide = 4 * growth
                block.append(nn.Sequential(
                    nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, wide, 1, bias=False),
                    nn.BatchNorm2d(wide), nn.ReLU(), nn.Conv2d(wide, growth, 3, 1, 1, bias=False),
                ))  # fmt: skip
                channels += growth
            self.blocks.append(block)
            last = at == len(depths) - 1
            half = channels if last else channels // 2
            tail = [nn.BatchNorm2d(channels), nn.ReLU()]
            if not last:
                tail += [nn.Conv2d(channels, half, 1, bias=False), nn.AvgPool2d(2)]
            self.transitions.append(nn.Sequential(*tail))
            channels = half
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            for layer in block:
                x = torch.cat((x, layer(x)), 1)
            x = transition(x)
        return self.head(x.mean((2, 3)))


class ResNeXt(nn.Module):
    """The stages of ResNeXt-50 32x4d [Xie 2016] at one or two blocks each. x: [n, 3, h, w]."""

    def __init__(self, depths: tuple[int, ...] = (1, 2, 2, 1)) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        channels = 64
        for stage, depth in enumerate(depths):
            width = 128 << stage
            for at in range(depth):
                stride = 2 if at == 0 and stage else 1
                blocks.append(ResNeXtBlock(channels, width, 2 * width, stride))
                channels = 2 * width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class ResNeXtBlock(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(inputs, width, 1), conv_norm(width, width, 3, stride, groups=32),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class ShuffleBlock(nn.Module):
    """A unit of ShuffleNetV2 [Ma 2018]: half the channels pass, then the halves interleave."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            conv_norm(half, half, 1), nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False),
            nn.BatchNorm2d(half), conv_norm(half, half, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        return F.channel_shuffle(torch.cat((kept, self.body(changed)), 1), 2)


def shufflenet() -> nn.Module:
    """x: [n, 3, h, w]."""
    layers: list[nn.Module] = [conv_norm(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 24
    for width, depth in ((116, 3), (232, 7), (464, 3)):
        layers += [conv_norm(channels, width, 1), conv_norm(width, width, 3, 2, groups=width)]
        layers += [ShuffleBlock(width) for _ in range(depth)]
        channels = width
    tail = [conv_norm(channels, 1024, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *tail, nn.Linear(1024, 1000))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(s)


class InvertedResidual(nn.Module):
    """A block of MobileNetV3 [Howard 2019], with hard-swish and squeeze-and-excite."""

    def __init__(self, inputs: int, wide: int, outputs: int, size: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(inputs, wide, 1, act=nn.Hardswish),
            conv_norm(wide, wide, size, stride, groups=wide, act=nn.Hardswish),
            SqueezeExcite(wide, wide // 4),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.residual else y


def mobilenet_v3() -> nn.Module:
    """MobileNetV3-like. x: [n, 3, h, w]."""
    rows = (
        (16, 64, 24, 3, 2), (24, 72, 24, 3, 1), (24, 72, 40, 5, 2), (40, 120, 40, 5, 1),
        (40, 240, 80, 3, 2), (80, 200, 80, 3, 1), (80, 184, 80, 3, 1), (80, 480, 112, 3, 1),
        (112, 672, 112, 3, 1), (112, 672, 160, 5, 2), (160, 960, 160, 5, 1), (160, 960, 160, 5, 1),
    )  # fmt: skip
    blocks = [InvertedResidual(*row) for row in rows]
    return nn.Sequential(
        conv_norm(3, 16, 3, 2, act=nn.Hardswish), *blocks, conv_norm(160, 960, 1, act=nn.Hardswish),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(960, 1280), nn.Hardswish(),
        nn.Linear(1280, 1000),
    )  # fmt: skip


class CrossStage(nn.Module):
    """A CSP block of YOLOv5, with SiLU."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        self.left = conv_norm(channels, half, 1, act=nn.SiLU)
        self.right = conv_norm(channels, half, 1, act=nn.SiLU)
        self.body = nn.ModuleList(
            nn.Sequential(conv_norm(half, half, 1, act=nn.SiLU), conv_norm(half, half, act=nn.SiLU))
            for _ in range(depth)
        )
        self.join = conv_norm(channels, channels, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        y = self.left(x)
        for layer in self.body:
            y = y + layer(y)
        return self.join(torch.cat((y, self.right(x)), 1))


class Yolo(nn.Module):
    """The backbone and the upper neck of a small YOLO. x: [n, 3, h, w] -> three maps."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        down = lambda a, b: conv_norm(a, b, 3, 2, act=nn.SiLU)  # noqa: E731
        self.stem = nn.Sequential(down(3, w), down(w, 2 * w))
        self.p3 = nn.Sequential(CrossStage(2 * w, 1), down(2 * w, 4 * w), CrossStage(4 * w, 2))
        self.p4 = nn.Sequential(down(4 * w, 8 * w), CrossStage(8 * w, 3))
        self.p5 = nn.Sequential(down(8 * w, 16 * w), CrossStage(16 * w, 1))
        self.pool = conv_norm(64 * w, 16 * w, 1, act=nn.SiLU)
        self.up = conv_norm(16 * w, 8 * w, 1, act=nn.SiLU)
        self.neck = CrossStage(16 * w, 1)
        self.heads = nn.ModuleList(nn.Conv2d(c * w, 255, 1) for c in (4, 16, 16))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        pooled = [p5]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        p5 = self.pool(torch.cat(pooled, 1))
        p4 = self.neck(torch.cat((F.interpolate(self.up(p5), scale_factor=2.0), p4), 1))
        return tuple(head(p) for head, p in zip(self.heads, (p3, p4, p5), strict=True))


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


class TemporalConv(nn.Module):
    """A temporal convolutional network [Bai 2018], causal and dilated. x: [n, channels, time]."""

    def __init__(self, channels: int = 96, depth: int = 6) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, dilation=1 << at) for at in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for at, conv in enumerate(self.convs):
            x = x + F.relu(conv(F.pad(x, (2 << at, 0))))
        return x


class Mixer(nn.Module):
    """MLP-Mixer S/16 [Tolstikhin 2021] at four layers. x: [n, 3, 224, 224]."""

    def __init__(self, width: int = 512, tokens: int = 196, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        mlp = lambda n, m: nn.Sequential(nn.Linear(n, m), nn.GELU(), nn.Linear(m, n))  # noqa: E731
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.across = nn.ModuleList(mlp(tokens, 256) for _ in range(depth))
        self.within = nn.ModuleList(mlp(width, 2048) for _ in range(depth))
        self.head = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for at, (across, within) in enumerate(zip(self.across, self.within, strict=True)):
            x = x + across(self.norms[2 * at](x).transpose(1, 2)).transpose(1, 2)
            x = x + within(self.norms[2 * at + 1](x))
        return self.head(x.mean(1))


class Recommender(nn.Module):
    """DLRM-like [Naumov 2019]: dense features, embeddings, their dot products, an MLP."""

    def __init__(self, tables: int = 26, rows: int = 10000, width: int = 64) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))
        self.bottom = mlp((13, 512, 256, width))
        pairs = (tables + 1) * tables // 2
        self.top = mlp((width + pairs, 512, 256, 1))
        first, second = torch.tril_indices(tables + 1, tables + 1, -1)
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        rows = [table(sparse[:, at]) for at, table in enumerate(self.tables)]
        every = torch.stack((x, *rows), 1)
        dots = every @ every.transpose(1, 2)
        return self.top(torch.cat((x, dots[:, self.first, self.second]), 1)).sigmoid()


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


def mlp(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for at, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.ReLU()] * (at > 0) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


class BiGru(nn.Module):
    """x: [n, time, features] -> [n, classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(80, 256, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(512, 29)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


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
