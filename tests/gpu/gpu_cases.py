"""What runs on a GPU: every model of the zoo, and the cases of the emulated kernel tests, those of
a family as one model. An artifact is made where nvcc is, and found where it was put before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.artifact.format import MANIFEST
from graphopt.driver import Options, build
from graphopt.ir.graph import Graph, Value
from graphopt.ops import ConstantAttrs
from graphopt.rewrite import Rewriter

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "backends" / "cuda"))

FAMILIES = ("elementwise", "rows", "products", "attention", "scans")
"""`test_cuda_NAME` has a table CASES for each."""

CUTLASS_FAMILIES = ("cutlass", "cutlass_conv")
CUTLASS = "fuse,choose-libraries{use=[cutlass],always=true},plan-memory"

ATTENTION = "fuse,choose-libraries{use=[cudnn-attention],always=true},plan-memory"

HALVES = ("tiny_resnet", "tiny_bert", "tiny_llama", "tiny_vit", "tiny_convnext", "tiny_swin")
"""Models that are run in f16 and bf16, too."""


ORDER = (
    "test_kernels_on_gpu", "test_without_libraries_on_gpu", "test_tiny_on_gpu",
    "test_torch_tensors_on_gpu", "test_halves_on_gpu", "test_attention_by_cudnn_on_gpu",
    "test_host_tensors_are_refused_on_gpu", "test_out_of_memory_on_gpu_leaves_the_process_alive",
    "test_a_misdeed_on_gpu_is_told_and_the_next_kernel_is_well", "test_a_model_is_tuned_on_gpu",
    "test_sanitizer_on_gpu", "test_cutlass_on_gpu", "test_cutlass_gives_the_same_bits_on_gpu",
    "test_full_size_on_gpu",
)  # fmt: skip
"""Of tests that need a GPU: who stops them early has seen what most depends on. Templates and
models at full size take nvcc minutes."""


@dataclass(frozen=True)
class Wanted:
    """An artifact by name: a source and what it is compiled with. `package` is what Python must
    have to compile it."""

    name: str
    source: Callable[[], Any]
    options: Options = field(default_factory=Options)
    package: str = ""

    @property
    def can_be_made(self) -> bool:
        return not self.package or util.find_spec(self.package) is not None


def family(name: str) -> Mapping[str, Any]:
    """The cases of a family of kernels, by name."""
    cases: Mapping[str, Any] = importlib.import_module(f"test_cuda_{name}").CASES
    return cases


def merged(cases: Mapping[str, Any]) -> Graph:
    """All graphs as one: inputs `CASE/i` and outputs `CASE/i` are row-major."""
    inputs = tuple(
        Value(v.type.with_layout(None), name=f"{name}/{i}")
        for name, case in cases.items()
        for i, v in enumerate(case.graph.inputs)
    )
    rw = Rewriter(Graph(inputs, (), ()))
    given, names, outputs = iter(rw.inputs), [], []
    for name, case in cases.items():
        made = _copied(rw, case.graph, given)
        names += [f"{name}/{i}" for i in range(len(made))]
        outputs += made
    rw.outputs, rw.output_names = outputs, tuple(names)
    return rw.freeze()


def _copied(rw: Rewriter, graph: Graph, given: Iterator[Value]) -> list[Value]:
    values: dict[Value, Value] = {}
    for v in graph.inputs:
        values[v] = _laid(rw, next(given), v)
    for node in graph.nodes:
        if isinstance(node.attrs, ConstantAttrs):
            values[node.result] = rw.constant(graph.constants[node.attrs.key])
            continue
        operands = [values[o] for o in node.operands]
        types = [r.type for r in node.results]
        copy = rw.insert(node.op.name, operands, node.attrs, types=types, body=node.body)
        values.update(zip(node.results, copy.results, strict=True))
    plain = [Value(v.type.with_layout(None)) for v in graph.outputs]
    return [_laid(rw, values[v], p) for v, p in zip(graph.outputs, plain, strict=True)]


def _laid(rw: Rewriter, value: Value, like: Value) -> Value:
    if value.type == like.type:
        return value
    return rw.insert("relayout", [value], types=[like.type]).result


def wanted() -> list[Wanted]:
    """Every artifact of the tests in this folder."""
    sys.path.insert(0, str(TESTS))
    from models import MODELS, TINY

    plain = Options(passes="fuse,plan-memory")  # layouts are those of the cases
    out = [Wanted(name, lambda n=name: merged(family(n)), plain) for name in FAMILIES]
    out += [
        Wanted(name, lambda n=name: merged(family(n)), Options(passes=CUTLASS), "cutlass_library")
        for name in CUTLASS_FAMILIES
    ]
    cudnn = Options(passes=ATTENTION)
    out += [Wanted("cudnn_attention", lambda: merged(family("cudnn_attention")), cudnn)]
    out += [Wanted(name, make) for name, make in {**TINY, **MODELS}.items()]
    for name in HALVES:
        out += [Wanted(f"{name}-{p}", TINY[name], Options(precision=p)) for p in ("fp16", "bf16")]
    out += [
        Wanted(f"{name}-no-vendor", TINY[name], Options(vendor="none"))
        for name in ("tiny_resnet", "tiny_bert")
    ]
    return out


def artifact(want: Wanted, folder: Path, target: str = "cuda") -> Path:
    """Built, unless it is there."""
    out = folder / want.name
    if not (out / MANIFEST).is_file():
        source = want.source()
        module, inputs = source if isinstance(source, tuple) else (source, None)
        build(module, inputs, target=target, out=out, options=want.options)
    return out


def inputs_of(cases: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {
        f"{name}/{i}": array for name, case in cases.items() for i, array in enumerate(case.inputs)
    }
