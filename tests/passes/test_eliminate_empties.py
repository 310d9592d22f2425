"""eliminate-empties: what has no elements, and what is computed from that alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from torch import nn

Check = Callable[..., object]
HEAD = "%x = input : f32[2,0]\n%z = input : f32[2,3]\n"


def full(value: str, shape: str, dtype: str = "f32") -> str:
    return f"%y = full {{value={value}, shape=[{shape}], dtype={dtype}}}\nreturn %y"


CASES = {
    "pointwise": ("%y = exp %x\nreturn %y", full("0", "2,0")),
    "slice": (
        "%y = slice %z {starts=[0,3], stops=[2,3], steps=[1,1]}\nreturn %y", full("0", "2,0")
    ),
    "sum": ("%y = sum %x {axes=[1]}\nreturn %y", full("0", "2")),
    "prod": ("%y = prod %x {axes=[1], keepdims=true}\nreturn %y", full("1", "2,1")),
    "mean": ("%y = mean %x {axes=[0,1]}\nreturn %y", full("nan", "")),
    "matmul": (
        "%t = transpose %x {perm=[1,0]}\n%y = matmul %x, %t\nreturn %y", full("0", "2,2")
    ),
    "concat": ("%y = concat %x, %z, %x {axis=1}\nreturn %y", "return %z"),
    "pad": ("%y = pad %x {before=[0,1], after=[0,2], value=7}\nreturn %y", full("7", "2,3")),
    "bias": (
        "%w = input : f32[3,0]\n%b = input : f32[3]\n%y = linear %x, %w, %b\nreturn %y",
        "%w = input : f32[3,0]\n%b = input : f32[3]\n%y = expand %b {shape=[2,3]}\nreturn %y",
    ),
    "scatter": (
        "%i = input : i64[2,0]\n%y = scatter_along %z, %i, %x {axis=1}\nreturn %y",
        "%i = input : i64[2,0]\nreturn %z",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_replaces(case: str, check_pass: Check) -> None:
    before, after = CASES[case]
    check_pass("eliminate-empties", HEAD + before, HEAD + after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + "%y = exp %z\nreturn %y", "nothing that it reads or makes is empty"),
        ("%y = iota {start=0, step=1, size=0, dtype=f32}\nreturn %y",
         "iota is not computed from operands"),
        ("%x = input : f32[n:1..4,0]\n%y = exp %x\nreturn %y", "a dimension is symbolic"),
        ("%x = input : f32[2,3]\n%i = input : i64[4,0]\n"
         "%y = gather_nd %x, %i\nreturn %y", "has a result without what is empty"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("eliminate-empties", text, reason=reason)


class Prompt(nn.Module):
    """A transformer that is given no prompt: [b, 0, 8] before its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.zeros(0, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prompt = self.layer.linear1(self.prompt)[:, :8].expand(x.shape[0], -1, -1)
        return self.layer(torch.cat([prompt, x], 1))


@pytest.mark.torch
def test_fires_on_a_real_model() -> None:
    graph = traced(Prompt().eval(), torch.randn(2, 3, 8))
    result, rewrites = fires("eliminate-empties", graph)
    assert rewrites >= 2
    assert "concat" not in count(result)
