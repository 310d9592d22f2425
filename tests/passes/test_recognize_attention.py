"""recognize-attention: products, a softmax between them, and what scales and masks its scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from graphopt_passes.pipelines import text
from real_graphs import count, fires, traced
from torch import Tensor, nn

from graphopt.check import check_pass as run_check
from graphopt.check import random_constant
from graphopt.ir.text import parse
from graphopt.pipeline import Pipeline

Check = Callable[..., object]
HEAD = """%q = input : f32[2,3,4,8]
%kt = input : f32[2,3,8,5]
%v = input : f32[2,3,5,6]
%s = matmul %q, %kt
"""
FOUR = "%c = full {value=4.0, shape=[], dtype=f32}\n"
TAIL = "%p = softmax %m {axis=3}\n%y = matmul %p, %v\nreturn %y"
TURNED = "%k = transpose %kt {perm=[0,1,3,2]}\n"
INPUTS = "".join(HEAD.splitlines(keepends=True)[:3])


def recognized(body: str) -> str:
    """The attributes of the attention that a body becomes."""
    graph = run_check(
        "recognize-attention",
        parse(HEAD + (FOUR if "%c" in body else "") + body + TAIL, fill=random_constant),
    )
    found = count(graph)
    assert (found["attention"], found["softmax"]) == (1, 0)
    return str(next(n.attrs for n in graph.nodes if n.op.name == "attention"))


def test_scaled_by_a_quotient(check_pass: Check) -> None:
    after = INPUTS + TURNED + "%y = attention %q, %k, %v {scale=0.25, causal=false}\nreturn %y"
    check_pass("recognize-attention", HEAD + FOUR + "%m = div %s, %c\n" + TAIL, after)


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        ("%m = mul %c, %s\n", 4.0),
        ("%d = mul %s, %c\n%m = div %d, %c\n", 1.0),
        ("%d = div %s, %c\n%a = constant {key=\"a\"} : f32[4,5]\n%m = add %a, %d\n", 0.25),
        ("%a = constant {key=\"a\"} : f32[1,3,4,5]\n%b = input : f32[2,1,1,5]\n%d = add %s, %a\n"
         "%m = add %d, %b\n", 1.0),
        ("%f = input : f32[3,1,1]\n%d = mul %s, %f\n%m = mul %d, %c\n", 4.0),
    ],
)  # fmt: skip
def test_scales_masks_and_factors(body: str, scale: float) -> None:
    assert f"scale={scale}" in recognized(body)


@pytest.mark.parametrize("fill", ["-inf", "-3.4028235e38"])
@pytest.mark.parametrize("order", ["%b, %s, %f", "%b, %f, %s"])
def test_conditions(fill: str, order: str) -> None:
    """-inf becomes a boolean mask, another number is added. One key is kept for every query."""
    keep = "true" if order.startswith("%b, %s") else "false"
    lose = "false" if keep == "true" else "true"
    mask = f"[{keep},{lose},{keep},{keep},{lose}]"
    body = f'%b = constant {{key="b", value={mask}}} : bool[5]\n'
    body += f"%f = full {{value={fill}, shape=[], dtype=f32}}\n%m = where {order}\n"
    assert "scale=1.0" in recognized(body)


REFUSED = {
    "%m = div %s, %c\n%y0 = relu %s\n": "its scores are read by others, too",
    '%a = constant {key="a"} : f32[4,5]\n%b = add %s, %a\n%m = mul %b, %c\n': "a mask is scaled",
    "%m = relu %s\n": "its scores come from relu, not from a product",
    "%a = input : f32[2,3,4,5]\n%m = add %s, %a\n": "as large as its scores, and computed",
    '%b = constant {key="b"} : bool[5]\n%f = full {value=-1e4, shape=[], dtype=f32}\n'
    "%m = where %b, %s, %f\n": "its scores come from no product",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refusals(body: str, check_refuses: Check) -> None:
    tail = TAIL.replace("return %y", "return %y, %y0") if "%y0" in body else TAIL
    four = FOUR if "%c" in body else ""
    check_refuses("recognize-attention", HEAD + four + body + tail, REFUSED[body])


def test_refuses_weights_that_others_read(check_refuses: Check) -> None:
    text = HEAD + TAIL.replace("%m", "%s").replace("return %y", "return %y, %p")
    check_refuses("recognize-attention", text, "its weights are read by others, too")


def test_refuses_another_axis(check_refuses: Check) -> None:
    text = HEAD + TAIL.replace("%m", "%s").replace("axis=3", "axis=2")
    check_refuses("recognize-attention", text, "its softmax is not over the last axis")


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 3, 4)])
def test_any_number_of_axes_in_front(lead: tuple[int, ...]) -> None:
    def shape(*tail: int) -> str:
        return "[" + ",".join(map(str, (*lead, *tail))) + "]"

    rank = len(lead) + 2
    body = f"%q = input : f32{shape(4, 8)}\n%kt = input : f32{shape(8, 5)}\n"
    body += f"%v = input : f32{shape(5, 6)}\n%s = matmul %q, %kt\n"
    body += f"%p = softmax %s {{axis={rank - 1}}}\n%y = matmul %p, %v\nreturn %y"
    assert count(run_check("recognize-attention", parse(body)))["attention"] == 1


def test_refuses_what_broadcasts_along_several_axes_of_batches(check_refuses: Check) -> None:
    body = (
        "%q = input : f32[2,3,2,4,8]\n%kt = input : f32[2,3,2,8,5]\n%v = input : f32[2,3,2,5,6]\n"
    )
    body += "%f = input : f32[3,1,1,1]\n%s = matmul %q, %kt\n%m = mul %s, %f\n"
    body += "%p = softmax %m {axis=4}\n%y = matmul %p, %v\nreturn %y"
    check_refuses("recognize-attention", body, "more than one axis of batches")


def test_windows_whose_masks_stand_in_another_shape() -> None:
    """Swin's: an axis of one element comes and goes around the sum."""
    body = '%r = reshape %s {shape=[1,2,3,4,5]}\n%a = constant {key="a"} : f32[1,2,1,4,5]\n'
    body += "%t = add %r, %a\n%m = reshape %t {shape=[2,3,4,5]}\n"
    assert "scale=1.0" in recognized(body)


MERGED = """%q = input : f32[6,4,8]
%kt = input : f32[6,8,5]
%v = input : f32[6,5,6]
%s = matmul %q, %kt
"""
AROUND = """%r = reshape %m {shape=[2,3,4,5]}
%p = softmax %r {axis=3}
%w = reshape %p {shape=[6,4,5]}
%y = matmul %w, %v
return %y"""


@pytest.mark.parametrize("mask", ["[5]", "[4,5]", "[1,4,5]"])
def test_batches_and_heads_joined_in_one_axis(mask: str) -> None:
    """einsum's way; a mask that is the same for all of them follows."""
    body = MERGED + f'%a = constant {{key="a"}} : f32{mask}\n%m = add %s, %a\n' + AROUND
    graph = run_check("recognize-attention", parse(body, fill=random_constant))
    assert count(graph)["attention"] == 1


def test_refuses_to_split_what_a_mask_is_broadcast_along(check_refuses: Check) -> None:
    body = MERGED + '%a = constant {key="a"} : f32[6,1,5]\n%m = add %s, %a\n' + AROUND
    check_refuses("recognize-attention", body, "are joined or split")


class Heads(nn.Module):
    """Causal self-attention as it is taught."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.register_buffer("seen", torch.tril(torch.ones(8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = (y.view(n, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).split(c, 2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(c / self.heads)
        scores = scores.masked_fill(self.seen[:t, :t] == 0, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c)


def test_causal_self_attention() -> None:
    graph = traced(Heads(), torch.randn(2, 6, 16))
    result, rewrites = fires("recognize-attention", Pipeline.parse("fold-constants").run(graph))
    assert rewrites == 1
    whole = Pipeline.parse(text("O2")).run(graph)
    (node,) = (n for r in whole.nodes if r.body for n in r.body.nodes if n.op.name == "attention")
    assert node.attrs.causal  # type: ignore[attr-defined]
    assert len(node.operands) == 3
    assert count(result)["attention"] == 1
