"""recognize-gelu, -silu and -rms-norm: composites that a model spells out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from graphopt_passes.recognize.patterns import Any, Number, match, op
from real_graphs import attribute, count, fires, prepared, traced
from texts import with_used
from torch import nn

from graphopt.ir.text import parse
from graphopt.rewrite import Rewriter

Check = Callable[..., object]
NUMBERS = """
%half = full {value=0.5, shape=[], dtype=f32}
%cubic = full {value=0.044715, shape=[], dtype=f32}
%root = full {value=0.7978845608028654, shape=[], dtype=f32}
%one = full {value=1, shape=[], dtype=f32}
%c = full {value=1.702, shape=[], dtype=f32}
%d = full {value=0.5875440658049353, shape=[], dtype=f32}
"""
CUBE = "%a = mul %x, %x\n%b = mul %a, %x\n%t = mul %b, %cubic\n"
INSIDE = "%s = add %x, %t\n%r = mul %root, %s\n%h = tanh %r\n%o = add %one, %h\n"
GELUS = {
    "half-x-first": CUBE + INSIDE + "%q = mul %x, %half\n%y = mul %q, %o",
    "half-last": CUBE + INSIDE + "%q = mul %o, %x\n%y = mul %half, %q",
    "square-first": "%a = mul %x, %x\n%b = mul %cubic, %a\n%t = mul %b, %x\n" + INSIDE
    + "%q = mul %half, %o\n%y = mul %q, %x",
    "cubic-first": "%a = mul %x, %x\n%b = mul %cubic, %x\n%t = mul %a, %b\n" + INSIDE
    + "%q = mul %x, %half\n%y = mul %o, %q",
}  # fmt: skip


def _text(body: str) -> str:
    return with_used("%x = input : f32[2,8]\n" + NUMBERS, body + "\nreturn %y")


@pytest.mark.parametrize("case", GELUS)
def test_gelu(case: str, check_pass: Check) -> None:
    after = '%x = input : f32[2,8]\n%y = gelu %x {approximate="tanh"}\nreturn %y'
    check_pass("recognize-gelu", _text(GELUS[case]), after)


@pytest.mark.parametrize("wrong", ["0.0447", "0.04471499845385551"])
def test_gelu_refuses_other_constants(wrong: str, check_refuses: Check) -> None:
    text = _text(GELUS["half-last"]).replace("0.044715", wrong)
    check_refuses("recognize-gelu", text, reason="it is not the last product of a gelu")


def test_gelu_refuses_two_variables(check_refuses: Check) -> None:
    text = _text(GELUS["half-last"].replace("%q = mul %o, %x", "%q = mul %o, %z"))
    check_refuses("recognize-gelu", "%z = input : f32[2,8]\n" + text, reason="not the last product")


def test_silu(check_pass: Check) -> None:
    body = "%a = mul %x, %c\n%s = sigmoid %a\n%y = mul %s, %x"
    check_pass(
        "recognize-silu", _text(body), _text("%a = mul %x, %c\n%s = silu %a\n%y = mul %s, %d")
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_text("%a = mul %x, %c\n%s = sigmoid %a\n%y = mul %s, %c"), "not a product with its own"),
        (_text("%a = mul %x, %c\n%s = sigmoid %a\n%y = mul %s, %x").replace("1.702", "1e-5"),
         "could overflow or lose digits"),
        ("%x = input : f32[2,8]\n%c = input : f32[8]\n%a = mul %x, %c\n%s = sigmoid %a\n"
         "%y = mul %s, %x\nreturn %y", "is not one number"),
    ],
)  # fmt: skip
def test_silu_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("recognize-silu", text, reason=reason)


def _norm(scale: str, mean: str = "axes=[1], keepdims=true", weight: str = "8") -> str:
    head = f'%x = input : f32[2,8]\n%w = constant {{key="w"}} : f32[{weight}]\n'
    head += "%eps = full {value=0.01, shape=[], dtype=f32}\n"
    return head + f"%q = mul %x, %x\n%m = mean %q {{{mean}}}\n%e = add %eps, %m\n{scale}return %y"


BY_RSQRT = "%r = rsqrt %e\n%n = mul %r, %x\n%y = mul %w, %n\n"
BY_SQRT = "%r = sqrt %e\n%n = div %x, %r\n%y = mul %n, %w\n"


@pytest.mark.parametrize("scale", [BY_RSQRT, BY_SQRT])
def test_rms_norm(scale: str, check_pass: Check) -> None:
    after = '%x = input : f32[2,8]\n%w = constant {key="w"} : f32[8]\n'
    after += "%y = rms_norm %x, %w {axes=1, eps=0.01}\nreturn %y"
    check_pass("recognize-rms-norm", _norm(scale), after)


def test_rms_norm_of_two_axes(check_pass: Check) -> None:
    text = _norm(BY_RSQRT, "axes=[0,1], keepdims=true", "2,8")
    after = '%x = input : f32[2,8]\n%w = constant {key="w"} : f32[2,8]\n'
    after += "%y = rms_norm %x, %w {axes=2, eps=0.01}\nreturn %y"
    check_pass("recognize-rms-norm", text, after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_norm(BY_RSQRT, "axes=[0], keepdims=true"), "not over trailing axes"),
        (_norm(BY_RSQRT, weight="1"), "does not have the shape of the axes"),
        (_norm(BY_RSQRT).replace("full {value=0.01, shape=[], dtype=f32}", "input : f32[]"),
         "epsilon is computed at run time"),
        (_norm(BY_RSQRT).replace("%n = mul %r, %x", "%n = mul %r, %q"), "not the last product"),
    ],
)  # fmt: skip
def test_rms_norm_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("recognize-rms-norm", text, reason=reason)


def test_patterns() -> None:
    text = "%x = input : f32[4]\n%z = input : f32[4]\n%two = full {value=2, shape=[], dtype=f32}\n"
    graph = parse(text + "%a = mul %z, %two\n%b = sub %x, %a\n%y = add %b, %z\nreturn %y")
    rw = Rewriter(graph)
    (y,) = rw.outputs
    named = op("add", Any("z"), op("sub", Any("x"), op("mul", Number(2.0), Any("z")), bind="d"))
    found = match(named, y, rw)
    assert found is not None
    assert {k: v.name for k, v in found.items()} == {"z": "z", "x": "x", "d": "b"}
    assert match(op("add", Any("x"), op("sub", Any("x"), Any("y"))), y, rw) is None
    assert (
        match(op("add", op("sub", op("mul", Any("a"), Any("b")), Any("c")), Any("d")), y, rw)
        is None
    )


class QuickGelu(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


def test_silu_fires_on_a_traced_module() -> None:
    result, rewrites = fires("recognize-silu", traced(QuickGelu(), torch.randn(2, 4)))
    assert rewrites == 1
    assert count(result)["silu"] == 1


@pytest.mark.transformers
def test_gelu_fires_on_a_real_model() -> None:
    result, rewrites = fires("recognize-gelu", prepared("tiny_gpt2", "fold-constants"))
    assert rewrites == 2
    assert attribute(result, "gelu", "approximate") == ["tanh", "tanh"]
    assert count(result)["tanh"] == 0


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_t5_encoder"])
def test_rms_norm_fires_on_real_models(name: str) -> None:
    result, rewrites = fires("recognize-rms-norm", prepared(name, "fold-constants"))
    assert rewrites == 5
    assert count(result)["rsqrt"] == 0
