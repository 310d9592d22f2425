"""merge-clamps: bounds in a row become one clamp."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from graphopt_passes.simplify.merge_clamps import Bounds
from hypothesis import given
from hypothesis import strategies as st
from real_graphs import attribute, count, fires, traced
from texts import with_used
from torch import nn

Check = Callable[..., object]
HEAD = """
%x = input : f32[8]
%one = full {value=1, shape=[], dtype=f32}
%two = full {value=-2, shape=[], dtype=f32}
%zero = full {value=0, shape=[8], dtype=f32}
"""

CASES = {
    "relu6": ("%a = relu %x\n%y = clamp %a {high=6.0}", "%y = clamp %x {low=0.0, high=6.0}"),
    "min-max": (
        "%a = maximum %x, %two\n%y = minimum %one, %a",
        "%y = clamp %x {low=-2.0, high=1.0}",
    ),
    "overlapping": (
        "%a = clamp %x {low=-1.0, high=2.0}\n%y = clamp %a {low=0.5, high=3.0}",
        "%y = clamp %x {low=0.5, high=2.0}",
    ),
    "apart": (
        "%a = clamp %x {low=-1.0, high=0.0}\n%y = clamp %a {low=2.0, high=3.0}",
        "%y = clamp %x {low=2.0, high=2.0}",
    ),
    "crossed": ("%y = clamp %x {low=3.0, high=1.0}", "%y = clamp %x {low=1.0, high=1.0}"),
    "relu-twice": ("%a = relu %x\n%y = relu %a", "%y = relu %x"),
    "relu-of-sigmoid": ("%a = sigmoid %x\n%y = relu %a", "%y = sigmoid %x"),
    "relu-spelled-out": ("%y = maximum %x, %zero", "%y = relu %x"),
    "half-open": ("%y = clamp %x {low=0.0}", "%y = relu %x"),
    "relu-last": (
        "%a = clamp %x {low=-1.0, high=1.0}\n%y = relu %a",
        "%y = clamp %x {low=0.0, high=1.0}",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_merges(case: str, check_pass: Check) -> None:
    before, after = (with_used(HEAD, body + "\nreturn %y") for body in CASES[case])
    check_pass("merge-clamps", before, after)


def test_open_clamp_goes(check_pass: Check) -> None:
    before, after = with_used(HEAD, "%y = clamp %x\nreturn %y"), with_used(HEAD, "return %x")
    check_pass("merge-clamps", before, after)


bounds = st.tuples(st.floats(-4, 4), st.floats(-4, 4)).map(lambda t: Bounds(min(t), max(t)))


@given(bounds, bounds, st.floats(-9, 9) | st.sampled_from([math.inf, -math.inf]))
def test_one_clamp_does_what_two_do(first: Bounds, then: Bounds, x: float) -> None:
    assert then.after(first)(x) == then(first(x))


REFUSED = {
    "%y = clamp %i {low=0.5, high=2.5}": "bounds of integers are rounded",
    "%y = maximum %x, %z": "no rule applies",
    "%a = tanh %x\n%y = clamp %a {low=-1.0, high=1.0}": "no rule applies",  # it may exceed 1
}


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(body: str, check_refuses: Check) -> None:
    head = "%x = input : f32[8]\n%z = input : f32[8]\n%i = input : i64[8]\n"
    check_refuses("merge-clamps", head + body + "\nreturn %y", reason=REFUSED[body])


def test_refuses_nan_bounds(check_refuses: Check) -> None:
    text = "%x = input : f32[8]\n%n = full {value=nan, shape=[], dtype=f32}\n"
    check_refuses("merge-clamps", text + "%y = maximum %x, %n\nreturn %y", reason="no rule applies")


class Hard(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x.clamp(-1, 5)).clamp(max=4).relu()


def test_fires_on_a_traced_module() -> None:
    result, rewrites = fires("merge-clamps", traced(Hard(), torch.randn(2, 4)))
    assert rewrites >= 3
    assert count(result)["clamp"] == 1
    assert count(result)["relu"] == 0
    assert attribute(result, "clamp", "high") == [4.0]
