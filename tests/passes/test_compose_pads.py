"""compose-pads: pads that add nothing, and pads of pads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import attribute, count, fires, traced
from torch import nn

Check = Callable[..., object]
HEAD = "%x = input : f32[4,5]\n"


def _pad(result: str, x: str, before: list[int], after: list[int], value: str = "0.0",
         mode: str = "constant") -> str:  # fmt: skip
    return f'{result} = pad {x} {{before={before}, after={after}, value={value}, mode="{mode}"}}\n'


def test_drops_a_pad_by_nothing(check_pass: Check) -> None:
    before = HEAD + _pad("%y", "%x", [0, 0], [0, 0]) + "return %y"
    check_pass("compose-pads", before, HEAD + "return %x")


@pytest.mark.parametrize("value", ["0.0", "-inf", "2.5"])
def test_adds_up(value: str, check_pass: Check) -> None:
    first = _pad("%a", "%x", [1, 0], [0, 2], value)
    before = HEAD + first + _pad("%y", "%a", [0, 3], [1, 1], value) + "return %y"
    check_pass("compose-pads", before, HEAD + _pad("%y", "%x", [1, 3], [1, 3], value) + "return %y")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("0.0", "constant"), ("1.0", "constant")),
        (("0.0", "constant"), ("-0.0", "constant")),
        (("0.0", "replicate"), ("0.0", "replicate")),
        (("0.0", "reflect"), ("0.0", "constant")),
    ],
)
def test_refuses(first: tuple[str, str], second: tuple[str, str], check_refuses: Check) -> None:
    text = HEAD + _pad("%a", "%x", [1, 0], [0, 2], *first)
    text += _pad("%y", "%a", [0, 3], [1, 1], *second) + "return %y"
    check_refuses("compose-pads", text, reason="the two pad with different values")


def test_refuses_a_lone_pad(check_refuses: Check) -> None:
    text = HEAD + _pad("%y", "%x", [1, 0], [0, 0]) + "return %y"
    check_refuses("compose-pads", text, reason="its operand is not a pad")


class Same(nn.Module):
    """Padded as TensorFlow does, then by the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.conv(nn.functional.pad(x, (0, 1, 0, 1))))


def test_fires_on_a_traced_module() -> None:
    graph, _ = fires("explicit-padding", traced(Same(), torch.randn(1, 3, 6, 6)))
    assert count(graph)["pad"] == 2
    result, rewrites = fires("compose-pads", graph)
    assert rewrites == 1
    assert attribute(result, "pad", "after") == [(0, 0, 2, 2)]
