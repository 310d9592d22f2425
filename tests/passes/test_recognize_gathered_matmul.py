"""recognize-gathered-matmul: weights copied for each row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from torch import nn

from graphopt.check import check_pass as run_check
from graphopt.check import random_constant
from graphopt.ir.text import parse

Check = Callable[..., object]
HEAD = '%i = input : i64[6]\n%w = constant {key="w"} : f32[3,4,5]\n%c = gather %w, %i {axis=0}\n'
TURNED = "%t = transpose %c {perm=[0,2,1]}\n"
NUMBERS = "%zero = full {value=0, shape=[], dtype=i64}\n%n = full {value=3, shape=[], dtype=i64}\n"


def test_reads_weights_where_they_lie(check_pass: Check) -> None:
    check_pass(
        "recognize-gathered-matmul",
        "%x = input : f32[6,2,4]\n" + HEAD + "%y = matmul %x, %c\nreturn %y",
        '%x = input : f32[6,2,4]\n%i = input : i64[6]\n%w = constant {key="w"} : f32[3,4,5]\n'
        + NUMBERS
        + "%a = lt %i, %zero\n%b = add %i, %n\n%p = where %a, %b, %i\n"
        "%y = gathered_matmul %x, %w, %p\nreturn %y",
    )


@pytest.mark.parametrize(
    "product",
    [
        "%x = input : f32[6,1,5]\n" + HEAD + TURNED + "%y = matmul %x, %t",
        "%x = input : f32[6,5,1]\n" + HEAD + "%y = matmul %c, %x",
        "%x = input : f32[6,4,1]\n" + HEAD + TURNED + "%y = matmul %t, %x",
    ],
)
def test_on_either_side_and_transposed(product: str) -> None:
    graph = parse(product + "\nreturn %y", fill=random_constant)
    result = run_check("recognize-gathered-matmul", graph)
    assert count(result)["gathered_matmul"] == 1
    assert count(result)["gather"] == 0


def test_negative_indices_count_from_the_end() -> None:
    text = '%x = input : f32[4,1,4]\n%i = constant {key="i"} : i64[4]\n%w = constant {key="w"} : '
    text += "f32[3,4,5]\n%c = gather %w, %i {axis=0}\n%y = matmul %x, %c\nreturn %y"
    fill = {
        "i": torch.tensor([-1, 0, -3, 2]).numpy(),
        "w": torch.arange(60.0).reshape(3, 4, 5).numpy(),
    }
    assert count(run_check("recognize-gathered-matmul", parse(text, fill)))["gathered_matmul"] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%x = input : f32[2,4]\n" + HEAD + "%y = matmul %x, %c\nreturn %y", "not in blocks"),
        ("%x = input : f32[1,2,4]\n" + HEAD + "%y = matmul %x, %c\nreturn %y", "not in blocks"),
        ("%x = input : f32[6,5,2]\n" + HEAD + "%y = matmul %c, %x\nreturn %y",
         "more than a column each"),
        ("%x = input : f32[6,2,4]\n%w = input : f32[3,4,5]\n%i = input : i64[6]\n"
         "%c = gather %w, %i {axis=0}\n%y = matmul %x, %c\nreturn %y", "computed at run time"),
        ('%x = input : f32[3,2,4]\n%w = constant {key="w"} : f32[3,4,5]\n%i = input : i64[6]\n'
         "%c = gather %w, %i {axis=2}\n%y = matmul %x, %c\nreturn %y", "not a matrix for each"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("recognize-gathered-matmul", text, reason=reason)


class Experts(nn.Module):
    """Two of five experts for each row, as libraries write it."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(5, 8, 6))
        self.down = nn.Parameter(torch.randn(5, 8, 6))

    def forward(self, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        rows, which = x.repeat_interleave(2, 0), chosen.reshape(-1)
        y = torch.bmm(self.up[which], rows.unsqueeze(-1)).squeeze(-1)
        y = torch.bmm(y.unsqueeze(1), self.down[which]).squeeze(1)
        return y.view(len(x), 2, -1).sum(1)


def test_fires_on_experts_that_copy_their_weights() -> None:
    graph = traced(Experts(), torch.randn(3, 6), torch.tensor([[0, 4], [1, 1], [2, 0]]))
    result, rewrites = fires("recognize-gathered-matmul", graph)
    assert rewrites == 2
    assert count(result)["gathered_matmul"] == 2
