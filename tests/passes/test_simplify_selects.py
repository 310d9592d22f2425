"""simplify-selects: choices, comparisons and logic that are decided beforehand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from texts import with_used
from torch import nn

Check = Callable[..., object]
HEAD = """
%x = input : f32[4]
%z = input : f32[4]
%i = input : i64[4]
%j = input : i64[4]
%p = input : bool[4]
%true = full {value=1, shape=[4], dtype=bool}
%false = full {value=0, shape=[4], dtype=bool}
"""

CASES = {
    "where-true": ("%y = where %true, %x, %z\nreturn %y", "return %x"),
    "where-false": ("%y = where %false, %x, %z\nreturn %y", "return %z"),
    "where-same": ("%y = where %p, %x, %x\nreturn %y", "return %x"),
    "where-not": ("%n = logical_not %p\n%y = where %n, %x, %z\nreturn %y",
                  "%y = where %p, %z, %x\nreturn %y"),
    "and-true": ("%y = and %true, %p\nreturn %y", "return %p"),
    "and-false": ("%y = and %p, %false\nreturn %y", "return %false"),
    "or-false": ("%y = or %p, %false\nreturn %y", "return %p"),
    "or-true": ("%y = or %p, %true\nreturn %y", "return %true"),
    "and-itself": ("%y = and %i, %i\nreturn %y", "return %i"),
    "xor-itself": ("%y = xor %p, %p\nreturn %y", "return %false"),
    "xor-true": ("%y = xor %p, %true\nreturn %y", "%y = logical_not %p\nreturn %y"),
    "not-not": ("%n = logical_not %p\n%y = logical_not %n\nreturn %y", "return %p"),
    "not-less": ("%n = lt %i, %j\n%y = logical_not %n\nreturn %y", "%y = ge %i, %j\nreturn %y"),
    "not-equal": ("%n = eq %x, %z\n%y = logical_not %n\nreturn %y", "%y = ne %x, %z\nreturn %y"),
    "bitwise-not-bool": ("%y = bitwise_not %p\nreturn %y", "%y = logical_not %p\nreturn %y"),
    "bitwise-not-twice": ("%n = bitwise_not %i\n%y = bitwise_not %n\nreturn %y", "return %i"),
    "equal-itself": ("%y = eq %i, %i\nreturn %y", "return %true"),
    "less-than-itself": ("%y = lt %x, %x\nreturn %y", "return %false"),
    "maximum-itself": ("%y = maximum %x, %x\nreturn %y", "return %x"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_decides(case: str, check_pass: Check) -> None:
    before, after = (with_used(HEAD, body) for body in CASES[case])
    check_pass("simplify-selects", before, after)


REFUSED = {
    "%y = eq %x, %x": "nan differs from itself",
    "%n = lt %x, %z\n%y = logical_not %n": "neither a comparison nor its opposite holds",
    "%y = where %p, %x, %z": "no rule applies",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(body: str, check_refuses: Check) -> None:
    text = with_used(HEAD, body + "\nreturn %y")
    check_refuses("simplify-selects", text, reason=REFUSED[body])


def test_what_was_broadcast_is_expanded(check_pass: Check) -> None:
    head = "%x = input : f32[4]\n%z = input : f32[3,4]\n"
    known = "%t = full {value=1, shape=[], dtype=bool}\n%y = where %t, %x, %z\nreturn %y"
    check_pass("simplify-selects", head + known, head + "%y = expand %x {shape=[3,4]}\nreturn %y")


class Masked(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        keep = torch.ones(4, dtype=torch.bool) & mask
        return torch.where(~keep, 0.0, x)


def test_fires_on_a_traced_module() -> None:
    graph = traced(Masked(), torch.randn(2, 4), torch.tensor([True, False, True, True]))
    result, rewrites = fires("simplify-selects", graph)
    assert rewrites >= 2
    assert not {"and", "bitwise_not", "logical_not"} & set(count(result))
