"""first_difference: what counts as a difference, and how it is told."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.equal import first_difference
from graphopt.ir.text import parse

BASE = """
%x = input : f32[2,8]
%c = constant {key="c", value=[1,2,3,4,5,6,7,8]} : f32[8]
%a = add %x, %c loc("m", "f.py:1")
%b = relu %a
%s = softmax %a {axis=1}
return %b, %s {names=["p","q"]}
"""

DIFFERENCES = [
    ("%b = relu %a", "%b = abs %a", "%b is relu %a versus abs %a"),
    ("add %x, %c", "add %c, %x", "operand 0 of %a (add) is input %x versus %c = constant"),
    ("{axis=1}", "{axis=0}", "%s (softmax): attribute axis is 1 versus 0"),
    (",8]} :", ",9]} :", "%c (constant): value f32[8] [1.0, 2.0, 3.0, 4.0, ..] versus "
     "f32[8] [1.0, 2.0, 3.0, 4.0, ..]"),
    ("%b = relu %a", "%b = relu %a : f32[2,8]@[1,0]",
     "type of %b (relu): f32[2,8] versus f32[2,8]@[1,0]"),
    ("%b = relu %a", "%b = relu %a : f32[2,8] at 64",
     "type of %b (relu): f32[2,8] versus f32[2,8] at 64"),
    ("f32[2,8]", "f32[3,8]", "input 0: f32[2,8] versus f32[3,8]"),
    ('"q"', '"r"', "output names: ['p', 'q'] versus ['p', 'r']"),
    ("softmax %a", "softmax %b", "operand 0 of %s (softmax) is %a = add %x, %c versus "
     "%b = relu %a"),
    ("return %b, %s", "return %s, %b", "%b is relu %a versus softmax %a"),
    ("return %b", "%d = exp %a\nreturn %b", "nodes: 4 versus 5, such as exp %a"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), DIFFERENCES)
def test_difference(old: str, new: str, message: str) -> None:
    assert old in BASE
    assert first_difference(parse(BASE), parse(BASE.replace(old, new))) == message


def test_names_keys_and_order_are_no_difference() -> None:
    other = """
      %in = input : f32[2,8]
      %k = constant {key="other", value=[1,2,3,4,5,6,7,8]} : f32[8]
      %sum = add %in, %k
      %t = softmax %sum {axis=1}
      %r = relu %sum
      return %r, %t {names=["p","q"]}"""
    assert parse(BASE) == parse(other)


def test_locs_count_when_asked() -> None:
    other = parse(BASE.replace("f.py:1", "f.py:2"))
    assert parse(BASE) == other
    difference = first_difference(parse(BASE), other, locs=True)
    assert difference == "%a (add): loc m at f.py:1 versus m at f.py:2"


def test_one_value_is_not_two_equal_ones() -> None:
    once = "%x = input : f32[2]\n%a = relu %x\n%b = add %a, %a\nreturn %b"
    twice = "%x = input : f32[2]\n%a = relu %x\n%c = relu %x\n%b = add %a, %c\nreturn %b"
    assert first_difference(parse(once), parse(twice)) == (
        "operand 1 of %b (add) is %a = relu %x versus %c = relu %x"
    )


def test_bodies() -> None:
    text = '%x = input : f32[2]\n%y = fused %x {kind="pointwise"} {\n%p = input : f32[2]\n'
    text += "%q = OP %p\nreturn %q }\nreturn %y"
    a, b = parse(text.replace("OP", "relu")), parse(text.replace("OP", "abs"))
    assert first_difference(a, b) == "in the body of %y (fused): %q is relu %p versus abs %p"


def test_nan_equals_nan() -> None:
    text = (
        '%c = constant {key="k", value=[nan]} : f32[1]\n%f = full {value=nan, shape=[], dtype=f32}'
    )
    text += "\nreturn %c, %f"
    assert parse(text) == parse(text)


def test_storage_dtype_of_constants_matters() -> None:
    text = '%c = constant {key="k"}\nreturn %c'
    a, b = (parse(text, {"k": np.ones(2, t)}) for t in (np.float32, np.float64))
    assert "f32[2] [1.0, 1.0] versus f64[2]" in str(first_difference(a, b))


def test_other_things_are_not_graphs() -> None:
    assert parse(BASE) != "graph"
