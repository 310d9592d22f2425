"""absorb-expands: ops that broadcast read through an expand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, tiny

Check = Callable[..., object]


def test_pointwise(check_pass: Check) -> None:
    head = "%x = input : f32[8,64]\n%b = input : f32[64]\n"
    before = head + "%e = expand %b {shape=[8,64]}\n%y = add %x, %e\nreturn %y"
    check_pass("absorb-expands", before, head + "%y = add %x, %b\nreturn %y")


def test_both_operands_but_one(check_pass: Check) -> None:
    head = "%a = input : f32[8,1]\n%b = input : f32[1,4]\n"
    before = head + "%e = expand %a {shape=[8,4]}\n%f = expand %b {shape=[8,4]}\n"
    check_pass("absorb-expands", before + "%y = mul %e, %f\nreturn %y",
               head + "%y = mul %a, %b\nreturn %y")  # fmt: skip


def test_masks_of_attention(check_pass: Check) -> None:
    head = "%q = input : f32[2,4,6,8]\n%m = input : bool[2,1,1,6]\n"
    before = head + "%e = expand %m {shape=[2,4,6,6]}\n"
    before += "%y = attention %q, %q, %q, %e {scale=0.5, causal=false}\nreturn %y"
    after = head + "%y = attention %q, %q, %q, %m {scale=0.5, causal=false}\nreturn %y"
    check_pass("absorb-expands", before, after)


def test_factors_of_matmul(check_pass: Check) -> None:
    head = "%a = input : f32[5,2,3]\n%b = input : f32[1,3,4]\n"
    before = head + "%e = expand %b {shape=[5,3,4]}\n%y = matmul %a, %e\nreturn %y"
    check_pass("absorb-expands", before, head + "%y = matmul %a, %b\nreturn %y")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%e = expand %b {shape=[8,4]}\n%y = relu %e", "an expand gives the result its shape"),
        ("%e = expand %b {shape=[8,4]}\n%y = add %b, %e", "an expand gives the result its shape"),
        ("%y = relu %b", "no operand is an expand"),
    ],
)
def test_refuses(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("absorb-expands", f"%b = input : f32[4]\n{body}\nreturn %y", reason=reason)


def test_refuses_keys_of_attention(check_refuses: Check) -> None:
    text = "%q = input : f32[2,4,6,8]\n%k = input : f32[1,4,6,8]\n"
    text += "%e = expand %k {shape=[2,4,6,8]}\n"
    text += "%y = attention %q, %e, %e {scale=0.5, causal=false}\nreturn %y"
    check_refuses("absorb-expands", text, reason="an expand gives the result its shape")


def test_refuses_chosen_layouts(check_refuses: Check) -> None:
    text = "%x = input : f32[8,64]\n%b = input : f32[64]\n%e = expand %b {shape=[8,64]}\n"
    text += "%y = add %x, %e : f32[8,64]@[1,0]\nreturn %y"
    check_refuses("absorb-expands", text, reason="its layout is chosen already")


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """The relative position bias of T5 is selected by an expanded mask."""
    result, rewrites = fires("absorb-expands", tiny("tiny_t5_encoder"))
    assert rewrites >= 1
    assert count(result)["expand"] == 0
