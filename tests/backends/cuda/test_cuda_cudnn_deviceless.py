"""What models tell cuDNN, told to the real one where there is no GPU: its headers have our numbers,
it takes the descriptors of convolutions, and it has plans for attentions on GPUs that are
described to it. Nothing is run. Needs the wheels nvidia-cudnn-cu13 and nvidia-cuda-nvrtc."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cuda_regions import graph_of, tensor
from cudnn.real import GPUS, HERE, RUNTIME, Cudnn, attention_library, convolution_library, find
from test_cuda_cudnn_attention import CASES

from graphopt.check.passkit import random_constant
from graphopt.driver import Options, lower
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.ir.types import DType
from graphopt.ops import AttentionAttrs
from graphopt.program import LibraryCall
from graphopt.target import resolve

pytestmark = pytest.mark.compiler
BACKEND, SM_90A = resolve("cuda:sm_90a")

WITH_MASKS = 92100  # from this version on it does attention with masks

ATTENTION = {
    # batch, heads, heads of keys, queries, keys, depth, width, causal, mask, type
    "plain": (2, 8, 8, 512, 512, 64, 64, False, None, DType.F16),
    "bf16-causal": (2, 8, 8, 512, 512, 128, 128, True, None, DType.BF16),
    "grouped": (1, 32, 8, 256, 256, 128, 128, True, None, DType.F16),
    "decode": (4, 32, 8, 1, 1024, 128, 128, False, None, DType.F16),
    "wide": (1, 4, 4, 128, 128, 256, 256, False, None, DType.F16),
    "wide-causal": (1, 4, 4, 128, 128, 192, 192, True, None, DType.F16),
    "narrow": (1, 4, 4, 128, 128, 40, 40, True, None, DType.F16),
    "two-widths": (1, 4, 4, 128, 128, 64, 128, False, None, DType.F16),
    "odd": (1, 12, 12, 77, 77, 64, 64, True, None, DType.F16),
    "cross": (2, 8, 8, 64, 77, 40, 40, False, None, DType.F16),
    "mask-of-keys": (2, 12, 12, 128, 128, 64, 64, False, (2, 1, 1, 128), DType.F16),
    "mask-of-all": (2, 4, 4, 64, 64, 64, 64, False, (1, 4, 64, 64), DType.BF16),
    "mask-and-causal": (1, 4, 4, 64, 64, 64, 64, True, (1, 1, 64, 64), DType.F16),
}

_PLANS = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
library.deviceless_message.restype = ctypes.c_char_p
found = []
for i in range(int(sys.argv[3])):
    workspace = ctypes.c_size_t(1 << 28)
    error = library.plan(i, sys.argv[2].encode(), ctypes.byref(workspace))
    found.append(library.deviceless_message().decode() if error else workspace.value)
print(json.dumps(found))
"""

_EXTENTS = """
import ctypes, json, sys
library, dnn = ctypes.CDLL(sys.argv[1]), ctypes.CDLL("libcudnn.so.9")
found = []
for i in range(int(sys.argv[2])):
    extents = (ctypes.c_int * 4)()
    status = library.infer(i, dnn.cudnnGetConvolution2dForwardOutputDim, extents)
    found.append(status or list(extents))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def cudnn(tmp_path_factory: pytest.TempPathFactory) -> Cudnn:
    found = find(tmp_path_factory.mktemp("pretended"))
    if found is None:
        pytest.skip("the wheels nvidia-cudnn-cu13 and nvidia-cuda-nvrtc are not installed")
    return found


def _calls(graph: Graph) -> list[LibraryCall]:
    made = lower(graph, BACKEND, SM_90A, Options(vendor="cudnn,cudnn-attention"))
    return [c.library for c in made.program.calls if c.library]


def _attention(name: str) -> LibraryCall:
    b, h, hk, s, t, d, e, causal, mask, dtype = ATTENTION[name]
    shapes = [(b, h, s, d), (b, hk, t, d), (b, hk, t, e), *([mask] if mask else [])]
    attrs = AttentionAttrs(d**-0.5, causal)
    graph = graph_of(
        [tensor(*shape, dtype=dtype) for shape in shapes], [],
        lambda rw, *read: rw.emit("attention", *read, attrs=attrs),
    )  # fmt: skip
    (call,) = _calls(graph)
    return call


def _has_mask(call: LibraryCall) -> bool:
    fields = dict(call.fields)
    return bool(fields["has_mask"] or fields["causal"])


@pytest.mark.parametrize("gpu", GPUS)
def test_it_has_plans_for_attentions(gpu: str, cudnn: Cudnn, tmp_path: Path):
    """Those of this table, and the odd ones that run in emulation."""
    calls = {name: _attention(name) for name in ATTENTION}
    for name, case in CASES.items():
        (calls[f"emulated-{name}"],) = _calls(case.graph)
    library = attention_library(list(calls.values()), tmp_path)
    found = cudnn.ask(_PLANS, str(library), json.dumps(GPUS[gpu]), str(len(calls)))
    assert isinstance(found, list)
    refused = {n: told for n, told in zip(calls, found, strict=True) if isinstance(told, str)}
    version = cudnn.version
    masked = [n for n, c in calls.items() if version < WITH_MASKS and _has_mask(c)]
    old = f"cuDNN is version {version}; the model's attention needs {WITH_MASKS} or later"
    assert refused == dict.fromkeys(masked, old)


def test_what_is_not_offered_it_has_no_plan_for(cudnn: Cudnn, tmp_path: Path):
    """Heads that are no multiple of eight wide; so that the test above can fail."""
    plain = _attention("plain")
    fields = tuple({**dict(plain.fields), "d": 36, "e": 36}.items())
    call = LibraryCall(plain.library, plain.function, fields, plain.roles)
    library = attention_library([call], tmp_path)
    found = cudnn.ask(_PLANS, str(library), json.dumps(GPUS["H100"]), "1")
    assert isinstance(found, list)
    assert "it has no plan for an attention" in found[0]


CONVOLUTIONS = {
    "3x3": ("2,6,9,8", "4,6,3,3", "2,4,9,8", "1,1", "[1,1],[1,1]", "1,1", 1),
    "stride": ("2,6,9,8", "4,6,3,3", "2,4,5,4", "2,2", "[1,1],[1,1]", "1,1", 1),
    "dilated": ("2,6,9,8", "4,6,3,3", "2,4,9,4", "1,1", "[2,2],[0,0]", "2,2", 1),
    "groups": ("2,6,9,8", "4,3,3,3", "2,4,9,8", "1,1", "[1,1],[1,1]", "1,1", 2),
}


def test_it_infers_the_results_of_convolutions(cudnn: Cudnn, tmp_path: Path):
    calls = []
    for x, w, _, stride, padding, dilation, groups in CONVOLUTIONS.values():
        text = f"""
          %x = input : f16[{x}]
          %w = constant {{key="w"}} : f16[{w}]
          %y = conv %x, %w {{stride=[{stride}], padding=[{padding}], dilation=[{dilation}],
            groups={groups}, winograd=0}}
          return %y"""
        (call,) = _calls(parse(text, fill=random_constant))
        calls.append(call)
    library = convolution_library(calls, tmp_path)
    found = cudnn.ask(_EXTENTS, str(library), str(len(calls)))
    assert found == [[int(n) for n in c[2].split(",")] for c in CONVOLUTIONS.values()]


@pytest.mark.nvcc
def test_its_headers_have_our_numbers(cudnn: Cudnn, tmp_path: Path):
    """By nvcc, which knows where the headers of CUDA are that they include."""
    if cudnn.version < WITH_MASKS:
        pytest.skip(f"cuDNN {cudnn.version} has no masks: their numbers are not in its headers")
    nvcc = shutil.which("nvcc")
    assert nvcc is not None
    includes = [f"-I{RUNTIME}", f"-I{cudnn.headers}"]
    files = ["-c", str(HERE / "numbers.cpp"), "-o", str(tmp_path / "numbers.o")]
    command = [nvcc, "-std=c++17", "-Xcompiler=-Wno-deprecated-declarations", *includes, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
