"""What the tests of the terminal compile: good models, and each way to get one wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Built = tuple[nn.Module, tuple[torch.Tensor, ...]]


class Net(nn.Module):
    """A convolution with batch norm, a mean over the image, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return self.head(x.mean((2, 3)))


def net() -> Built:
    torch.manual_seed(0)
    return Net().eval(), (torch.randn(1, 3, 16, 16),)


def wider() -> Built:
    """Another model, of other shapes."""
    torch.manual_seed(0)
    return Net().eval(), (torch.randn(2, 3, 16, 16),)


def wide_convolutions() -> Built:
    """Two convolutions that are worth Winograd's transforms, the second behind a reshape."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Unflatten(1, (1, 32)), nn.Flatten(1, 2),
             nn.Conv2d(32, 32, 3, padding=1)]  # fmt: skip
    return nn.Sequential(*convs).eval(), (torch.randn(1, 32, 28, 28),)


def resnet() -> Built:
    from models import TINY

    return TINY["tiny_resnet"]()


def bert() -> Built:
    from models import TINY

    return TINY["tiny_bert"]()


def unseeded() -> Built:
    torch.seed()
    return Net().eval(), (torch.randn(1, 3, 16, 16),)


class Deep(nn.Module):
    """Many layers of different shapes: many kernels, seconds of C compiler."""

    def __init__(self) -> None:
        super().__init__()
        sizes = range(16, 64)
        self.layers = nn.ModuleList(nn.Linear(a, a + 1) for a in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def deep() -> Built:
    torch.manual_seed(0)
    return Deep().eval(), (torch.randn(8, 16),)


# Wrong -----------------------------------------------------------------------------------------

not_a_function = 3


def nothing() -> None:
    return None


def no_inputs() -> Any:
    return Net().eval()


def strings() -> Any:
    return Net().eval(), ("x",)


def raises() -> Any:
    raise KeyError("no such checkpoint")


class Fancy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.linalg.svd(x).S
        return torch.erfinv(x).sum() + torch.linalg.svd(x + 1).S + torch.lgamma(y)


def unsupported() -> Built:
    return Fancy().eval(), (torch.randn(4, 4),)


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


def branches() -> Built:
    return Branches().eval(), (torch.randn(4),)


def training() -> Built:
    return Net(), (torch.randn(1, 3, 16, 16),)


def mismatch() -> Built:
    return Net().eval(), (torch.randn(1, 4, 16, 16),)
