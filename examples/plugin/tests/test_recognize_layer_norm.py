"""recognize-layer-norm: fires, refuses, holds its numerics, and serves a real model."""

import pytest
import torch
from torch import Tensor, nn

from graphopt.check import check_pass, check_refuses
from graphopt.frontend import trace
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

HEAD = """
  %x = input : f32[2,5,8]
  %w = input : f32[8]
  %b = input : f32[8]
"""
SPELLED = """
  %c = full {value=1e-5, shape=[], dtype=f32}
  %m = mean %x {axes=[2], keepdims=true}
  %d = sub %x, %m
  %q = mul %d, %d
  %v = mean %q {axes=[2], keepdims=true}
  %e = add %v, %c
  %r = rsqrt %e
  %n = mul %d, %r
  %s = mul %n, %w
  %y = add %s, %b
  return %y"""


def test_spelled_out() -> None:
    after = "  %y = layer_norm %x, %w, %b {axes=1, eps=1e-5}\n  return %y"
    check_pass("recognize-layer-norm", before=HEAD + SPELLED, after=HEAD + after)


def test_what_others_read_stays() -> None:
    result = check_pass("recognize-layer-norm", HEAD + SPELLED.replace("%y\n", "%y, %n\n") + ", %n")
    ops = [n.op.name for n in result.nodes]
    assert ops.count("layer_norm") == 1
    assert ops.count("rsqrt") == 1


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("%y = add %s, %b", "%y = add %b, %s", "not the last sum"),
        ("%q = mul %d, %d", "%q = mul %d, %x", "not the last sum"),
        ("%m = mean %x", "%m = mean %z", "not the last sum"),
        ("%q {axes=[2]", "%q {axes=[1]", "not over the last axis"),
        ("%n, %w", "%n, %z", "is not a row"),
        ("%c = full {value=1e-5, shape=[], dtype=f32}", "%c = exp %t", "its epsilon is computed"),
    ],
)
def test_refuses(old: str, new: str, reason: str) -> None:
    extra = "".join(
        f"  %{name} = input : {type}\n"
        for name, type in (("z", "f32[2,5,8]"), ("t", "f32[1]"))
        if f"%{name}" in new
    )
    check_refuses("recognize-layer-norm", extra + HEAD + SPELLED.replace(old, new), reason)


class Norm(nn.Module):
    """As people write it. x: [n, tokens, 16]"""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16))
        self.bias = nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + 1e-5) * self.weight + self.bias


def test_a_real_module() -> None:
    graph = trace(Norm().eval(), torch.randn(1, 10, 16))
    result = check_pass("recognize-layer-norm", graph)
    assert [n.op.name for n in result.nodes].count("layer_norm") == 1
    again = Pipeline.parse("recognize-layer-norm").run(result, PassContext())
    assert again is result
