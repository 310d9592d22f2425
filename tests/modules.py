"""Hand-written modules of the model zoo: what `transformers` has no small example of.

Needs torch; `models.py` imports this file only when a model is built.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Plain(nn.Module):
    """A `transformers` model that takes tensors by position and gives back tensors alone.

    names: the keyword each positional input goes to. fields: the outputs to keep, in order.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], fields: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.fields = fields

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs: Any = self.model(**dict(zip(self.names, inputs, strict=True)))
        kept = tuple(outputs[field] for field in self.fields)
        return kept[0] if len(kept) == 1 else kept


class Lstm(nn.Module):
    """Bidirectional LSTM tagger. x: [n, time, features] -> [n, time, classes], last states."""

    def __init__(self, features: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (last, _) = self.lstm(x)
        return self.head(y), last


class Gru(nn.Module):
    """One-directional GRU. x: [n, time, features] -> [n, classes]."""

    def __init__(self, features: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return self.head(y[:, -1])


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """U-Net with transposed convolutions. x: [n, 3, h, w] -> [n, classes, h, w]."""

    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _double_conv(a, b) for a, b in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(_double_conv(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


class Conv1dNet(nn.Module):
    """Dilated residual audio net with a transposed decoder. x: [n, 1, time] -> [n, 1, time]."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, width, 8, stride=4, padding=2)
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(blocks))
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=1 << (i % 4), dilation=1 << (i % 4))
            for i in range(blocks)
        )
        self.depthwise = nn.Conv1d(width, width, 5, padding=2, groups=width)
        self.decoder = nn.ConvTranspose1d(width, 1, 8, stride=4, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + conv(F.silu(norm(x)))
        return torch.tanh(self.decoder(F.gelu(self.depthwise(x))))


class Conv3dNet(nn.Module):
    """Video classifier. x: [n, 3, time, h, w] -> [n, classes]."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        self.spatial = nn.Conv3d(width, 2 * width, (1, 3, 3), padding=(0, 1, 1))
        self.temporal = nn.Conv3d(2 * width, 2 * width, (3, 1, 1), padding=(1, 0, 0))
        self.squeeze = nn.AdaptiveAvgPool3d(1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.norm(self.stem(x))))
        x = F.relu(self.temporal(F.relu(self.spatial(x))))
        return self.head(self.squeeze(x).flatten(1))


class Resizer(nn.Module):
    """Every way of resizing, padding and pooling that image models use. x: [n, c, h, w]."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h, w = x.shape[-2:]
        return (
            F.interpolate(x, scale_factor=2, mode="nearest"),
            F.interpolate(x, size=(h + 3, w - 1), mode="nearest"),
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
            F.interpolate(x, size=(h + 3, w - 1), mode="bilinear", align_corners=True),
            F.interpolate(x, size=(h - 1, w + 3), mode="bicubic"),
            F.interpolate(x, size=(h // 2, w // 2), mode="bilinear", antialias=True),
            F.interpolate(x, size=(h + 3, w - 1), mode="nearest-exact"),
            F.pad(x, (1, 2, 3, 0)),
            F.pad(x, (1, 2, 3, 0), mode="reflect"),
            F.pad(x, (1, 2, 3, 0), mode="replicate"),
            F.pad(x, (1, 2, 3, 0), mode="circular"),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
            F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
            F.adaptive_avg_pool2d(x, (3, 5)),
            F.adaptive_max_pool2d(x, (2, 2)),
            F.pixel_shuffle(x, 2),
            F.pixel_unshuffle(x, 2),
        )
