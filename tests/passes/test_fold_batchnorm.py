"""fold-batchnorm: batch norms go into the convolutions before them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, tiny

from graphopt.ir.graph import Graph

Check = Callable[..., object]
CONV = "{stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1], groups=%d}"
TRANSPOSED = "{stride=[2,2], padding=[1,1], output_padding=[0,0], dilation=[1,1], groups=%d}"
NORM = (
    '%g = constant {key="g"} : f32[4]\n%s = constant {key="s"} : f32[4]\n'
    '%m = constant {key="m"} : f32[4]\n%v = constant {key="v"} : f32[4]\n'
)


def _text(op: str = "conv", groups: int = 1, bias: bool = True, result: str = "%z") -> str:
    inner = 4 // groups
    attrs = (CONV if op == "conv" else TRANSPOSED) % groups
    text = f'%x = input : f32[2,4,5,5]\n%w = constant {{key="w"}} : f32[4,{inner},3,3]\n'
    text += '%b = constant {key="b"} : f32[4]\n' if bias else ""
    text += NORM + f"%y = {op} %x, %w{', %b' if bias else ''} {attrs}\n"
    return text + f"%z = batch_norm %y, %g, %s, %m, %v {{eps=0.001}}\nreturn {result}"


@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_folds(op: str, groups: int, bias: bool, check_pass: Check) -> None:
    result = check_pass("fold-batchnorm", _text(op, groups, bias))
    assert isinstance(result, Graph)
    assert count(result) == {"constant": 2, op: 1}


def test_numbers(check_pass: Check) -> None:
    """scale = 2 / sqrt(0.24 + 0.01) = 4, shift = 1 - 3 * 4 = -11."""
    head = '%x = input : f32[1,1,3]\n%w = constant {{key="w{0}", value=[{0}]}} : f32[1,1,1]\n'
    conv = "{stride=[1], padding=[[0,0]], dilation=[1]}\n"
    numbers = {"g": 2, "s": 1, "m": 3, "v": 0.24}
    before = head.format(5) + "".join(
        f'%{n} = constant {{key="{n}", value=[{v}]}} : f32[1]\n' for n, v in numbers.items()
    )
    before += f"%y = conv %x, %w {conv}%z = batch_norm %y, %g, %s, %m, %v {{eps=0.01}}\nreturn %z"
    after = head.format(20) + '%b = constant {key="b", value=[-11]} : f32[1]\n'
    check_pass("fold-batchnorm", before, after + f"%z = conv %x, %w, %b {conv}return %z")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_text(result="%z, %y"), "the convolution is read elsewhere too"),
        (_text().replace('%w = constant {key="w"}', "%w = input"), "computed at run time"),
        (_text().replace('%v = constant {key="v"}', "%v = input"), "computed at run time"),
        ("%y = input : f32[2,4,5,5]\n" + NORM
         + "%z = batch_norm %y, %g, %s, %m, %v {eps=0.001}\nreturn %z", "is not a convolution"),
        (_text().replace("%z = batch_norm %y", "%r = relu %y\n%z = batch_norm %r"),
         "is not a convolution"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("fold-batchnorm", text, reason=reason)


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_unet"])
def test_fires_on_real_models(name: str) -> None:
    graph = tiny(name)
    result, rewrites = fires("fold-batchnorm", graph)
    assert rewrites == count(graph)["batch_norm"] > 0
    assert count(result)["batch_norm"] == 0
