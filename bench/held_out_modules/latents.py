"""Parts of diffusion and segmentation models: group norms, enlarged maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Residual(nn.Module):
    """Two convolutions, each after a group norm [Ho 2020]."""

    def __init__(self, inputs: int, outputs: int, groups: int = 32) -> None:
        super().__init__()
        self.norms = nn.ModuleList((nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)))
        self.convs = nn.ModuleList(
            (nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1))
        )
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.silu(norm(y)))
        return y + self.skip(x)


class DiffusionNet(nn.Module):
    """Two levels of a diffusion model's UNet, without attention and time. x: [n, 4, h, w]."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.start = nn.Conv2d(4, width, 3, 1, 1)
        self.left = _Residual(width, width)
        self.down = nn.Conv2d(width, width, 3, 2, 1)
        self.middle = nn.Sequential(_Residual(width, 2 * width), _Residual(2 * width, 2 * width))
        self.right = _Residual(3 * width, width)
        self.norm = nn.GroupNorm(32, width)
        self.end = nn.Conv2d(width, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(self.start(x))
        enlarged = F.interpolate(self.middle(self.down(left)), scale_factor=2.0)
        return self.end(F.silu(self.norm(self.right(torch.cat((enlarged, left), 1)))))


class Segmenter(nn.Module):
    """A fully convolutional network whose map is enlarged to the image [Long 2015].

    x: [n, 3, h, w], h and w multiples of 8 -> [n, 21, h, w].
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(inputs, 21, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.head(self.features(x)), scale_factor=8.0, mode="bilinear")
