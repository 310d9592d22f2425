"""fold-scale: factors and sums behind a product go into its weights and bias."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from real_graphs import count, fires, prepared

from graphopt.check import execute, seeded_inputs
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse

Check = Callable[..., object]
CONV = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"


def _linear(w: str, b: str, more: str) -> str:
    text = f'%x = input : f32[5,2]\n%w = constant {{key="w{w}", value=[{w}]}} : f32[2,2]\n'
    text += f'%b = constant {{key="b{b}", value=[{b}]}} : f32[2]\n' if b else ""
    return text + f"%y = linear %x, %w{', %b' if b else ''}\n{more}"


SCALE = '%s = constant {key="s", value=[2, 4]} : f32[2]\n%z = mul %y, %s\nreturn %z'
SUM = '%s = constant {key="s", value=[2, 4]} : f32[2]\n%z = add %s, %y\nreturn %z'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_linear("1,2,3,4", "5,6", SCALE), _linear("2,4,12,16", "10,24", "return %y")),
        (_linear("1,2,3,4", "", SCALE), _linear("2,4,12,16", "", "return %y")),
        (_linear("1,2,3,4", "5,6", SUM), _linear("1,2,3,4", "7,10", "return %y")),
        (_linear("1,2,3,4", "", SUM), _linear("1,2,3,4", "2,4", "return %y")),
    ],
    ids=["mul", "mul-without-bias", "add", "add-without-bias"],
)
def test_linear(before: str, after: str, check_pass: Check) -> None:
    check_pass("fold-scale", before, after)


def test_a_whole_chain(check_pass: Check) -> None:
    """(y * 2 + 1) * 3, whatever comes first."""
    chain = (
        "%two = full {value=2, shape=[], dtype=f32}\n%three = full {value=3, shape=[], dtype=f32}\n"
    )
    chain += '%c = constant {key="c", value=[1, 1]} : f32[2]\n'
    chain += "%p = mul %y, %two\n%q = add %p, %c\n%z = mul %q, %three\nreturn %z"
    check_pass("fold-scale", _linear("1,2,3,4", "5,6", chain),
               _linear("6,12,18,24", "33,39", "return %y"))  # fmt: skip


def _weights(graph: Graph) -> np.ndarray:
    (product,) = (n for n in graph.nodes if n.op.kind == "contraction")
    array = graph.constant(product.operands[1])
    assert array is not None
    return array


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_scale_within_groups(groups: int, check_pass: Check) -> None:
    attrs = (
        f"{{stride=[2,2], padding=[1,1], output_padding=[1,1], dilation=[1,1], groups={groups}}}"
    )
    text = f'%x = input : f32[1,4,5,5]\n%w = constant {{key="w"}} : f32[4,{4 // groups},3,3]\n'
    text += '%s = constant {key="s", value=[1,2,3,4]} : f32[4,1,1]\n'
    text += f"%y = conv_transpose %x, %w {attrs}\n%z = mul %y, %s\nreturn %z"
    result = check_pass("fold-scale", text)
    assert isinstance(result, Graph)
    assert count(result)["mul"] == 0


def test_convolutions(check_pass: Check) -> None:
    text = '%x = input : f32[1,4,5,5]\n%w = constant {key="w"} : f32[6,2,3,3]\n'
    text += '%s = constant {key="s", value=[1,2,3,4,5,6]} : f32[1,6,1,1]\n'
    attrs = CONV.replace("}", ", groups=2}")
    result = check_pass(
        "fold-scale", text + f"%y = conv %x, %w {attrs}\n%z = mul %s, %y\nreturn %z"
    )
    assert isinstance(result, Graph)
    assert [n.op.name for n in result.nodes] == ["constant", "conv"]


OTHERS = {
    "mul": '%s = constant {key="s"} : f32[5,1]\n%z = mul %y, %s\nreturn %z',
    "readers": SCALE.replace("return %z", "return %z, %y"),
    "wide": '%s = constant {key="s"} : f32[3,5,2]\n%z = mul %y, %s\nreturn %z',
}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_linear("1,2,3,4", "", OTHERS["mul"]), "varies along other axes than the channels"),
        (_linear("1,2,3,4", "", OTHERS["readers"]), "read elsewhere too"),
        (_linear("1,2,3,4", "", OTHERS["wide"]), "the constant widens the result"),
        (_linear("1,2,3,4", "", SCALE.replace("return %z", "%t = linear %x, %w\nreturn %z, %t")),
         "the weights are shared"),
        ("%x = input : f32[5,2]\n%w = input : f32[2,2]\n%y = linear %x, %w\n" + SCALE,
         "weights are computed at run time"),
        ('%x = input : i32[5,2]\n%w = constant {key="w"} : i32[2,2]\n%y = linear %x, %w\n'
         + SCALE.replace("f32", "i32"), "integers would be rounded"),
        ("%y = input : f32[5,2]\n" + SCALE, "does not combine a product with a constant"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("fold-scale", text, reason=reason)


def test_half_precision_weights_are_rounded_once() -> None:
    text = '%x = input : f16[3,2]\n%w = constant {key="w", value=[1,2,3,4]} : f16[2,2]\n'
    text += "%s = full {value=0.1, shape=[], dtype=f16}\n%y = linear %x, %w\n%z = mul %y, %s\n"
    graph = parse(text + "return %z")
    result, rewrites = fires("fold-scale", graph)
    assert rewrites == 1
    exact = np.array([[1, 2], [3, 4]]) * 0.1  # `full` is not yet rounded to f16
    np.testing.assert_allclose(_weights(result), exact, rtol=2.0**-11 + 2.0**-12)
    for g in (graph, result):
        execute(g, seeded_inputs(g))


@pytest.mark.transformers
@pytest.mark.parametrize(("name", "folds"), [("tiny_convnext", 5), ("tiny_detr", 38)])
def test_fires_on_real_models(name: str, folds: int) -> None:
    """Layer scales of ConvNeXt; DETR's frozen batch norms, a factor and a sum each."""
    result, rewrites = fires("fold-scale", prepared(name, "fold-constants"))
    assert rewrites >= folds
    assert count(result)["mul"] == 0
