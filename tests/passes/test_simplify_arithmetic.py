"""simplify-arithmetic: identities that hold to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from texts import with_used
from torch import nn

NUMBER = "full {{value={}, shape=[], dtype={}}}"
Check = Callable[..., object]
NUMBERS = {
    "zero": 0,
    "minus_zero": -0.0,
    "one": 1,
    "minus_one": -1,
    "two": 2,
    "three": 3,
    "eight": 8,
    "eighth": 0.125,
}


def _unary(body: str, dtype: str = "f32") -> str:
    """`body` computes %y from %x and %z; %zero, %one, .. are splats."""
    head = [f"%x = input : {dtype}[2,3]", f"%z = input : {dtype}[2,3]"]
    head += [f"%{name} = {NUMBER.format(value, dtype)}" for name, value in NUMBERS.items()]
    return with_used("\n".join(head), body + "\nreturn %y")


FLOATS = {
    "times-one": ("%y = mul %x, %one", None),
    "one-times": ("%y = mul %one, %x", None),
    "over-one": ("%y = div %x, %one", None),
    "power-one": ("%y = pow %x, %one", None),
    "minus-zero": ("%y = sub %x, %zero", None),
    "plus-negative-zero": ("%y = add %x, %minus_zero", None),
    "double-negation": ("%a = neg %x\n%y = neg %a", None),
    "times-minus-one": ("%y = mul %x, %minus_one", "%y = neg %x"),
    "over-minus-one": ("%y = div %x, %minus_one", "%y = neg %x"),
    "over-power-of-two": ("%y = div %x, %eight", "%y = mul %x, %eighth"),
    "plus-negated": ("%a = neg %z\n%y = add %x, %a", "%y = sub %x, %z"),
    "negated-plus": ("%a = neg %x\n%y = add %a, %z", "%y = sub %z, %x"),
    "minus-negated": ("%a = neg %z\n%y = sub %x, %a", "%y = add %x, %z"),
    "negated-times-negated": ("%a = neg %x\n%b = neg %z\n%y = mul %a, %b", "%y = mul %x, %z"),
    "silu": ("%s = sigmoid %x\n%y = mul %s, %x", "%y = silu %x"),
    "one-over": ("%y = div %one, %x", "%y = reciprocal %x"),
    "one-over-root": ("%s = sqrt %x\n%y = div %one, %s", "%y = rsqrt %x"),
    "reciprocal-of-root": ("%s = sqrt %x\n%y = reciprocal %s", "%y = rsqrt %x"),
    "abs-of-negated": ("%a = neg %x\n%y = abs %a", "%y = abs %x"),
    "abs-of-exp": ("%a = exp %x\n%y = abs %a", "%y = exp %x"),
    "floor-of-round": ("%a = round %x\n%y = floor %a", "%y = round %x"),
    "sign-of-sign": ("%a = sign %x\n%y = sign %a", "%y = sign %x"),
}
INTEGERS = {
    "plus-zero": ("%y = add %x, %zero", None),
    "floor": ("%y = floor %x", None),
    "power-one": ("%y = pow %x, %one", None),
}


def _expected(body: str | None, dtype: str) -> str:
    if body is None:
        return _unary("", dtype).replace("return %y", "return %x")
    return _unary(body, dtype)


@pytest.mark.parametrize("case", FLOATS)
def test_floats(case: str, check_pass: Check) -> None:
    before, after = FLOATS[case]
    check_pass("simplify-arithmetic", _unary(before), _expected(after, "f32"))


@pytest.mark.parametrize("case", INTEGERS)
def test_integers(case: str, check_pass: Check) -> None:
    before, after = INTEGERS[case]
    check_pass("simplify-arithmetic", _unary(before, "i64"), _expected(after, "i64"))


@pytest.mark.parametrize(
    ("body", "value", "dtype"),
    [
        ("%y = mul %x, %zero", 0, "i64"),
        ("%y = sub %x, %x", 0, "i64"),
        ("%y = pow %x, %zero", 1, "f32"),
    ],
)
def test_a_result_that_is_known(body: str, value: int, dtype: str, check_pass: Check) -> None:
    after = f"%y = full {{value={value}, shape=[2,3], dtype={dtype}}}"
    check_pass("simplify-arithmetic", _unary(body, dtype), _unary(after, dtype))


REFUSED = {
    "%y = add %x, %zero": "turns -0 into 0",
    "%y = mul %x, %zero": "x * 0 of an infinity or nan is nan",
    "%y = sub %x, %x": "x - x of an infinity or nan is nan",
    "%y = div %x, %three": "1 / 3 is rounded",
    "%y = add %x, %z": "no rule applies",
    "%a = relu %x\n%y = abs %a": "no rule applies",  # it keeps -0, which abs does not
}


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(body: str, check_refuses: Check) -> None:
    check_refuses("simplify-arithmetic", _unary(body), reason=REFUSED[body])


def test_a_constant_that_widens_becomes_an_expand(check_pass: Check) -> None:
    head = "%x = input : f32[3]\n"
    before = head + "%one = full {value=1, shape=[2,3], dtype=f32}\n%y = mul %x, %one\nreturn %y"
    check_pass("simplify-arithmetic", before, head + "%y = expand %x {shape=[2,3]}\nreturn %y")


def test_refuses_where_a_layout_is_chosen(check_refuses: Check) -> None:
    text = "%x = input : f32[2,3]@[1,0]\n%a = neg %x : f32[2,3]@[1,0]\n"
    text += "%y = neg %a : f32[2,3]@[1,0]\nreturn %y"
    check_refuses("simplify-arithmetic", text, reason="its layout is chosen already")


def test_powers_of_two_out_of_range_stay(check_refuses: Check) -> None:
    text = f"%x = input : f16[4]\n%c = {NUMBER.format(2.0**15, 'f16')}\n"
    text += "%y = div %x, %c\nreturn %y"
    check_refuses("simplify-arithmetic", text, reason="is rounded")  # 2^-15 is no normal f16


def test_signs_of_zero_survive() -> None:
    import numpy as np

    from graphopt.check import execute
    from graphopt.ir.text import parse
    from graphopt.pipeline import Pipeline

    graph = parse(_unary("%y = sub %x, %zero"))
    after = Pipeline.parse("simplify-arithmetic").run(graph)
    inputs = [np.full((2, 3), -0.0, np.float32), np.zeros((2, 3), np.float32)]
    signs = [np.signbit(execute(g, inputs)[0]) for g in (graph, after)]
    assert signs[0].all()
    assert np.array_equal(*signs)


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 8 * torch.sigmoid(x / 8) - -x


def test_fires_on_a_traced_module() -> None:
    result, rewrites = fires("simplify-arithmetic", traced(Gate(), torch.randn(2, 4)))
    assert rewrites >= 3
    assert count(result)["div"] == count(result)["neg"] == 0
