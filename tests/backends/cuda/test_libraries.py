"""Regions that vendors' libraries compute: what is split off, and what the calls come to when the
libraries are emulated by their meaning. That proves layouts, leading dimensions, epilogues and
workspace; not the libraries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from graphopt_backends.cuda.targets import TARGETS
from graphopt_backends.cuda.vendor.choice import library_wins

from graphopt.artifact.loader import load
from graphopt.check import check_pass, check_refuses
from graphopt.check.artifact import TOLERANCE, TOLERANCES
from graphopt.check.inputs import seeded_inputs
from graphopt.check.passkit import random_constant
from graphopt.check.reference import execute
from graphopt.driver import Options, build
from graphopt.errors import UnsupportedError
from graphopt.ir.text import parse
from graphopt.ir.types import DType, TensorType
from graphopt.program import KernelCall
from graphopt.target import resolve

BACKEND, EMULATED = resolve("cuda:emulated")
ALWAYS = "choose-libraries{use=[cublaslt,cudnn],always=true}"


def _conv(dtype: str = "f32", x: str = "2,6,9,8", w: str = "4,6,3,3", out: str = "2,4,9,8",
          stride: str = "1,1", padding: str = "[1,1],[1,1]", dilation: str = "1,1",
          groups: int = 1, bias: str = "", tail: str = "") -> str:  # fmt: skip
    return f"""
      %x = input : {dtype}[{x}]
      %z = input : {dtype}[{out}]
      %w = constant {{key="w"}} : {dtype}[{w}]
      %b = constant {{key="b"}} : {dtype}[{w.split(",", maxsplit=1)[0]}]
      %y0 = conv %x, %w{bias} {{stride=[{stride}], padding=[{padding}], dilation=[{dilation}],
        groups={groups}, winograd=0}}
      {tail or "%y = neg %y0"}
      return %y"""


def _linear(dtype: str = "f32", x: str = "3,5,12", bias: str = "", tail: str = "") -> str:
    return f"""
      %x = input : {dtype}[{x}]
      %r = input : {dtype}[{x[: x.rindex(",")]},7]
      %w = constant {{key="w"}} : {dtype}[7,12]
      %b = constant {{key="b"}} : {dtype}[7]
      %y0 = linear %x, %w{bias}
      {tail or "%y = neg %y0"}
      return %y"""


def _matmul(a: str, b: str, dtype: str = "f32") -> str:
    return f"""
      %x = input : {dtype}[{a}]
      %r = input : {dtype}[{b}]
      %y = matmul %x, %r
      return %y"""


RESIDUAL_RELU = "%y1 = add %y0, %z\n      %y = relu %y1"

TWICE = """
      %x = input : @[2,4,9,8]
      %w = constant {key="w"} : @[4,4,3,3]
      %b = constant {key="b"} : @[4]
      %h = conv %x, %w, %b {stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1]}
      %r = relu %h
      %c = conv %r, %w, %b {stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1]}
      %a = add %c, %r
      %y = relu %a
      return %y"""
"""A residual block: what is added lies as the convolution's result does."""

CASES = {
    "conv": (_conv(), 2),
    "conv-relu": (_conv(bias=", %b", tail="%y = relu %y0"), 1),
    "conv-add-row-major": (_conv(bias=", %b", tail=RESIDUAL_RELU), 1),
    "residual-f32": (TWICE.replace("@", "f32"), 2),
    "conv-stride": (_conv(out="2,4,5,4", stride="2,2", bias=", %b", tail="%y = relu %y0"), 1),
    "conv-dilated": (_conv(padding="[2,2],[0,0]", out="2,4,9,4", dilation="2,2"), 2),
    "conv-groups": (_conv(w="4,3,3,3", groups=2), 2),
    "conv-pointwise": (_conv(w="4,6,1,1", padding="[0,0],[0,0]", tail="%y = relu %y0"), 1),
    "conv-one-pixel": (_conv(x="1,6,1,1", out="1,4,1,1", tail="%y = relu %y0"), 1),
    "conv-uneven": (_conv(padding="[0,1],[1,1]", out="2,4,8,8"), 2),
    "conv-1d": (
        _conv(x="2,6,9", w="4,6,3", out="2,4,9", stride="1", padding="[1,1]", dilation="1"), 2,
    ),
    "residual-f16": (TWICE.replace("@", "f16"), 2),
    "conv-f16": (_conv("f16", bias=", %b", tail="%y = relu %y0"), 1),
    "conv-bf16": (_conv("bf16", tail="%y = relu %y0"), 1),
    "linear": (_linear(), 2),
    "linear-bias": (_linear(bias=", %b", tail="%y = relu %y0"), 1),
    "linear-gelu": (_linear(bias=", %b", tail='%y = gelu %y0 {approximate="tanh"}'), 1),
    "linear-erf": (_linear(bias=", %b", tail='%y = gelu %y0 {approximate="none"}'), 2),
    "linear-residual": (_linear(bias=", %b", tail="%y = add %r, %y0"), 1),
    "linear-row": (_linear(x="1,12", tail="%y = relu %y0"), 1),
    "linear-vector": (_linear(x="1,1,12", bias=", %b", tail="%y = relu %y0"), 1),
    "linear-f16": (_linear("f16", bias=", %b", tail='%y = gelu %y0 {approximate="tanh"}'), 1),
    "linear-bf16": (_linear("bf16", bias=", %b", tail="%y = add %r, %y0"), 1),
    "matmul": (_matmul("5,3", "3,4"), 1),
    "matmul-batched": (_matmul("2,3,5,6", "2,3,6,4"), 1),
    "matmul-one-right": (_matmul("2,3,5,6", "6,4"), 1),
    "matmul-f16": (_matmul("2,5,6", "2,6,4", "f16"), 1),
}  # fmt: skip
"""Name: (graph, calls of libraries and of kernels behind them)."""


@dataclass(frozen=True)
class Ran:
    """All cases as one model: the kernels and calls of each, its result and what it should be."""

    calls: Mapping[str, Sequence[KernelCall]]
    got: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    texts, outputs = [], []
    for n, (text, _) in enumerate(CASES.values()):
        renamed = re.sub(r"%(\w+)", rf"%c{n}_\1", text).replace('key="', f'key="c{n}_')
        body, _, output = renamed.rpartition("return ")
        texts.append(body)
        outputs.append(output)
    names = ", ".join(f'"{name}"' for name in CASES)
    text = "\n".join(texts) + f"\nreturn {', '.join(outputs)} {{names=[{names}]}}"
    graph = parse(text, fill=_weights)
    folder = tmp_path_factory.mktemp("cases") / "m"
    options = Options(vendor="cublaslt,cudnn")
    made = build(graph, target="cuda:emulated", out=folder, options=options)
    inputs = seeded_inputs(graph)
    with load(folder) as model:
        got = dict(zip(CASES, model(*inputs), strict=True))
    expected = execute(graph, inputs, precision=np.float64)
    calls: dict[str, list[KernelCall]] = {name: [] for name in CASES}
    case_of = {v.name: int(v.name[1 : v.name.index("_")]) for v in graph.inputs}
    for call in made.program.calls:  # cases share nothing: what a call reads tells whose it is
        case = case_of[call.reads[0]]
        case_of.update((result.name, case) for result in call.results)
        calls[list(CASES)[case]].append(call)
    return Ran(calls, got, dict(zip(CASES, expected, strict=True)))


def _weights(key: str, type: TensorType) -> np.ndarray:
    """Around zero, so that a relu has something to cut."""
    array = random_constant(key, type).astype(np.float32) - 0.75
    return array.astype(type.dtype.numpy)


@pytest.mark.compiler
@pytest.mark.parametrize("name", CASES)
def test_calls_come_to_what_the_graph_means(name: str, ran: Ran):
    got, expected, calls = ran.got[name], ran.expected[name], ran.calls[name]
    limit = TOLERANCES.get(DType.of(got.dtype).value, TOLERANCE) * np.abs(expected).max()
    np.testing.assert_allclose(got.astype(np.float64), expected, rtol=0, atol=limit)
    libraries = [c.library is not None for c in calls]
    assert any(libraries)
    # a change of layout may come before a call and at the end; the rest is what no call does
    made = [c.kernel for c in calls[libraries.index(True) :] if "movement" not in c.kernel]
    assert len(made) == CASES[name][1], made


def test_padding_of_a_region_that_pads_alone_becomes_the_calls():
    after = check_pass(
        ALWAYS,
        """
        %x = input : f32[1,4,5,5]@[0,2,3,1]
        %w = constant {key="w"} : f32[3,4,3,3]
        %p = fused %x {kind="movement"} : f32[1,4,7,7]@[0,2,3,1] {
          %q = input : f32[1,4,5,5]@[0,2,3,1]
          %r = pad %q {before=[0,0,1,1], after=[0,0,1,1]} : f32[1,4,7,7]@[0,2,3,1]
          return %r
        }
        %y = fused %p, %w {kind="contraction"} : f32[1,3,5,5]@[0,2,3,1] {
          %q = input : f32[1,4,7,7]@[0,2,3,1]
          %v = input : f32[3,4,3,3]
          %c = conv %q, %v {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}
            : f32[1,3,5,5]@[0,2,3,1]
          return %c
        }
        %z = relayout %y : f32[1,3,5,5]
        return %z""",
        target=EMULATED,
    )
    fused = [n for n in after.nodes if n.body is not None]
    assert [n.attrs.library for n in fused] == ["cudnn"]
    assert [n.op.name for n in fused[0].body.nodes] == ["pad", "conv"]


TWO_ROWS = """
  %x = input : f32[2,64]
  %w = constant {key="w"} : f32[64,64]
  %y = fused %x, %w {kind="contraction"} : f32[2,64] {
    %a = input : f32[2,64]
    %b = input : f32[64,64]
    %c = linear %a, %b
    return %c
  }
  return %y"""


@pytest.mark.parametrize(
    ("text", "pipeline", "reason"),
    [
        (TWO_ROWS, "choose-libraries{use=[cublaslt,cudnn]}", "expected to be as fast"),
        (TWO_ROWS, "choose-libraries{use=[cudnn],always=true}", "not among the libraries to use"),
        (TWO_ROWS.replace("f32", "f64"), ALWAYS, "no library computes f64"),
        (
            TWO_ROWS.replace("%c = linear %a, %b", "%t = relu %a\n%c = linear %t, %b"),
            ALWAYS,
            "an operand is computed in the region",
        ),
    ],
)
def test_refuses(text: str, pipeline: str, reason: str):
    check_refuses(pipeline, text, reason=reason, target=EMULATED)


def test_a_large_half_product_is_the_librarys():
    text = TWO_ROWS.replace("f32", "f16").replace("64", "1024").replace("[2,", "[512,")
    after = check_pass("choose-libraries{use=[cublaslt]}", text, target=EMULATED)
    (node,) = (n for n in after.nodes if n.body is not None)
    assert node.attrs.library == "cublaslt"


def test_tf32_is_named_for_f32_alone():
    for dtype, library in (("f32", "cublaslt.tf32"), ("f16", "cublaslt")):
        text = TWO_ROWS.replace("f32", dtype)
        pipeline = "choose-libraries{use=[cublaslt],always=true,tf32=true}"
        after = check_pass(pipeline, text, target=EMULATED)
        assert [n.attrs.library for n in after.nodes if n.body is not None] == [library]


def test_what_a_level_becomes_for_gpus():
    level = ["sink-reshapes", "cast-precision", "pad-channels", "choose-winograd", "assign-layouts",
             "fuse", "choose-libraries"]  # fmt: skip
    start = ("merge-parallel-products", "sink-reshapes")
    layouts = "assign-layouts{packs-right=false}"
    assert BACKEND.adjusted(level, "fp32", "none") == (
        *start, "cast-precision", "pad-channels", layouts, "fuse", "choose-libraries",
    )  # fmt: skip
    assert BACKEND.adjusted(level, "bf16", "auto") == (
        *start, "cast-precision{to=bf16}", "pad-channels{multiple=8}", layouts, "fuse",
        "choose-libraries{use=[cublaslt,cudnn]}",
    )  # fmt: skip
    assert BACKEND.adjusted(level, "tf32", "cudnn") == (
        *start, "cast-precision", "pad-channels{multiple=4}", layouts, "fuse",
        "choose-libraries{use=[cudnn],always=true,tf32=true}",
    )  # fmt: skip


def test_an_unknown_library_is_an_error_that_lists_them():
    with pytest.raises(UnsupportedError) as caught:
        BACKEND.adjusted(["choose-libraries"], "fp32", "mkl")
    assert str(caught.value) == (
        "there is no library 'mkl' to call\n"
        "hint: --vendor takes auto, none, or some of cublaslt,cudnn,cudnn-attention,cutlass"
    )


def test_the_cpu_refuses_precisions_and_libraries():
    cpu, _ = resolve("cpu")
    assert cpu.adjusted(["fuse"], "fp32", "auto") == ["fuse"]
    with pytest.raises(UnsupportedError, match="computes in the model's own types, not in bf16"):
        cpu.adjusted(["fuse"], "bf16", "auto")
    with pytest.raises(UnsupportedError, match="calls no vendor's libraries"):
        cpu.adjusted(["fuse"], "fp32", "cudnn")


H200 = TARGETS["sm_90a"]


@pytest.mark.parametrize(
    ("m", "n", "k", "dtype", "rest", "wins"),
    [
        (4096, 4096, 4096, DType.F16, 0, True),  # tensor cores
        (4096, 4096, 4096, DType.F32, 0, True),  # 70 % of the same units, not 50 %
        (128, 768, 768, DType.F16, 0, True),
        (1, 4096, 4096, DType.F16, 0, False),  # both wait for the weights
        (32, 64, 64, DType.F16, 0, False),  # both wait for the launch
        (128, 768, 768, DType.F32, 2 * 4 * 128 * 768, False),  # a second launch costs the gain
        (4096, 4096, 4096, DType.F16, 2 * 2 * 4096 * 4096, True),
    ],
)
def test_libraries_win_where_arithmetic_is_the_limit(
    m: int, n: int, k: int, dtype: DType, rest: int, wins: bool
):
    moved = (m * k + k * n + m * n) * dtype.size_bytes
    assert library_wins(2 * m * n * k, moved, rest, dtype, False, H200) is wins
