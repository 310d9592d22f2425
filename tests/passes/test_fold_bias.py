"""fold-bias: a constant vector added to a product becomes its bias."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

Check = Callable[..., object]
CONV = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"
LINEAR = '%x = input : f32[2,5,4]\n%w = constant {key="w"} : f32[3,4]\n'


def _bias(value: str, type_: str, key: str = "c") -> str:
    return f'%c = constant {{key="{key}", value=[{value}]}} : {type_}\n'


def test_linear(check_pass: Check) -> None:
    bias = _bias("1, 2, 3", "f32[3]")
    before = LINEAR + bias + "%y = linear %x, %w\n%z = add %y, %c\nreturn %z"
    check_pass("fold-bias", before, LINEAR + bias + "%z = linear %x, %w, %c\nreturn %z")


def test_one_number_for_all_channels(check_pass: Check) -> None:
    number = "%c = full {value=2, shape=[1], dtype=f32}\n"
    before = LINEAR + number + "%y = linear %x, %w\n%z = add %c, %y\nreturn %z"
    after = LINEAR + _bias("2, 2, 2", "f32[3]") + "%z = linear %x, %w, %c\nreturn %z"
    check_pass("fold-bias", before, after)


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
def test_convolutions(op: str, check_pass: Check) -> None:
    attrs = (
        CONV
        if op == "conv"
        else ("{stride=[2,2], padding=[0,0], output_padding=[0,0], dilation=[1,1]}")
    )
    head = '%x = input : f32[1,2,6,6]\n%w = constant {key="w"} : f32[2,2,3,3]\n'
    before = head + _bias("1, 2", "f32[2,1,1]") + f"%y = {op} %x, %w {attrs}\n%z = add %y, %c\n"
    after = head + _bias("1, 2", "f32[2]", "d") + f"%z = {op} %x, %w, %c {attrs}\n"
    check_pass("fold-bias", before + "return %z", after + "return %z")


def _image(constant: str, more: str = "", result: str = "%z") -> str:
    head = '%x = input : f32[1,2,4,4]\n%w = constant {key="w"} : f32[2,2,1,1]\n'
    return head + f"{constant}\n%y = conv %x, %w {CONV}\n%z = add %y, %c\n{more}return {result}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_image('%c = constant {key="c"} : f32[4]'), "varies along other axes than the channels"),
        (_image('%c = constant {key="c"} : f32[2,4,4]'), "varies along other axes"),
        (_image('%c = constant {key="c"} : f32[3,2,1,1]'), "the constant widens the result"),
        (_image("%c = input : f32[2,1,1]"), "does not add a constant to a product"),
        (_image('%c = constant {key="c"} : f32[2,1,1]', result="%z, %y"), "read elsewhere too"),
        (LINEAR + '%c = constant {key="c"} : f32[3]\n%y = linear %x, %w, %c\n%z = add %y, %c\n'
         "return %z", "has a bias already"),
        ("%x = input : f32[2,4]\n" + '%c = constant {key="c"} : f32[4]\n%z = add %x, %c\nreturn %z',
         "does not add a constant to a product"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("fold-bias", text, reason=reason)


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """GPT-2's layers are addmm with the matrix on the right."""
    graph = prepared("tiny_gpt2", "fold-constants,matmul-to-linear")
    result, rewrites = fires("fold-bias", graph)
    assert rewrites == 8
    assert count(graph)["add"] - count(result)["add"] == 8
