"""eliminate-dead-code: nodes, and results, that nobody reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from torch import nn

from graphopt.ir.text import parse
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

Check = Callable[..., object]


def test_drops_chains(check_pass: Check) -> None:
    before = (
        "%x = input : f32[4]\n%a = exp %x\n%b = neg %a\n%c = add %b, %a\n%y = relu %x\nreturn %y"
    )
    check_pass("eliminate-dead-code", before, "%x = input : f32[4]\n%y = relu %x\nreturn %y")


def test_says_what_it_drops() -> None:
    graph = parse("%x = input : f32[4]\n%a = exp %x\n%b = neg %a\nreturn %x")
    ctx = PassContext(record=True)
    Pipeline.parse("eliminate-dead-code").run(graph, ctx)
    assert [e.node.op.name for e in ctx.events] == ["neg", "exp"]


TOPK = "%x = input : f32[3,4]\n%v, %i = topk %x {{k={}, axis=1, largest={}}}\nreturn {}"


@pytest.mark.parametrize(
    ("result", "after"),
    [
        ("%v", "%y = max %x {axes=[1], keepdims=true}"),
        ("%i", "%y = argmax %x {axis=1, keepdims=true}"),
    ],
)
def test_one_of_topk(result: str, after: str, check_pass: Check) -> None:
    expected = f"%x = input : f32[3,4]\n{after}\nreturn %y"
    check_pass("eliminate-dead-code", TOPK.format(1, "true", result), expected)


FUSED = """
%x = input : f32[4]
%z = input : f32[4]
%a{0} = fused %x{1} {{kind="pointwise"}} : f32[4]{2} {{
  %p = input : f32[4]
  {3}
  %r = relu %p
  {4}
  return %r{5}
}}
return %a
"""


def test_region_results(check_pass: Check) -> None:
    """The sum, and the operand that it alone reads, go."""
    before = FUSED.format(
        ", %b", ", %z", ", f32[4]", "%q = input : f32[4]", "%s = add %r, %q", ", %s"
    )
    check_pass("eliminate-dead-code", before, FUSED.format("", "", "", "", "", ""))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TOPK.format(2, "true", "%v"), "only the largest element alone"),
        (TOPK.format(1, "false", "%v"), "only the largest element alone"),
    ],
)
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("eliminate-dead-code", text, reason=reason)


class Best(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.softmax(x, -1)
        return torch.topk(x, 1, dim=-1).indices


def test_fires_on_a_traced_module() -> None:
    result, rewrites = fires("eliminate-dead-code", traced(Best(), torch.randn(3, 5)))
    assert rewrites >= 1
    assert count(result)["topk"] == 0
    assert count(result)["argmax"] == 1
