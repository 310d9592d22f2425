"""Products that CUTLASS computes: what of a region its epilogue visitor tree says, how it is cut
into tiles, the text, and that nvcc takes it. What it comes to is seen on a GPU (tests/gpu)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from cuda_regions import Case, random
from graphopt_backends.cuda import build as cuda_build
from graphopt_backends.cuda.build import build, units
from graphopt_backends.cuda.cutlass_headers import template_headers, template_version
from graphopt_backends.cuda.targets import TARGETS
from graphopt_backends.cuda.vendor.instance import emit_product
from graphopt_backends.cuda.vendor.match import Mismatch
from graphopt_backends.cuda.vendor.schedules import Schedule, schedule
from graphopt_backends.cuda.vendor.visitor import (
    Accumulator,
    Columns,
    Compute,
    Product,
    Scalar,
    Tensor,
    Tree,
    product,
)
from template_builds import Compiled, compiled

from graphopt.check import check_pass, check_refuses
from graphopt.check.inputs import seeded_inputs
from graphopt.check.passkit import random_constant
from graphopt.check.reference import execute
from graphopt.driver import Options, lower
from graphopt.errors import BuildError
from graphopt.ir.text import parse
from graphopt.ops.erf import erf
from graphopt.target import resolve

GOLDEN = Path(__file__).parent / "golden"
BACKEND, SM_90A = resolve("cuda:sm_90a")


def _linear(tail: str, *, x: str = "2,64,128", n: int = 256, dtype: str = "f16",
            result: str = "y", bias: str = ", %b") -> str:  # fmt: skip
    """A product, and what is behind it; %r lies as its result does."""
    rows, k = x.rpartition(",")[::2]
    return f"""
      %x = input : {dtype}[{x}]
      %w = input : {dtype}[{n},{k}]
      %b = input : {dtype}[{n}]
      %r = input : {dtype}[{rows},{n}]
      %q = input : {dtype}[{rows},{n}]
      %y0 = linear %x, %w{bias}
      {tail}
      return %{result}"""


BIAS_GELU = _linear('%y = gelu %y0 {approximate="tanh"}', x="1,128,768", n=3072)
RESIDUAL = _linear("%y = add %r, %y0", x="512,1024", n=1024, dtype="bf16")

FEW_ROWS = _linear(
    "%s = sigmoid %y0\n%g = mul %s, %r\n%y = sub %g, %q", x="16,4096", n=4096
)  # fmt: skip
"""Turned: of a tree, columns become rows, and other tensors lie by columns."""

TREES = {
    "plain": (_linear("", result="y0", bias=""), "identity(acc)"),
    "bias": (_linear("", result="y0"), "plus(acc, columns)"),
    "bias-gelu": (BIAS_GELU, "gelu_tanh(plus(acc, columns))"),
    "erf": (_linear('%y = gelu %y0 {approximate="none"}'), "gelu(plus(acc, columns))"),
    "relu": (_linear("%y = relu %y0", bias=""), "relu(acc)"),
    "clamp": (_linear("%y = clamp %y0 {low=0.0, high=inf}", bias=""), "relu(acc)"),
    "residual": (RESIDUAL, "plus(tensor, plus(acc, columns))"),
    "gated": (
        _linear("%s = silu %y0\n%y = mul %s, %r", bias=""),
        "multiplies(silu(acc), tensor)",
    ),
    "two-tensors": (
        _linear("%s = sigmoid %y0\n%g = mul %s, %r\n%y = sub %g, %q", bias=""),
        "minus(multiplies(sigmoid(acc), tensor), tensor)",
    ),
    "scaled": (
        _linear("%h = full {value=0.125, shape=[], dtype=f16}\n%t = tanh %y0\n%y = mul %t, %h"),
        "multiplies(tanh(plus(acc, columns)), 0.125)",
    ),
    "scaled-columns": (_linear("%y = mul %y0, %b", bias=""), "multiplies(acc, columns)"),
    "cast": (_linear("%y = cast %y0 {dtype=f32}", bias=""), "identity(acc)"),
    "matmul": (
        "%x = input : f16[2,64,32]\n%w = input : f16[32,64]\n%y = matmul %x, %w\nreturn %y",
        "identity(acc)",
    ),
    "matmul-batched": (
        "%x = input : f16[2,64,32]\n%w = input : f16[2,32,64]\n%y = matmul %x, %w\nreturn %y",
        "identity(acc)",
    ),
}
"""Name: (region, its tree)."""


def _shown(tree: Tree) -> str:
    match tree:
        case Accumulator():
            return "acc"
        case Scalar(value):
            return str(value)
        case Compute(function, operands):
            return f"{function}({', '.join(map(_shown, operands))})"
        case _:
            return type(tree).__name__.lower()


@pytest.mark.parametrize("name", TREES)
def test_tree(name: str):
    text, tree = TREES[name]
    found = product(parse(text))
    assert isinstance(found, Product), found
    assert _shown(found.tree) == tree


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


MEANING: dict[str, Callable[..., np.ndarray]] = {
    "identity": lambda x: x,
    "plus": np.add,
    "minus": np.subtract,
    "multiplies": np.multiply,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + erf(x * np.sqrt(0.5))),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
"""What CUTLASS's functors compute."""


def _value(tree: Tree, accumulator: np.ndarray, operands: Sequence[np.ndarray]) -> np.ndarray:
    match tree:
        case Accumulator():
            return accumulator
        case Scalar(value):
            return np.asarray(value)
        case Columns() | Tensor():
            return operands[tree.operand].astype(np.float64)
        case Compute(function, inner):
            return MEANING[function](*(_value(t, accumulator, operands) for t in inner))


@pytest.mark.parametrize("name", TREES)
def test_a_tree_means_what_the_region_does(name: str):
    graph = parse(TREES[name][0])
    found = product(graph)
    assert isinstance(found, Product)
    inputs = seeded_inputs(graph)
    (wanted,) = execute(graph, inputs, precision=np.float64)
    a, b = (inputs[i].astype(np.float64) for i in (found.a, found.b))
    got = _value(found.tree, a @ (b.T if found.transposed_b else b), inputs)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (_linear("", result="y0", dtype="f32"), "its factors are f32, not halves"),
        (_linear("%y = exp %y0"), "the tree has no exp"),
        (_linear("%y = softmax %y0 {axis=2}"), "the tree has no softmax"),
        (_linear("%s = sigmoid %y0\n%y = mul %y0, %s"), "the product is read twice"),
        (
            _linear("%s = relu %y0\n%t = tanh %s\n%y = mul %s, %t"),
            "what relu makes is read twice",
        ),
        (_linear("%t = linear %x, %w\n%y = add %t, %y0"), "it has 2 products"),
        (
            "%x = input : f16[64,32]\n%w = input : f16[64,32]\n%t = relu %x\n"
            "%y = linear %t, %w\nreturn %y",
            "an operand is computed in the region",
        ),
        (_linear("", result="y0", n=260), "rows of the result are no multiples of 16 bytes"),
        (_linear("", result="y0", x="4,100"), "rows of a factor are no multiples of 16 bytes"),
        (_linear("%y = transpose %y0 {perm=[0,2,1]}"), "its result has another shape than"),
        (
            "%x = input : f16[2,64,32]\n%w = input : f16[64,32]\n%r = input : f16[64,1]\n"
            "%y0 = linear %x, %w\n%y = add %y0, %r\nreturn %y",
            "an operand of the epilogue is f16[64,1]",
        ),
        (
            "%x = input : f16[1,64,32]\n%w = input : f16[3,32,64]\n"
            "%y = matmul %x, %w\nreturn %y",
            "one factor serves a stack of the other",
        ),
        (_linear("%c = gt %y0, %r\n%y = where %c, %r, %q"), "the tree has no where"),
        (_linear("%y = cast %y0 {dtype=i32}"), "the tree computes in f32, not in i32"),
    ],
)  # fmt: skip
def test_what_no_tree_says(text: str, reason: str):
    found = product(parse(text))
    assert isinstance(found, Mismatch)
    assert found.reason.startswith("CUTLASS: ")
    assert reason in found.reason


# Choice ----------------------------------------------------------------------------------------

REGION = """
  %x = input : f16[2,64]
  %w = constant {key="w"} : f16[64,64]
  %y = fused %x, %w {kind="contraction"} : f16[2,64] {
    %a = input : f16[2,64]
    %b = input : f16[64,64]
    %c = linear %a, %b
    %d = silu %c
    return %d
  }
  return %y"""


def _libraries(use: str, text: str, target: str = "sm_90a") -> list[str]:
    pipeline = f"choose-libraries{{use=[{use}],always=true}}"
    after = check_pass(pipeline, text, target=TARGETS[target])
    return [n.attrs.library for n in after.nodes if n.body is not None]


def test_a_region_is_given_as_a_whole():
    assert _libraries("cutlass", REGION) == ["cutlass"]
    assert _libraries("cublaslt", REGION) == ["cublaslt", ""]


def test_before_other_libraries_which_take_what_it_refuses():
    assert _libraries("cublaslt,cutlass", REGION) == ["cutlass"]
    assert _libraries("cutlass,cublaslt", REGION.replace("silu", "exp")) == ["cublaslt", ""]
    assert _libraries("cutlass,cublaslt", REGION, "sm_89") == ["cublaslt", ""]


@pytest.mark.parametrize(
    ("text", "target", "reason"),
    [
        (REGION.replace("silu", "exp"), "sm_90a", "CUTLASS: the tree has no exp"),
        (REGION, "sm_80", "CUTLASS: its kernels are for sm_90a, not for sm_80"),
        (REGION, "emulated", "CUTLASS: its kernels are for sm_90a, not for emulated"),
        (REGION.replace("f16", "f32"), "sm_90a", "not halves; cublaslt is not among"),
    ],
)
def test_refuses(text: str, target: str, reason: str):
    pipeline = "choose-libraries{use=[cutlass],always=true}"
    check_refuses(pipeline, text, reason=reason, target=TARGETS[target])


def test_nobody_gets_it_unasked():
    assert BACKEND.adjusted(["choose-libraries"], "fp32", "auto") == (
        "choose-libraries{use=[cublaslt,cudnn]}",
    )
    assert BACKEND.adjusted(["choose-libraries"], "fp32", "cutlass") == (
        "choose-libraries{use=[cutlass],always=true}",
    )


@pytest.mark.parametrize(
    ("m", "n", "k", "expected"),
    [
        (8192, 8192, 8192, Schedule((128, 256, 64), (2, 1), True)),
        (1024, 3072, 768, Schedule((128, 128, 64), (1, 1), False)),
        (128, 768, 3072, Schedule((128, 128, 64), (1, 1), True, 12)),  # split-K
        (128, 3072, 768, Schedule((128, 128, 64), (1, 1), True, 0)),  # stream-K
        (128, 768, 256, Schedule((64, 64, 64), (1, 1), False)),  # no k to cut
        (65, 768, 256, Schedule((64, 64, 64), (1, 1), False)),  # as many rows as a tile has
        (64, 768, 256, Schedule((64, 64, 64), (1, 1), False, turned=True)),
        (17, 16384, 4096, Schedule((128, 32, 64), (1, 1), False, turned=True)),
        (16, 4096, 4096, Schedule((128, 16, 64), (1, 1), True, 4, turned=True)),
        (1, 8192, 4096, Schedule((128, 16, 64), (1, 1), True, 0, turned=True)),
    ],
)
def test_few_tiles_cut_k(m: int, n: int, k: int, expected: Schedule):
    found = product(parse(_linear("", result="y0", x=f"{m},{k}", n=n)))
    assert isinstance(found, Product)
    assert schedule(found, SM_90A.sms) == expected  # type: ignore[attr-defined]


# Text ------------------------------------------------------------------------------------------


def _text(text: str, name: str) -> str:
    found = product(parse(text))
    assert isinstance(found, Product)
    return emit_product(found, schedule(found, SM_90A.sms), name)  # type: ignore[attr-defined]


GOLDENS = {
    "cutlass_bias_gelu": BIAS_GELU,
    "cutlass_residual": RESIDUAL,
    "cutlass_two_tensors": TREES["two-tensors"][0],
    "cutlass_few_rows": FEW_ROWS,
}


@pytest.mark.parametrize("name", GOLDENS)
def test_text(name: str, request: pytest.FixtureRequest):
    made, path = _text(GOLDENS[name], name), GOLDEN / f"{name}.cu"
    if request.config.getoption("--update-golden"):
        path.write_text(made)
    assert made == path.read_text(), "golden files are written by --update-golden"


def test_split_k_is_asked_for():
    assert "scheduler.splits = 12;" in _text(_linear("", result="y0", x="128,3072", n=768), "p")


MODEL = """
  %x = input : f16[128,768]
  %w = constant {key="w"} : f16[768,768]
  %b = constant {key="b"} : f16[768]
  %h0 = linear %x, %w, %b
  %h = relu %h0
  %y0 = linear %h, %w, %b
  %y = add %y0, %x
  %s = softmax %y {axis=1}
  return %s"""


def test_a_model_launches_it_as_a_kernel_with_a_workspace():
    made = lower(parse(MODEL, fill=random_constant), BACKEND, SM_90A, Options(vendor="cutlass"))
    names = [c.kernel for c in made.program.calls if c.library is not None]
    assert len(set(names)) == 2
    assert {"go_cutlass.h", *(f"{n}.cu" for n in names)} <= set(made.sources)
    model = made.sources["model.cu"]
    for name in names:
        assert f'error = go_launched({name}_plan(&bytes), "{name}");' in model
        assert f'return go_launched({name}_launch(stream, p),\n        "{name}");' in model
    assert model.count("m->workspace};") == 2
    assert "static const go_code code = {90, 1, 0};" in model  # no PTX of these for later GPUs
    facts = BACKEND.facts(made.source, made.program, SM_90A)
    assert facts["libraries"] == {"cutlass": 2}
    assert "CUTLASS beside cuBLASLt and cuDNN" in facts["unmeasured"]


def test_a_model_without_it_is_as_it_was():
    made = lower(parse(MODEL, fill=random_constant), BACKEND, SM_90A, Options())
    assert not any("cutlass" in name for name in made.sources)
    assert "static const go_code code = {90, 1, 90};" in made.sources["model.cu"]


# On a GPU -------------------------------------------------------------------------------------


def _case(text: str) -> Case:
    """Factors on the right are scaled so that products are about 1, where activations bend."""
    graph = parse(text)
    inputs = [random(*v.type.dims, dtype=v.type.dtype) for v in graph.inputs]
    scale = np.sqrt(graph.inputs[0].type.dims[-1])
    inputs[1] = (inputs[1].astype(np.float32) / scale).astype(inputs[1].dtype)
    return Case(graph, inputs)


CASES = {
    "stream-k": _case(BIAS_GELU),
    "split-k": _case(_linear("", result="y0", x="100,3072", n=776)),
    "whole-tiles": _case(_linear("%y = add %r, %y0", x="1000,768", n=3080, dtype="bf16")),
    "clusters": _case(_linear("%y = gelu %y0", x="2100,256", n=4096)),
    "small-tiles": _case(TREES["two-tensors"][0]),
    "scaled": _case(TREES["scaled"][0]),
    "f32": _case(_linear("%c = cast %y0 {dtype=f32}\n%y = relu %c", x="3,40,64", n=72)),
    "matmul-batched": _case(TREES["matmul-batched"][0]),
    "few-rows": _case(FEW_ROWS),
    "a-row": _case(_linear("%y = relu %y0", x="1,512", n=1000)),
    "few-rows-wide": _case(_linear("%y = add %r, %y0", x="3,7,512", n=17000, dtype="bf16")),
    "few-rows-batched": _case(
        "%x = input : f16[2,33,64]\n%w = input : f16[2,64,520]\n%y = matmul %x, %w\nreturn %y"
    ),
}
"""What tests/gpu runs, and nothing here can."""


def test_cases_for_a_gpu_reach_every_schedule():
    found = [product(c.graph) for c in CASES.values()]
    made = {schedule(p, SM_90A.sms) for p in found if isinstance(p, Product)}  # type: ignore[attr-defined]
    assert all(isinstance(p, Product) for p in found)
    assert {(s.tile, s.cooperative, min(s.splits, 2)) for s in made if not s.turned} == {
        ((128, 256, 64), True, 1),
        ((128, 128, 64), False, 1),
        ((128, 128, 64), True, 0),
        ((128, 128, 64), True, 2),
        ((64, 64, 64), False, 1),
    }
    assert {(s.tile, s.cooperative, min(s.splits, 2)) for s in made if s.turned} >= {
        ((128, 32, 64), False, 1),
        ((128, 16, 64), True, 2),
        ((64, 64, 64), False, 1),
    }


# Building --------------------------------------------------------------------------------------


def test_templates_are_compiled_alone():
    sources = {"a.cu": "", "b.cu": '#include "go_cutlass.h"\n', "c.cu": ""}
    made = units(sources, jobs=1)
    assert [unit for unit, kernels in made.items() if not kernels] == ["b.cu"]


def _no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt_backends.cuda.cutlass_headers._PACKAGE", "no_such_package")


def test_without_headers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    _no_headers(monkeypatch)
    with pytest.raises(BuildError) as caught:
        template_headers()
    assert str(caught.value) == (
        "the model has kernels by CUTLASS, and its headers are not installed\n"
        "hint: run `pip install 'graphopt[cutlass]'`, or leave cutlass out of --vendor"
    )


def test_missing_headers_are_told_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    _no_headers(monkeypatch)

    def nothing(*_: object, **__: object) -> None:
        raise AssertionError("a compiler was started")

    monkeypatch.setattr(cuda_build, "_run", nothing)
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    sources = {"a.cu": "", "b.cu": '#include "go_cutlass.h"\n'}
    with pytest.raises(BuildError, match="headers are not installed"):
        build(sources, TARGETS["emulated"], tmp_path / "m")


def test_the_version_is_read_from_the_headers(tmp_path: Path):
    (tmp_path / "cutlass").mkdir()
    lines = [f"#define CUTLASS_{n} {v} " for n, v in (("MAJOR", 4), ("MINOR", 2), ("PATCH", 0))]
    (tmp_path / "cutlass" / "version.h").write_text("\n".join(lines))
    assert template_version(tmp_path) == "4.2.0"


PLAN = """
#include <cuda_runtime.h>
#include <stdio.h>
extern "C" {
int p_plan(size_t *);
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int) {
    *value = which == cudaDevAttrMultiProcessorCount ? 132 : 0;
    return cudaSuccess;
}
}
int main() {
    size_t bytes = 0;
    const int error = p_plan(&bytes);
    printf("%d %zu", error, bytes);
}
"""
"""What a model does when it is opened, on a pretended device."""


@pytest.fixture(scope="module")
def bias_gelu(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compiled(_text(BIAS_GELU, "p"), tmp_path_factory.mktemp("cutlass"))


@pytest.mark.nvcc
@pytest.mark.slow
def test_nvcc_compiles_it(bias_gelu: Compiled):
    """To TMA and wgmma."""
    bias_gelu.check_registers()
    assert "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16" in bias_gelu.ptx
    assert "cp.async.bulk.tensor" in bias_gelu.ptx


@pytest.mark.nvcc
@pytest.mark.slow
def test_few_rows_are_the_narrow_side_of_a_tile(tmp_path: Path):
    """wgmma's 64 rows are columns of the product, its 16 columns all rows that there are."""
    few_rows = compiled(_text(FEW_ROWS, "p"), tmp_path)
    few_rows.check_registers()
    assert "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16" in few_rows.ptx
    assert "cp.async.bulk.tensor" in few_rows.ptx
    error, workspace = few_rows.printed(PLAN)
    assert error == 0
    assert 32 * 128 * 16 * 4 <= workspace < 2 * 32 * 128 * 16 * 4  # where parts of 32 tiles meet


@pytest.mark.nvcc
@pytest.mark.slow
def test_cutlass_takes_the_arguments_and_tells_its_workspace(bias_gelu: Compiled):
    """Stream-K: each of the 24 tiles may be left in parts, in f32."""
    error, workspace = bias_gelu.printed(PLAN)
    assert error == 0
    assert 24 * 128 * 128 * 4 <= workspace < 2 * 24 * 128 * 128 * 4
