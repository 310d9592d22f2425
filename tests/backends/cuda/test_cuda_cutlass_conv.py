"""Convolutions that CUTLASS computes: which, as what, the text, and that nvcc takes it. What it
comes to is seen on a GPU (tests/gpu)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cuda_regions import Case, random
from graphopt_backends.cuda.targets import TARGETS
from graphopt_backends.cuda.vendor.convolution import Convolution, computed
from graphopt_backends.cuda.vendor.instance import emit_convolution
from graphopt_backends.cuda.vendor.match import Mismatch
from graphopt_backends.cuda.vendor.schedules import Schedule, convolution_schedule
from graphopt_backends.cuda.vendor.visitor import Product
from template_builds import compiled
from test_cuda_cutlass import _shown

from graphopt.check import check_pass, check_refuses
from graphopt.check.passkit import random_constant
from graphopt.driver import Options, lower
from graphopt.ir.text import parse
from graphopt.target import resolve

GOLDEN = Path(__file__).parent / "golden"
BACKEND, SM_90A = resolve("cuda:sm_90a")
LAST = "@[0,2,3,1]"


def _conv(x: str = "2,64,14,14", w: str = "128,64,3,3", out: str = "2,128,14,14",
          stride: str = "1,1", padding: str = "[1,1],[1,1]", dilation: str = "1,1",
          groups: int = 1, bias: str = ", %b", tail: str = "%y = relu %y0", dtype: str = "f16",
          weights: str = "input") -> str:  # fmt: skip
    """A convolution, and what is behind it; %r lies as its result does."""
    o = w.split(",", maxsplit=1)[0]
    made = f"[{out}]{LAST}"
    tail = "\n".join(
        f"{line} : {'f32' if 'cast' in line else dtype}{made}" for line in tail.split("\n")
    )
    return f"""
      %x = input : {dtype}[{x}]{LAST}
      %r = input : {dtype}[{out}]{LAST}
      %q = input : {dtype}[{out}]{LAST}
      %s = input : {dtype}[{o},1,1]
      %w = {'constant {key="w"}' if weights == "constant" else "input"} : {dtype}[{w}]
      %b = {'constant {key="b"}' if weights == "constant" else "input"} : {dtype}[{o}]
      %y0 = conv %x, %w{bias} {{stride=[{stride}], padding=[{padding}], dilation=[{dilation}],
        groups={groups}}} : {dtype}[{out}]{LAST}
      {tail}
      return %y"""


RESIDUAL = "%a = add %y0, %r\n%y = relu %a"
TREES = {
    "bias-relu": (_conv(), "relu(plus(acc, columns))"),
    "residual": (_conv(tail=RESIDUAL), "relu(plus(plus(acc, columns), tensor))"),
    "gated": (
        _conv(tail="%g = sigmoid %y0\n%h = mul %g, %r\n%y = add %h, %q", bias=""),
        "plus(multiplies(sigmoid(acc), tensor), tensor)",
    ),
    "scaled-channels": (_conv(tail="%y = mul %y0, %s", bias=""), "multiplies(acc, columns)"),
    "cast": (_conv(tail="%y = cast %y0 {dtype=f32}", bias=""), "identity(acc)"),
}


@pytest.mark.parametrize("name", TREES)
def test_tree(name: str):
    text, tree = TREES[name]
    found = computed(parse(text))
    assert isinstance(found, Convolution), found
    assert _shown(found.tree) == tree


def test_one_pixel_is_a_product():
    found = computed(parse(_conv(w="128,64,1,1", padding="[0,0],[0,0]", tail=RESIDUAL)))
    assert isinstance(found, Product), found
    assert (found.m, found.n, found.k, found.batch) == (2 * 14 * 14, 128, 64, 1)
    assert found.transposed_b
    assert (found.left.ld, found.right.ld, found.out.ld) == (64, 64, 128)


GEOMETRIES = {
    "plain": _conv(),
    "stride": _conv(stride="2,2", out="2,128,7,7"),
    "dilated": _conv(dilation="2,2", padding="[2,2],[2,2]"),
    "uneven": _conv(w="128,64,3,5", stride="2,1", padding="[1,1],[0,0]", out="2,128,7,10"),
    "pointwise-stride": _conv(w="128,64,1,1", stride="2,2", padding="[0,0],[0,0]", out="2,128,7,7"),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_pixels_are_counted_as_cutlass_counts_them(name: str):
    """By its formula (convnd_problem_shape.hpp) the result has the op's own shape."""
    graph = parse(GEOMETRIES[name])
    found = computed(graph)
    assert isinstance(found, Convolution)
    g = found.geometry
    p = 1 + (g.h + 2 * g.pad_h - ((g.r - 1) * g.dilation_h + 1)) // g.stride_h
    q = 1 + (g.w + 2 * g.pad_w - ((g.s - 1) * g.dilation_w + 1)) // g.stride_w
    assert (g.n, g.o, p, q) == graph.outputs[0].type.dims
    assert (p, q) == (g.p, g.q)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_conv(dtype="f32"), "its factors are f32, not halves"),
        (_conv(w="128,32,3,3", groups=2), "its channels are in 2 groups"),
        (_conv(x="2,60,14,14", w="128,60,3,3"), "rows of the input are no multiples of 16 bytes"),
        (
            _conv(w="100,64,3,3", out="2,100,14,14"),
            "rows of the result are no multiples of 16 bytes",
        ),
        (_conv(padding="[0,2],[1,1]"), "padding on one side"),
        (_conv().replace(LAST, ""), "its channels do not lie last"),
        (_conv(tail="%y = exp %y0"), "the tree has no exp"),
        (_conv(tail="%t = tanh %y0\n%y = mul %t, %y0"), "the convolution is read twice"),
        (_conv(stride="9,9", out="2,128,2,2"), "TMA does not step 9 pixels"),
        (
            _conv(dilation="1,128", padding="[1,1],[128,128]"),
            "TMA does not reach 256 pixels with 128 around",
        ),
    ],
)
def test_what_it_does_not_compute(text: str, reason: str):
    found = computed(parse(text))
    assert isinstance(found, Mismatch)
    assert found.reason.startswith("CUTLASS: ")
    assert reason in found.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_conv(x="32,64,56,56", out="32,128,56,56"), Schedule((128, 128, 64), (1, 1), False)),
        (
            _conv(x="32,64,56,56", w="64,64,3,3", out="32,64,56,56"),
            Schedule((128, 64, 64), (1, 1), False),
        ),
        (_conv(), Schedule((64, 64, 64), (1, 1), False)),
        (_conv(x="2,8,14,14", w="128,8,3,3"), Schedule((64, 64, 16), (1, 1), False)),
    ],
)
def test_schedule(text: str, expected: Schedule):
    found = computed(parse(text))
    assert isinstance(found, Convolution)
    assert convolution_schedule(found, SM_90A.sms) == expected  # type: ignore[attr-defined]


# Choice ----------------------------------------------------------------------------------------

PADDED = """
  %x = input : f16[1,64,5,5]@[0,2,3,1]
  %w = constant {key="w"} : f16[64,64,3,3]
  %p = fused %x {kind="movement"} : f16[1,64,7,7]@[0,2,3,1] {
    %q = input : f16[1,64,5,5]@[0,2,3,1]
    %r = pad %q {before=[0,0,1,1], after=[0,0,1,1]} : f16[1,64,7,7]@[0,2,3,1]
    return %r
  }
  %y = fused %p, %w {kind="contraction"} : f16[1,64,7,7]@[0,2,3,1] {
    %q = input : f16[1,64,7,7]@[0,2,3,1]
    %v = input : f16[64,64,3,3]
    %c = conv %q, %v {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}
      : f16[1,64,5,5]@[0,2,3,1]
    %s = silu %c : f16[1,64,5,5]@[0,2,3,1]
    %t = pad %s {before=[0,0,1,1], after=[0,0,1,1]} : f16[1,64,7,7]@[0,2,3,1]
    return %t
  }
  %z = relayout %y : f16[1,64,7,7]
  return %z"""
PIPELINE = "choose-libraries{use=[cutlass],always=true}"


def test_zeros_around_are_taken_in_before_and_left_behind():
    after = check_pass(PIPELINE, PADDED, target=TARGETS["sm_90a"])
    fused = [n for n in after.nodes if n.body is not None]
    assert [n.attrs.library for n in fused] == ["cutlass", ""]
    assert [n.op.name for n in fused[0].body.nodes] == ["pad", "conv", "silu"]
    assert [n.op.name for n in fused[1].body.nodes] == ["pad"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PADDED.replace("silu", "exp"), "CUTLASS: the tree has no exp; cudnn is not among"),
        (
            PADDED.replace('%w = constant {key="w"}', "%w = input"),
            "CUTLASS: its weights are no constants",
        ),
    ],
)
def test_refuses(text: str, reason: str):
    check_refuses(PIPELINE, text, reason=reason, target=TARGETS["sm_90a"])


# Text ------------------------------------------------------------------------------------------


def _text(text: str, name: str) -> str:
    found = computed(parse(text))
    assert isinstance(found, Convolution)
    schedule = convolution_schedule(found, SM_90A.sms)  # type: ignore[attr-defined]
    return emit_convolution(found, schedule, name)


def test_text(request: pytest.FixtureRequest):
    name = "cutlass_conv_residual"
    made, path = _text(TREES["residual"][0], name), GOLDEN / f"{name}.cu"
    if request.config.getoption("--update-golden"):
        path.write_text(made)
    assert made == path.read_text(), "golden files are written by --update-golden"


def test_a_model_packs_its_weights_with_channels_last():
    text = _conv(weights="constant", tail="%y1 = relu %y0\n%y = softmax %y1 {axis=1}")
    made = lower(parse(text, fill=random_constant), BACKEND, SM_90A, Options(vendor="cutlass"))
    (call,) = (c for c in made.program.calls if c.library is not None)
    assert call.library is not None
    assert call.library.function == "convolution"
    assert call.kernel.startswith("cutlass_conv_f16_392x128x3x3x64_64x64x64_")
    assert {"go_cutlass.h", f"{call.kernel}.cu"} <= set(made.sources)
    facts = BACKEND.facts(made.source, made.program, SM_90A)
    assert "CUTLASS beside cuBLASLt and cuDNN" in facts["unmeasured"]


# On a GPU -------------------------------------------------------------------------------------


def _case(text: str) -> Case:
    graph = parse(text, fill=random_constant)
    return Case(graph, [random(*v.type.dims, dtype=v.type.dtype) for v in graph.inputs])


CASES = {
    "residual": _case(_conv(tail=RESIDUAL, weights="constant")),
    "two-tensors": _case(
        _conv(tail="%g = sigmoid %y0\n%h = mul %g, %r\n%y = add %h, %q", weights="constant")
    ),
    "stride": _case(_conv(stride="2,2", out="2,128,7,7", weights="constant")),
    "dilated": _case(_conv(dilation="2,2", padding="[2,2],[2,2]", weights="constant")),
    "few-channels": _case(_conv(x="2,8,14,14", w="128,8,3,3", weights="constant")),
    "large-bf16": _case(
        _conv(x="8,64,56,56", w="72,64,3,3", out="8,72,56,56", dtype="bf16", weights="constant")
    ),
    "product": _case(_conv(w="128,64,1,1", padding="[0,0],[0,0]", weights="constant")),
}
"""What tests/gpu runs, and nothing here can."""


def test_cases_for_a_gpu_are_cutlass_s():
    for case in CASES.values():
        passes = f"fuse,{PIPELINE},plan-memory"
        made = lower(case.graph, BACKEND, SM_90A, Options(passes=passes))
        assert [c.kernel for c in made.program.calls if c.kernel.startswith("cutlass_")]


# Building --------------------------------------------------------------------------------------

PLAN = """
#include <cuda_runtime.h>
#include <stdio.h>
extern "C" {
int p_plan(size_t *);
void p_pixels(int *);
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr, int) {
    *value = 132;
    return cudaSuccess;
}
}
int main() {
    size_t bytes = 0;
    int shape[4];
    const int error = p_plan(&bytes);
    p_pixels(shape);
    printf("%d %zu %d %d %d %d", error, bytes, shape[0], shape[1], shape[2], shape[3]);
}
"""
"""What a model does when it is opened, on a pretended device."""

PIXELS = """
extern "C" void p_pixels(int *shape) {
    void *const p[9] = {};
    const auto problem = p::arguments(p).problem_shape;
    for (int i = 0; i < 4; i++) shape[i] = problem.shape_C[i];
}
"""


@pytest.mark.nvcc
@pytest.mark.slow
def test_nvcc_compiles_it_and_cutlass_takes_the_arguments(tmp_path: Path):
    """To TMA im2col and wgmma without a spilled register; the result has the op's shape."""
    text = _conv(tail=RESIDUAL, stride="2,1", out="2,128,7,14")
    made = compiled(_text(text, "p") + PIXELS, tmp_path)
    made.check_registers()
    assert re.search(r"cp\.async\.bulk\.tensor\.4d\S*\.im2col", made.ptx)
    assert "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16" in made.ptx
    assert made.printed(PLAN) == [0, 0, 2, 7, 14, 128]
