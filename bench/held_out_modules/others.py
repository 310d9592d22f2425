"""Sequences, tables and recommendations."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def lenet() -> nn.Module:
    """LeNet-5 [LeCun 1998], handwritten digits. x: [n, 1, 28, 28]."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 120), nn.Tanh(), nn.Linear(120, 84),
        nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


class PointNet(nn.Module):
    """PointNet without its alignments [Qi 2017]: classes of clouds. x: [n, 3, points]."""

    def __init__(self, classes: int = 40) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 64), (64, 64), (64, 64), (64, 128), (128, 1024)):
            layers += [nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU()]
        self.points = nn.Sequential(*layers)
        self.cloud = nn.Sequential(nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, classes))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cloud(self.points(x).amax(-1))
        return out


class Retention(nn.Module):
    """One layer of a RetNet in its parallel form [Sun 2023]. x: [n, tokens, width]."""

    def __init__(self, width: int = 512, heads: int = 8, tokens: int = 256) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.gate, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(5)
        )
        self.norm = nn.GroupNorm(heads, width)
        at = torch.arange(tokens)
        apart = (at[:, None] - at[None]).float()
        kept = (1 - 2.0 ** (-5 - torch.arange(heads).float()))[:, None, None]
        self.register_buffer("decay", torch.where(apart >= 0, kept ** apart.clamp(min=0), 0.0))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = (
            y.view(n, tokens, self.heads, -1).transpose(1, 2)
            for y in (self.q(x), self.k(x), self.v(x))
        )
        y = (q @ k.transpose(-1, -2) * self.decay) @ v
        y = self.norm(y.transpose(1, 2).reshape(n * tokens, width)).view(n, tokens, width)
        out: Tensor = self.out(F.silu(self.gate(x)) * y)
        return out
