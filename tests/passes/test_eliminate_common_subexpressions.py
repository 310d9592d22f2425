"""eliminate-common-subexpressions: once is enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

from graphopt.check import check_pass as run_check
from graphopt.ir.text import parse

Check = Callable[..., object]
NAME = "eliminate-common-subexpressions"
HEAD = "%x = input : f32[4]\n%z = input : f32[4]\n"

CASES = {
    "unary": ("%a = exp %x\n%b = exp %x\n%y = sub %a, %b", "%a = exp %x\n%y = sub %a, %a"),
    "chains": (
        "%a = exp %x\n%b = exp %x\n%c = relu %a\n%d = relu %b\n%y = add %c, %d",
        "%a = exp %x\n%c = relu %a\n%y = add %c, %c",
    ),
    "commuted": (
        "%a = add %x, %z\n%b = add %z, %x\n%y = sub %a, %b",
        "%a = add %x, %z\n%y = sub %a, %a",
    ),
    "sources": (
        "%a = full {value=2, shape=[4], dtype=f32}\n"
        "%b = full {value=2, shape=[4], dtype=f32}\n"
        "%c = mul %x, %a\n%y = sub %c, %b",
        "%a = full {value=2, shape=[4], dtype=f32}\n%c = mul %x, %a\n%y = sub %c, %a",
    ),
    "constants": (
        '%a = constant {key="a", value=[1,2,3,4]} : f32[4]\n'
        '%b = constant {key="b", value=[1,2,3,4]} : f32[4]\n'
        "%c = mul %x, %a\n%y = sub %c, %b",
        '%a = constant {key="a", value=[1,2,3,4]} : f32[4]\n%c = mul %x, %a\n%y = sub %c, %a',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_merges(case: str, check_pass: Check) -> None:
    before, after = (HEAD + body + "\nreturn %y" for body in CASES[case])
    check_pass(NAME, before, after)


def test_several_results(check_pass: Check) -> None:
    text = "%x = input : f32[4]\n%v, %i = topk %x {k=2, axis=0, largest=true}\n"
    before = text + "%w, %j = topk %x {k=2, axis=0, largest=true}\nreturn %v, %j"
    check_pass(NAME, before, text + "return %v, %i")


UNLIKE = {
    "operands-in-another-order": "%a = sub %x, %z\n%b = sub %z, %x\n%y = add %a, %b",
    "attributes": "%a = clamp %x {low=0.0, high=1.0}\n%b = clamp %x {low=0.0, high=2.0}\n"
    "%y = add %a, %b",
    "axis": "%a = cumsum %x {axis=0}\n%r = reshape %x {shape=[4,1]}\n%b = cumsum %r {axis=0}\n"
    "%c = cumsum %r {axis=1}\n%d = add %b, %c\n%y = mul %a, %d",
    "signs-of-zero": "%a = full {value=0.0, shape=[4], dtype=f32}\n"
    "%b = full {value=-0.0, shape=[4], dtype=f32}\n%c = div %x, %a\n%d = div %x, %b\n"
    "%y = maximum %c, %d",
    "dtype": "%a = cast %x {dtype=f16}\n%b = cast %x {dtype=bf16}\n%c = cast %a {dtype=f32}\n"
    "%d = cast %b {dtype=f32}\n%y = add %c, %d",
    "data": '%a = constant {key="a", value=[1,2,3,4]} : f32[4]\n'
    '%b = constant {key="b", value=[1,2,3,5]} : f32[4]\n%c = mul %x, %a\n%y = sub %c, %b',
    "negative-zeros-in-data": '%a = constant {key="a", value=[0.0, 1]} : f32[2]\n'
    '%b = constant {key="b", value=[-0.0, 1]} : f32[2]\n%y = div %b, %a',
    "layouts": "%r = reshape %x {shape=[2,2]}\n%a = relu %r : f32[2,2]@[1,0]\n%b = relu %r\n"
    "%y = add %a, %b",
}


@pytest.mark.parametrize("case", UNLIKE)
def test_keeps_what_differs(case: str) -> None:
    graph = parse(HEAD + UNLIKE[case] + "\nreturn %y")
    run_check(NAME, graph, after=graph)


def test_refuses_regions(check_refuses: Check) -> None:
    body = '{{kind="pointwise"}} : f32[4] {{\n%p = input : f32[4]\n%{0} = exp %p\nreturn %{0}\n}}\n'
    text = HEAD + "%a = fused %x " + body.format("q") + "%b = fused %x " + body.format("r")
    check_refuses(NAME, text + "%y = sub %a, %b\nreturn %y", reason="it is a fused region")


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """Each layer of Llama computes the same tables of sines and cosines."""
    graph = prepared("tiny_llama", "fold-constants")
    result, rewrites = fires(NAME, graph)
    assert rewrites >= 4
    assert count(result)["constant"] < count(graph)["constant"]
