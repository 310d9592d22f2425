"""Models that look at images."""

from __future__ import annotations

from collections.abc import Iterable

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


class Hourglass(nn.Module):
    """A stack of one hourglass [Newell 2016], features in, features out. x: [n, channels, h, w]."""

    def __init__(self, channels: int = 64, depth: int = 3) -> None:
        super().__init__()
        half = channels // 2

        def residual() -> nn.Module:
            sizes = (channels, half, 1), (half, half, 3), (half, channels, 1)
            return nn.Sequential(*(
                layer for i, o, k in sizes
                for layer in (nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, o, k, padding=k // 2))
            ))  # fmt: skip

        self.beside, self.down, self.up = residual(), residual(), residual()
        self.inner = Hourglass(channels, depth - 1) if depth > 1 else residual()

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.beside(x)
        z = F.max_pool2d(x, 2)
        z = self.inner(z + self.down(z))
        return y + F.interpolate(z + self.up(z), scale_factor=2)
