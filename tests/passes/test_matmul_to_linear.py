"""matmul-to-linear: a constant matrix on the right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

from graphopt.check import random_constant
from graphopt.ir.text import parse

Check = Callable[..., object]
HEAD = '%x = input : f32[2,5,4]\n%w = constant {key="w"} : f32[4,3]\n'
TURNED = "%t = transpose %w {perm=[1,0]}\n"


def test_turns_the_weights(check_pass: Check) -> None:
    check_pass("matmul-to-linear", HEAD + "%y = matmul %x, %w\nreturn %y",
               HEAD + TURNED + "%y = linear %x, %t\nreturn %y")  # fmt: skip


def test_products_may_share_weights() -> None:
    text = HEAD + "%z = exp %x\n%a = matmul %x, %w\n%b = matmul %z, %w\nreturn %a, %b"
    graph = parse(text, fill=random_constant)
    result, rewrites = fires("matmul-to-linear", graph)
    assert rewrites == 2
    assert count(result)["matmul"] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%x = input : f32[5,4]\n%w = input : f32[4,3]\n%y = matmul %x, %w\nreturn %y",
         "computed at run time"),
        ('%x = input : f32[2,5,4]\n%w = constant {key="w"} : f32[2,4,3]\n'
         "%y = matmul %x, %w\nreturn %y",
         "has batch axes"),
        (HEAD + "%i = input : i64[2]\n%e = gather %w, %i {axis=0}\n"
         "%y = matmul %x, %w\nreturn %y, %e",
         "read by others than products"),
        (HEAD + "%y = matmul %x, %w\nreturn %y, %w", "read by others than products"),
        ('%w = constant {key="w"} : f32[4,4]\n%y = matmul %w, %w\nreturn %y',
         "read by others than products"),
        (HEAD + "%y = matmul %x, %w : f32[2,5,3]@[1,0,2]\nreturn %y", "layout is chosen already"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("matmul-to-linear", text, reason=reason)


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    graph = prepared("tiny_gpt2", "fold-constants")
    result, rewrites = fires("matmul-to-linear", graph)
    assert rewrites == count(graph)["matmul"] == 8
    assert count(result)["linear"] == 9
