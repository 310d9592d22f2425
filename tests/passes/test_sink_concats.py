"""sink-concats: what follows a concatenation of kernels' results alone moves before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, traced

from graphopt.pipeline import Pipeline

Check = Callable[..., object]
HEAD = """%x = input : f32[2,4]
%w = constant {key="w"} : f32[3,4]
%v = constant {key="v"} : f32[5,4]
%a = linear %x, %w
%b = linear %x, %v
"""


def test_activation(check_pass: Check) -> None:
    before = HEAD + "%c = concat %a, %b {axis=1}\n%y = sigmoid %c\nreturn %y"
    after = HEAD + "%s = sigmoid %a\n%t = sigmoid %b\n%y = concat %s, %t {axis=1}\nreturn %y"
    check_pass("sink-concats", before, after)


def test_scalar_operand(check_pass: Check) -> None:
    scalar = "%h = full {value=0.5, shape=[1], dtype=f32}\n"
    before = HEAD + scalar + "%c = concat %a, %b {axis=1}\n%y = sub %h, %c\nreturn %y"
    after = HEAD + scalar + "%s = sub %h, %a\n%t = sub %h, %b\n"
    check_pass("sink-concats", before, after + "%y = concat %s, %t {axis=1}\nreturn %y")


def test_nested(check_pass: Check) -> None:
    head = HEAD + '%u = constant {key="u"} : f32[8,4]\n%d = linear %x, %u\n'
    before = (
        head + "%c = concat %a, %b {axis=1}\n%e = concat %c, %d {axis=0}\n%y = relu %e\nreturn %y"
    )
    after = head + "%s = relu %a\n%t = relu %b\n%c = concat %s, %t {axis=1}\n"
    check_pass(
        "sink-concats", before, after + "%r = relu %d\n%y = concat %c, %r {axis=0}\nreturn %y"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("%c = concat %a, %b {axis=1}\n%y = relu %c\nreturn %y, %c", "read here alone"),
        ("%c = concat %a, %b {axis=1}\n%y = relu %c\nreturn %y, %a", "read here alone"),
        ("%c = concat %a, %x {axis=1}\n%y = relu %c\nreturn %y, %b", "read here alone"),
        ("%r = input : f32[2,8]\n%c = concat %a, %b {axis=1}\n%y = add %c, %r\nreturn %y",
         "another operand is no scalar"),
        ("%r = full {value=2.0, shape=[3,1,1], dtype=f32}\n%c = concat %a, %b {axis=1}\n"
         "%y = add %c, %r\nreturn %y", "another operand is no scalar"),
        ("%r = full {value=2.0, shape=[1,1,1], dtype=f32}\n%c = concat %a, %b {axis=1}\n"
         "%y = add %c, %r\nreturn %y", "the concatenation is broadcast"),
        ("%c = concat %a, %b {axis=1}\n%d = concat %b, %a {axis=1}\n%y = add %c, %d\nreturn %y",
         "not one of its operands is a concatenation"),
    ],
)  # fmt: skip
def test_refusals(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("sink-concats", HEAD + body, reason)


def test_fires_on_the_phases_of_a_generator() -> None:
    from torch import nn, zeros

    model = nn.Sequential(nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.LeakyReLU(0.1))
    phases = Pipeline.parse("decompose-conv-transpose,sink-views").run(
        traced(model, zeros(1, 4, 5, 6))
    )
    result, rewrites = fires("sink-concats", phases)
    assert rewrites
    assert count(result)["leaky_relu"] == 4
