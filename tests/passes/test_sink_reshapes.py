"""sink-reshapes: a reshape of a product's rows moves behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import fires, prepared

Check = Callable[..., object]
WEIGHTS = '%w = constant {key="w"} : f32[6,4]\n%b = constant {key="b"} : f32[6]\n'


def test_moves_behind_a_linear(check_pass: Check) -> None:
    head = "%x = input : f32[2,5,4]\n" + WEIGHTS
    before = head + "%r = reshape %x {shape=[10,4]}\n%y = linear %r, %w, %b\nreturn %y"
    after = head + "%m = linear %x, %w, %b\n%y = reshape %m {shape=[10,6]}\nreturn %y"
    check_pass("sink-reshapes", before, after)


def test_moves_behind_a_chain(check_pass: Check) -> None:
    head = '%x = input : f32[2,5,4]\n%w = constant {key="w"} : f32[4,4]\n'
    before = (
        head + "%r = reshape %x {shape=[10,4]}\n%y = linear %r, %w\n%z = linear %y, %w\nreturn %z"
    )
    after = (
        head + "%y = linear %x, %w\n%z = linear %y, %w\n%r = reshape %z {shape=[10,4]}\nreturn %r"
    )
    check_pass("sink-reshapes", before, after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%x = input : f32[2,8]\n" + WEIGHTS
         + "%r = reshape %x {shape=[4,4]}\n%y = linear %r, %w, %b\nreturn %y", "within rows"),
        ("%x = input : f32[3,2,4]\n" + WEIGHTS + "%t = transpose %x {perm=[1,0,2]}\n"
         "%r = reshape %t {shape=[6,4]}\n%y = linear %r, %w, %b\nreturn %y", "a transposed value"),
        ("%r = input : f32[2,4]\n" + WEIGHTS + "%y = linear %r, %w, %b\nreturn %y",
         "is not a reshape"),
        ("%x = input : f32[n:1..8,2,4]\n" + WEIGHTS
         + "%r = reshape %x {shape=[2,-1,4]}\n%y = linear %r, %w, %b\nreturn %y", "is symbolic"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("sink-reshapes", text, reason=reason.replace("a transposed value", "transposed"))


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """Around every addmm of GPT-2 the batch is folded into the rows, and unfolded again."""
    graph = prepared("tiny_gpt2", "fold-constants,matmul-to-linear,fold-bias")
    result, rewrites = fires("sink-reshapes", graph)
    assert rewrites >= 4
    ranks = [n.operands[0].type.rank for n in result.nodes if n.op.name == "linear"]
    assert ranks.count(2) < sum(
        n.operands[0].type.rank == 2 for n in graph.nodes if n.op.name == "linear"
    )
