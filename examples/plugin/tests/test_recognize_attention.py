"""recognize-attention: fires, refuses, holds its numerics, and serves a real model."""

import pytest
import torch
from torch import Tensor, nn

from graphopt.check import check_pass, check_refuses
from graphopt.frontend import trace
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

INPUTS = """
  %q = input : f32[1,2,6,4]
  %kt = input : f32[1,2,4,5]
  %v = input : f32[1,2,5,3]
"""


@pytest.mark.parametrize(
    ("scale", "value"), [("mul %s, %c", 0.5), ("div %s, %c", 2.0)], ids=["mul", "div"]
)
def test_scaled(scale: str, value: float) -> None:
    check_pass(
        "recognize-attention",
        before=f"""{INPUTS}
          %c = full {{value={value}, shape=[], dtype=f32}}
          %s = matmul %q, %kt
          %t = {scale}
          %p = softmax %t {{axis=3}}
          %y = matmul %p, %v
          return %y""",
        after=f"""{INPUTS}
          %k = transpose %kt {{perm=[0,1,3,2]}}
          %y = attention %q, %k, %v {{scale=0.5}}
          return %y""",
    )


def test_unscaled() -> None:
    check_pass(
        "recognize-attention",
        before=f"""{INPUTS}
          %s = matmul %q, %kt
          %p = softmax %s {{axis=3}}
          %y = matmul %p, %v
          return %y""",
        after=f"""{INPUTS}
          %k = transpose %kt {{perm=[0,1,3,2]}}
          %y = attention %q, %k, %v {{scale=1.0}}
          return %y""",
    )


@pytest.mark.parametrize(
    ("scores", "result", "reason"),
    [
        ("%p = relu %s", "%y", "is not a softmax"),
        ("%p = softmax %s {axis=2}", "%y", "does not run along the keys"),
        ("%p = softmax %s {axis=3}", "%y, %p", "read elsewhere"),
        ("%t = relu %s\n%p = softmax %t {axis=3}", "%y", "not a product, or masked"),
    ],
)
def test_refuses(scores: str, result: str, reason: str) -> None:
    check_refuses(
        "recognize-attention",
        f"""{INPUTS}
          %s = matmul %q, %kt
          {scores}
          %y = matmul %p, %v
          return {result}""",
        reason,
    )


def test_refuses_other_ranks() -> None:
    check_refuses(
        "recognize-attention",
        """
          %q = input : f32[6,4]
          %kt = input : f32[4,5]
          %v = input : f32[5,3]
          %s = matmul %q, %kt
          %p = softmax %s {axis=1}
          %y = matmul %p, %v
          return %y""",
        "not [batch, heads, sequence, features]",
    )


class Attention(nn.Module):
    """As people write it. x: [n, tokens, 16]"""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, 2, 8).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) / 8**0.5, dim=-1)
        return (weights @ v).transpose(1, 2).reshape(n, tokens, 16)


def test_a_real_module() -> None:
    graph = trace(Attention().eval(), torch.randn(1, 10, 16))
    result = check_pass("recognize-attention", graph)
    assert [n.op.name for n in result.nodes].count("attention") == 1
    again = Pipeline.parse("recognize-attention,cancel-transposes").run(graph, PassContext())
    assert [n.op.name for n in again.nodes].count("softmax") == 0
