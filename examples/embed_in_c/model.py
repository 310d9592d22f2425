"""A small digit classifier, trained here in seconds on digits that it draws itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 16
STEPS, BATCH = 300, 64

# Five columns by seven rows, a bit each.
GLYPHS = """
01110 00100 01110 11111 00010 11111 00110 11111 01110 01110
10001 01100 10001 00010 00110 10000 01000 00001 10001 10001
10011 00100 00001 00100 01010 11110 10000 00010 10001 10001
10101 00100 00010 00010 10010 00001 11110 00100 01110 01111
11001 00100 00100 00001 11111 00001 10001 01000 10001 00001
10001 00100 01000 10001 00010 10001 10001 01000 10001 00010
01110 01110 11111 01110 00010 01110 01110 01000 01110 01100
"""


class Digits(nn.Module):
    """image: f32[n, 1, 16, 16], ink 1 on 0 -> scores of the ten digits: f32[n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def glyphs() -> Tensor:
    """[10, 7, 5]"""
    rows = [line.split() for line in GLYPHS.strip().splitlines()]
    return torch.tensor([[[float(c) for c in row[d]] for row in rows] for d in range(10)])


def drawn(labels: Tensor) -> Tensor:
    """Noisy pictures of digits, each of its own size, place and slant: [n, 1, 16, 16]."""
    n = len(labels)
    matrices = torch.zeros(n, 2, 3)  # from a place in the picture to one in the glyph
    matrices[:, 0, 0], matrices[:, 1, 1] = torch.empty(2, n).uniform_(1.1, 1.9)
    matrices[:, 0, 1] = torch.empty(n).uniform_(-0.3, 0.3)
    matrices[:, :, 2] = torch.empty(n, 2).uniform_(-0.6, 0.6)
    places = F.affine_grid(matrices, [n, 1, SIZE, SIZE], align_corners=False)
    pictures = F.grid_sample(glyphs()[labels][:, None], places, align_corners=False)
    return (pictures + 0.2 * torch.randn(n, 1, SIZE, SIZE)).clamp(0, 1)


def trained() -> Digits:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # in steps this small, threads would wait for each other
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        labels = torch.randint(0, 10, (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(model(drawn(labels)), labels).backward()
        optimizer.step()
    return model.eval()


def digits() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """For `graphopt compile examples/embed_in_c/model.py:digits`."""
    return trained(), (drawn(torch.tensor([3])),)
