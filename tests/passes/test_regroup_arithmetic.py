"""regroup-arithmetic: constants in a row become one; powers and quotients become products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from real_graphs import count, fires, traced
from torch import nn

Check = Callable[..., object]
HEAD = "%x = input : f32[2,3]\n%z = input : f32[2,3]\n"


def _text(body: str, result: str = "%y") -> str:
    """`#n` stands for a splat of n."""
    lines: list[str] = []
    numbers: dict[str, str] = {}
    for line in body.splitlines():
        for word in line.replace(",", " ").split():
            if word.startswith("#") and word not in numbers:
                numbers[word] = f"%n{len(numbers)}"
                lines.append(f"{numbers[word]} = full {{value={word[1:]}, shape=[], dtype=f32}}")
            line = line.replace(word, numbers.get(word, word)) if word[0] == "#" else line
        lines.append(line)
    return HEAD + "\n".join(lines) + f"\nreturn {result}"


CASES = {
    "sums": ("%a = add %x, #2\n%y = add #3, %a", "%y = add %x, #5"),
    "factors": ("%a = mul %x, #2\n%y = mul %a, #3", "%y = mul %x, #6"),
    "difference": ("%y = sub %x, #2", "%y = add %x, #-2"),
    "sum-and-difference": ("%a = add %x, #2\n%y = sub %a, #3", "%y = add %x, #-1"),
    "three-in-a-row": ("%a = add %x, #1\n%b = sub %a, #4\n%y = add %b, #5", "%y = add %x, #2"),
    "quotient": ("%y = div %x, #5", "%y = mul %x, #0.2"),
    "factor-and-quotient": ("%a = mul %x, #3\n%y = div %a, #4", "%y = mul %x, #0.75"),
    "through-a-sum": ("%a = mul %x, #3\n%b = add %a, #2\n%y = mul %b, #5",
                      "%a = mul %x, #15\n%y = add %a, #10"),
    "square": ("%y = pow %x, #2", "%y = mul %x, %x"),
    "cube": ("%y = pow %x, #3", "%a = mul %x, %x\n%y = mul %a, %x"),
    "inverse": ("%y = pow %x, #-1", "%y = reciprocal %x"),
    "root": ("%a = exp %x\n%y = pow %a, #0.5", "%a = exp %x\n%y = sqrt %a"),
    "inverse-root": ("%a = mul %x, %x\n%m = mean %a {axes=[1], keepdims=true}\n%e = add %m, #0.1\n"
                     "%y = pow %e, #-0.5",
                     "%a = mul %x, %x\n%m = mean %a {axes=[1], keepdims=true}\n%e = add %m, #0.1\n"
                     "%y = rsqrt %e"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_regroups(case: str, check_pass: Check) -> None:
    before, after = CASES[case]
    check_pass("regroup-arithmetic", _text(before), _text(after))


def test_plus_zero(check_pass: Check) -> None:
    check_pass("regroup-arithmetic", _text("%y = add %x, #0"), _text("", "%x"))


def test_arrays_and_splats_combine(check_pass: Check) -> None:
    head = '%x = input : f32[2,3]\n%c = constant {{key="{}", value=[{}]}} : f32[3]\n'
    two = "%two = full {value=2, shape=[], dtype=f32}\n"
    before = head.format("c", "1, 2, 3") + two + "%a = mul %x, %two\n%y = mul %a, %c\nreturn %y"
    after = head.format("d", "2, 4, 6") + "%y = mul %x, %c\nreturn %y"
    check_pass("regroup-arithmetic", before, after)


def test_integers_wrap_alike(check_pass: Check) -> None:
    text = "%x = input : u8[4]\n%c = full {value=200, shape=[], dtype=u8}\n"
    before = text + "%a = add %x, %c\n%y = add %a, %c\nreturn %y"
    after = text.replace("200", "144") + "%y = add %x, %c\nreturn %y"
    check_pass("regroup-arithmetic", before, after)


def test_broadcast_divisor_is_inverted_once(check_pass: Check) -> None:
    head = "%x = input : f32[4,16]\n%d = input : f32[4,1]\n"
    before = head + "%e = exp %d\n%y = div %x, %e\nreturn %y"
    after = head + "%e = exp %d\n%r = reciprocal %e\n%y = mul %x, %r\nreturn %y"
    check_pass("regroup-arithmetic", before, after)


REFUSED = {
    "%a = add %x, #3e38\n%y = add %a, #3e38": "the combined constant is not finite",
    "%y = div %x, #1e39": "no reciprocal in the normal range",
    "%y = pow %x, #0.5": "a root differs from the power for -inf",
    "%e = exp %z\n%y = div %x, %e": "about as many elements",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refuses(body: str, check_refuses: Check) -> None:
    check_refuses("regroup-arithmetic", _text(body), reason=REFUSED[body])


def test_refuses_constants_that_grow(check_refuses: Check) -> None:
    text = '%x = input : f32[4,4]\n%a = constant {key="a"} : f32[4,1]\n'
    text += '%b = constant {key="b"} : f32[1,4]\n%p = mul %x, %a\n%y = mul %p, %b\nreturn %y'
    check_refuses("regroup-arithmetic", text, reason="larger than both")


def test_refuses_a_sum_with_other_readers(check_refuses: Check) -> None:
    body = "%a = mul %x, #3\n%b = add %a, #2\n%y = mul %b, #5"
    check_refuses("regroup-arithmetic", _text(body, "%y, %b"), reason="read elsewhere too")


class Normalized(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 127.5) / 58.8 / x.abs().amax(-1, keepdim=True)


def test_fires_on_a_traced_module() -> None:
    result, rewrites = fires("regroup-arithmetic", traced(Normalized(), torch.rand(2, 64)))
    assert rewrites == 3
    assert count(result)["div"] == 0
    assert count(result)["reciprocal"] == 1
