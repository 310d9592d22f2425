"""fold-constants: what is known at compile time is computed then."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from real_graphs import count, fires, tiny

from graphopt.ir.text import parse
from graphopt.ops import OPS

Check = Callable[..., object]


def test_iota_and_splat(check_pass: Check) -> None:
    before = "%a = iota {start=0, step=1, size=4, dtype=f32}\n"
    before += "%b = full {value=2, shape=[], dtype=f32}\n%c = mul %a, %b\nreturn %c"
    after = '%c = constant {key="c", value=[0,2,4,6]} : f32[4]\nreturn %c'
    check_pass("fold-constants", before, after)


def test_a_uniform_result_takes_no_memory(check_pass: Check) -> None:
    before = '%a = constant {key="a"} : f32[64,64]\n%c = sub %a, %a\nreturn %c'
    after = "%c = full {value=0, shape=[64,64], dtype=f32}\nreturn %c"
    check_pass("fold-constants", before, after)


def test_several_results(check_pass: Check) -> None:
    before = '%a = constant {key="a", value=[3,1,2]} : f32[3]\n'
    before += "%v, %i = topk %a {k=2, axis=0, largest=true}\nreturn %v, %i"
    after = '%v = constant {key="v", value=[3,2]} : f32[2]\n'
    after += '%i = constant {key="i", value=[0,2]} : i64[2]\nreturn %v, %i'
    check_pass("fold-constants", before, after)


def test_evaluates_in_the_precision_of_the_node() -> None:
    text = '%a = constant {key="a", value=[1.0, 0.0009765625]} : f16[2]\n'
    graph = parse(text + "%c = sum %a {axes=[0], keepdims=false}\nreturn %c")
    result, rewrites = fires("fold-constants", graph)
    assert rewrites == 1
    (node,) = result.nodes
    assert node.attrs.value == float(np.float16(1.0009765625))  # type: ignore[attr-defined]


def test_signs_of_zero_stay() -> None:
    """0 and -0 are equal, but no splat of either is both."""
    text = '%a = constant {key="a", value=[0.0, 1.0]} : f32[2]\n'
    text += "%z = full {value=-0.0, shape=[], dtype=f32}\n%c = mul %a, %z\nreturn %c"
    result, _ = fires("fold-constants", parse(text))
    (node,) = result.nodes
    assert np.signbit(OPS["full"].reference(node.attrs)).all()
    mixed = text.replace("[0.0, 1.0]", "[-1.0, 1.0]")
    result, _ = fires("fold-constants", parse(mixed))
    assert np.signbit(result.constants[result.nodes[0].attrs.key]).tolist() == [False, True]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('%a = constant {key="a"} : f32[1,256]\n%c = expand %a {shape=[256,256]}\nreturn %c',
         "its value takes 262144 bytes, its operands 1024"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("fold-constants", text, reason=reason)


def test_grows_when_told_to(check_pass: Check) -> None:
    text = '%a = constant {key="a"} : f32[1,256]\n%c = expand %a {shape=[256,256]}\nreturn %c'
    check_pass("fold-constants{max-growth=300.0}", text)


def test_leaves_inputs_and_layouts_alone(check_pass: Check) -> None:
    text = (
        '%x = input : f32[2,2]\n%a = constant {key="a"} : f32[2,2]\n%b = exp %a : f32[2,2]@[1,0]\n'
    )
    text += "%y = add %x, %b\nreturn %y"
    check_pass("fold-constants", text, text)


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_swin", "tiny_t5_encoder"])
def test_fires_on_real_models(name: str) -> None:
    """Window masks and relative positions."""
    graph = tiny(name)
    result, rewrites = fires("fold-constants", graph)
    assert rewrites > 20
    assert count(result)["iota"] == 0
