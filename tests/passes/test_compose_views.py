"""compose-views: reshapes, expands, transposes and flips that move nothing or follow each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

Check = Callable[..., object]

# input shape, body with %y, expected body (None: %x itself)
CASES = {
    "reshape-of-reshape": (
        "2,3,4",
        "%a = reshape %x {shape=[6,4]}\n%y = reshape %a {shape=[24]}",
        "%y = reshape %x {shape=[24]}",
    ),
    "there-and-back": (
        "2,3,4",
        "%a = reshape %x {shape=[6,4]}\n%y = reshape %a {shape=[2,3,4]}",
        None,
    ),
    "same-shape": ("2,3", "%y = reshape %x {shape=[2,3]}", None),
    "expand-nothing": ("2,3", "%y = expand %x {shape=[2,3]}", None),
    "expand-twice": (
        "1,3",
        "%a = expand %x {shape=[2,3]}\n%y = expand %a {shape=[4,2,3]}",
        "%y = expand %x {shape=[4,2,3]}",
    ),
    "unsqueeze-then-expand": (
        "3",
        "%a = reshape %x {shape=[1,1,3]}\n%y = expand %a {shape=[2,5,3]}",
        "%y = expand %x {shape=[2,5,3]}",
    ),
    "transpose-of-ones": (
        "1,4,1",
        "%y = transpose %x {perm=[1,2,0]}",
        "%y = reshape %x {shape=[4,1,1]}",
    ),
    "flip-twice": ("2,3", "%a = flip %x {axes=[0]}\n%y = flip %a {axes=[0]}", None),
    "flip-both": (
        "2,3",
        "%a = flip %x {axes=[0]}\n%y = flip %a {axes=[1]}",
        "%y = flip %x {axes=[0,1]}",
    ),
    "flip-of-one": ("1,3", "%y = flip %x {axes=[0]}", None),
}


@pytest.mark.parametrize("case", CASES)
def test_composes(case: str, check_pass: Check) -> None:
    shape, before, after = CASES[case]
    head = f"%x = input : f32[{shape}]\n"
    expected = "return %x" if after is None else after + "\nreturn %y"
    check_pass("compose-views", head + before + "\nreturn %y", head + expected)


def test_symbolic_dimensions(check_pass: Check) -> None:
    head = "%x = input : f32[n:1..8,6]\n"
    before = head + "%a = reshape %x {shape=[-1,2,3]}\n%y = reshape %a {shape=[2,-1,3]}\nreturn %y"
    check_pass("compose-views", before, head + "%y = reshape %x {shape=[2,-1,3]}\nreturn %y")


REFUSED = {
    "%y = reshape %x {shape=[6]}": "operand is not a reshape",
    "%y = transpose %x {perm=[1,0]}": "moves axes of more than one element",
    "%y = flip %x {axes=[0]}": "flips axes of more than one element",
    "%y = expand %x {shape=[4,2,3]}": "neither an expand nor a reshape",
    "%a = reshape %x {shape=[2,1,3]}\n%y = expand %a {shape=[2,5,3]}": "only add axes in front",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(body: str, check_refuses: Check) -> None:
    text = f"%x = input : f32[2,3]\n{body}\nreturn %y"
    check_refuses("compose-views", text, reason=REFUSED[body])


def test_refuses_symbolic_transposes(check_refuses: Check) -> None:
    text = "%x = input : f32[1,n:1..8]\n%y = transpose %x {perm=[1,0]}\nreturn %y"
    check_refuses("compose-views", text, reason="a dimension is symbolic")


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_gpt2", "tiny_swin"])
def test_fires_on_real_models(name: str) -> None:
    graph = prepared(name, "fold-constants")
    result, rewrites = fires("compose-views", graph)
    assert rewrites >= 2
    assert count(result)["reshape"] < count(graph)["reshape"]
