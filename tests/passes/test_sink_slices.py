"""sink-slices: heads are cut from one view."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import fires, prepared

from graphopt.ir.views import is_view

Check = Callable[..., object]
HEAD = "%x = input : f32[2,12]\n"


def _cut(start: int, stop: int, shape: str, more: str = "") -> str:
    return (
        HEAD + f"%s = slice %x {{starts=[0,{start}], stops=[2,{stop}], steps=[1,1]}}\n"
        f"%y = reshape %s {{shape=[{shape}]}}\n{more}return %y"
    )


def test_splits_first(check_pass: Check) -> None:
    after = HEAD + "%r = reshape %x {shape=[2,6,2]}\n"
    after += "%y = slice %r {starts=[0,2,0], stops=[2,4,2], steps=[1,1,1]}\nreturn %y"
    check_pass("sink-slices", _cut(4, 8, "2,2,2"), after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_cut(3, 7, "2,2,2"), "cuts through the parts"),
        (_cut(0, 5, "2,1,5"), "cuts through the parts"),  # 12 is no multiple of 5
        (_cut(4, 4, "2,3,0"), "more than split the sliced axis"),
        (_cut(4, 8, "8"), "more than split the sliced axis"),
        (_cut(4, 8, "2,1,2,2"), "more than split the sliced axis"),
        (HEAD + "%s = slice %x {starts=[0,0], stops=[2,12], steps=[1,2]}\n"
         "%y = reshape %s {shape=[2,3,2]}\nreturn %y", "not a run along one axis"),
        (HEAD + "%s = slice %x {starts=[0,0], stops=[1,4], steps=[1,1]}\n"
         "%y = reshape %s {shape=[1,2,2]}\nreturn %y", "not a run along one axis"),
        (HEAD + "%y = reshape %x {shape=[2,6,2]}\nreturn %y", "is not a slice"),
        ("%x = input : f32[n:1..4,12]\n%s = slice %x {starts=[0,4], stops=[4,8], steps=[1,1]}\n"
         "%y = reshape %s {shape=[-1,2,2]}\nreturn %y", "is symbolic"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("sink-slices", text, reason=reason)


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """Q, K and V of GPT-2 are three slices of one product."""
    graph = prepared(
        "tiny_gpt2", "fold-constants,matmul-to-linear,fold-bias,sink-reshapes,compose-views"
    )
    result, rewrites = fires("sink-slices", graph)
    assert rewrites == 6
    split = [
        n for n in result.nodes if n.op.name == "reshape" and n.result.type.dims[-2:] == (12, 16)
    ]
    assert split
    assert all(is_view(n) for n in split)
