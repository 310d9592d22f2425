"""decompose-group-norm: the same numbers, put together from those of channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphopt_passes.legalize.decompose_group_norm import DecomposeGroupNorm
from real_graphs import count, fires, traced
from torch import nn, randn

from graphopt.check import check_pass, execute, random_constant
from graphopt.ir.text import parse
from graphopt.passbase import PassContext

Check = Callable[..., object]


def _norm(shape: str = "2,12,5,7", groups: int = 4, dtype: str = "f32") -> str:
    channels = shape.split(",")[1]
    return f"""%x = input : {dtype}[{shape}]
%w = constant {{key="w"}} : {dtype}[{channels}]
%b = constant {{key="b"}} : {dtype}[{channels}]
%y = group_norm %x, %w, %b {{groups={groups}, eps=1e-05}}
return %y"""


@pytest.mark.parametrize("shape", ["2,12,5,7", "1,12,40", "3,12,2,3,4"])
@pytest.mark.parametrize("groups", [1, 2, 4, 6])
def test_values(shape: str, groups: int) -> None:
    graph = check_pass("decompose-group-norm", parse(_norm(shape, groups), fill=random_constant))
    found = count(graph)
    assert (found["group_norm"], found["mean"]) == (0, 4)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """The difference of two large squares would leave none of the variance."""
    graph = parse(_norm(), fill=random_constant)
    split = DecomposeGroupNorm().run(graph, PassContext())
    x = np.random.default_rng(0).standard_normal((2, 12, 5, 7)).astype(np.float32) + 4096
    (exact,) = execute(graph, [x], precision=np.float64)
    (found,) = execute(split, [x])
    np.testing.assert_allclose(found, exact, atol=2e-3 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_norm(groups=12), "whole vectors, or channels"),
        (_norm("1,64,8,8", groups=4), "whole vectors, or channels"),
        (_norm("1,12,3,5"), "a handful of elements"),
        (_norm(dtype="f16"), "of another type"),
    ],
)
def test_refusals(body: str, reason: str, check_refuses: Check) -> None:
    check_refuses("decompose-group-norm", body, reason)


def test_a_traced_module() -> None:
    module = nn.Sequential(nn.Conv2d(4, 64, 3), nn.GroupNorm(32, 64), nn.SiLU())
    _, rewrites = fires("decompose-group-norm", traced(module, randn(1, 4, 12, 12)))
    assert rewrites == 1
