"""Sources with one mistake each. Line numbers of the models stand in the tests."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ROW = (torch.ones(1, 3),)


def nothing() -> None:
    return None


def triple() -> Any:
    return nn.ReLU(), torch.ones(1), 3


def text_model() -> Any:
    return "resnet", ROW


def text_inputs() -> Any:
    return nn.ReLU(), "abc"


def text_leaf() -> Any:
    return nn.ReLU(), ([1, 2, "a"],)


def no_tensor() -> Any:
    return nn.ReLU(), (3,)


def raises() -> Any:
    raise KeyError("weights")


net = nn.ReLU()


def dropout() -> Any:
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)), ROW


def batch_norm() -> Any:
    return nn.BatchNorm1d(3), ROW


def attention() -> Any:
    return nn.MultiheadAttention(4, 2, dropout=0.1), (torch.ones(1, 4),) * 3


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Length(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[: int(x[0, 0].item())]


class Positives(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0] * 2


class Cond(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class DoesNotRun(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x


class Exotic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.linalg.inv(self.scale(x))
        y = torch.fft.fft(y).tan().real.abs() + y
        return torch.bernoulli(y + torch.linalg.inv(x))


class ComplexWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rotary", torch.polar(torch.ones(3), torch.ones(3)))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.rotary).sqrt().real


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x + self.calls


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        return x * 2


class TextOutput(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, "hello"


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Cache:
    """Tensors in a class that nobody has told torch of."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


class CacheOutput(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, Cache(x)


class Draws(nn.Module):
    def __init__(self, draws: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.draws = draws

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.draws(x) * 2


class AlwaysDrops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5)


class Gradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.grad(lambda v: (v**3).sum())(x)


class ComplexOutput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x)
