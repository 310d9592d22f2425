"""Kernels that write a part of a concatenation, and kernels that read one, as a whole model: 16
bytes at a time, the other parts left as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.artifact.loader import load
from graphopt.check import random_constant
from graphopt.check.reference import execute
from graphopt.driver import Options, build
from graphopt.ir.text import parse
from graphopt.ir.views import is_view
from graphopt.pipeline import Pipeline

pytestmark = pytest.mark.compiler

PASSES = "explicit-padding,assign-layouts,fuse,join-concats{align-bytes=16},plan-memory"

CONV = "stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]"
POOL = "kernel=[3,3], stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1]"
PAD = 'before=[0,0,1,1], after=[0,0,1,1], value=0.0, mode="constant"'

PRODUCERS = {
    "contraction": f"%a0 = conv %x, %w1 {{{CONV}}}\n%a = relu %a0\n",
    "depthwise": f"%a0 = pad %x {{{PAD}}}\n%a = conv %a0, %wd {{{CONV}, groups=24}}\n",
    "window": f"%a = max_pool %x {{{POOL}}}\n",
    "rows": "%a = softmax %x {axis=1}\n",
    "attention": "%a = attention %x, %x, %x {scale=0.5, causal=false}\n",
}
READERS = {
    "pointwise": "%r = sigmoid %A\n",
    "movement": f"%r = pad %A {{{PAD}}}\n",
    "contraction": f"%r = conv %A, %wj {{{CONV}}}\n",
    "window": f"%r = max_pool %A {{{POOL}}}\n",
    "rows": "%r = softmax %A {axis=1}\n",
    "reduction": "%r = mean %A {axes=[2,3], keepdims=true}\n",
}
PAIRS = [
    *((producer, "contraction", True) for producer in PRODUCERS),
    *(("contraction", reader, reader != "window") for reader in READERS),
]


def _text(producer: str, reader: str, whole: bool, dtype: str) -> str:
    """`producer` makes of %x the middle one of three parts; `reader` reads the whole, or it."""
    read = READERS[reader].replace("%A", "%c" if whole else "%a")
    return (
        f"%x = input : {dtype}[2,24,6,9]\n"
        f'%w1 = constant {{key="w1"}} : {dtype}[24,24,1,1]\n'
        f'%wd = constant {{key="wd"}} : {dtype}[24,1,3,3]\n'
        f'%wj = constant {{key="wj"}} : {dtype}[16,{72 if whole else 24},1,1]\n'
        f"%p = max_pool %x {{{POOL}}}\n{PRODUCERS[producer]}%n = neg %x\n"
        f"%q = max_pool %n {{{POOL}}}\n%c = concat %p, %a, %q {{axis=1}}\n"
        f"{read}return %r, %c"
    )


@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize(("producer", "reader", "whole"), PAIRS)
def test_parts_in_place(producer: str, reader: str, whole: bool, dtype: str, tmp_path: Path):
    graph = parse(_text(producer, reader, whole, dtype), fill=random_constant)
    made = build(graph, target="cuda:emulated", out=tmp_path / "m", options=Options(passes=PASSES))
    (concat,) = (n for n in made.planned.nodes if n.op.name == "concat")
    assert is_view(concat)
    kernels = "".join(made.sources[f"{k.name}.cu"] for k in made.program.kernels)
    assert "spread(out" not in kernels
    x = np.random.default_rng(0).standard_normal((2, 24, 6, 9), np.float32)
    x = x.astype(graph.inputs[0].type.dtype.numpy)
    with load(tmp_path / "m") as model:
        got = list(model.fetched(model.run({"x": x})).values())
    for result, wanted in zip(got, execute(graph, [x], precision=np.float64), strict=True):
        off = np.abs(result - wanted).max() / np.abs(wanted).max()
        assert off <= {"f32": 1e-5, "f16": 2e-3}[dtype]


def test_a_part_that_no_vector_begins_at_is_copied():
    """Five halves on: the next part would be read and written one by one."""
    in_place = {}
    for name, (a, b) in {"even": (8, 16), "odd": (5, 19)}.items():
        text = (
            f"%x = input : f16[512,{a}]\n%y = input : f16[512,{b}]\n"
            f"%s = softmax %x {{axis=1}}\n%t = softmax %y {{axis=1}}\n"
            "%c = concat %s, %t {axis=1}\n%r = softmax %c {axis=1}\nreturn %r"
        )
        after = Pipeline.parse("fuse,join-concats{align-bytes=16}").run(parse(text))
        (concat,) = (n for n in after.nodes if n.op.name == "concat")
        made = [o.producer for o in concat.operands]
        in_place[name] = [n.attrs.kind == "reduction" for n in made if n is not None]  # type: ignore[attr-defined]
    assert in_place == {"even": [True, True], "odd": [True, False]}
