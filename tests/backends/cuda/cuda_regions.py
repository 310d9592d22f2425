"""Run graphs through fusion, lowering, CUDA C++ and the emulator, region by region.

All kernels of a test file are compiled at once, into one library: a compiler reads the headers
once. A region runs with the threads of a block in several orders; the kernel interpreter runs it,
too.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from graphopt_backends.cuda.emit.device import device_sources
from graphopt_backends.cuda.emit.kernel import emit_kernel
from graphopt_backends.cuda.emit.launch import workspace_bytes
from graphopt_backends.cuda.lower import lower_region
from graphopt_backends.cuda.targets import TARGETS
from graphopt_passes.fuse.fuse import Fuse

from graphopt.check.reference import execute
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ir.views import is_view
from graphopt.kernel.interpret import interpret
from graphopt.kernel.verify import verify_kernel
from graphopt.lower.link import kernel_name
from graphopt.lower.region import Lowered
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.tune.space import Point

EMULATED = TARGETS["emulated"]
ORDERS = ("0", "1", "5")
"""Of threads and blocks: ascending, descending, shuffled."""

# As on the CPU: sums of K products lose about sqrt(K) * 2**-24 of the largest term.
TOLERANCE = {DType.F32: 70 * 2.0**-24, DType.F16: 2.0**-9, DType.BF16: 2.0**-6}
"""Halves: two roundings of the result (11 and 8 bits), the reference having none."""


@dataclass
class Case:
    """A graph and arrays for its inputs. `point` chooses schedules, by region kind."""

    graph: Graph
    inputs: Sequence[np.ndarray]
    points: Mapping[str, Point] = field(default_factory=dict)
    tolerance: float | None = None


def tensor(*shape: int, dtype: DType = DType.F32) -> TensorType:
    return TensorType(dtype, shape)


def channels_last(*shape: int, dtype: DType = DType.F32) -> TensorType:
    return TensorType(dtype, shape, Layout.ordered((0, *range(2, len(shape)), 1)))


def random(*shape: int, dtype: DType = DType.F32) -> np.ndarray:
    numbers = np.random.default_rng(sum(shape) + len(shape))
    if dtype is DType.BOOL:
        return numbers.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        return numbers.integers(-9, 9, shape).astype(dtype.numpy)
    return numbers.standard_normal(shape, dtype=np.float32).astype(dtype.numpy)


def graph_of(
    inputs: Sequence[TensorType],
    constants: Sequence[np.ndarray],
    body: Callable[..., Value | Sequence[Value]],
) -> Graph:
    """`body(rw, *inputs, *constants)` builds the graph and returns its result(s)."""
    rw = Rewriter(Graph(tuple(Value(t, name=f"x{i}") for i, t in enumerate(inputs)), (), ()))
    weights = [rw.constant(c, name=f"w{i}") for i, c in enumerate(constants)]
    results = body(rw, *rw.inputs, *weights)
    rw.outputs = list(results) if isinstance(results, (list, tuple)) else [results]
    return rw.freeze()


class Emulated:
    """The kernels of many cases in one library."""

    def __init__(self, cases: Mapping[str, Case], folder: Path) -> None:
        self.cases = dict(cases)
        self.fused = {n: Fuse().run(c.graph, PassContext()) for n, c in cases.items()}
        self.lowered: dict[Node, tuple[str, Lowered]] = {}
        self.texts: dict[str, str] = {}
        for name, graph in self.fused.items():
            for node in (n for n in graph.nodes if n.op.name == "fused"):
                self._lower(node, self.cases[name])
        self.library = compiled(self.texts, folder)

    def _lower(self, node: Node, case: Case) -> None:
        lowered = lower_region(node, EMULATED, case.points.get(node.attrs.kind))  # type: ignore[attr-defined]
        name = kernel_name(node, lowered, EMULATED)
        kernel = dataclasses.replace(lowered.kernel, name=name)
        verify_kernel(kernel)
        self.lowered[node] = name, dataclasses.replace(lowered, kernel=kernel)
        if name not in self.texts:
            locs = [] if node.body is None else [n.loc for n in node.body.nodes]
            self.texts[name] = emit_kernel(kernel, EMULATED, locs=locs)

    def check(self, name: str, *, interpreted: bool = True) -> None:
        """Every region's results agree with the reference in float64, in every order."""
        case, fused = self.cases[name], self.fused[name]
        wanted: dict[Value, np.ndarray] = {}

        def observe(node: Node, arrays: Sequence[np.ndarray]) -> None:
            wanted.update(zip(node.results, arrays, strict=True))

        execute(fused, list(case.inputs), precision=np.float64, observer=observe)
        memory = {v: to_memory(a, v.type) for v, a in zip(fused.inputs, case.inputs, strict=True)}
        for node in fused.nodes:
            if node.op.name == "fused":
                self._check_region(node, fused, memory, wanted, case, interpreted)
            elif is_view(node):
                memory[node.result] = memory[node.operands[0]]
            else:
                array = wanted[node.result].astype(node.result.type.dtype.numpy)
                memory[node.result] = np.ascontiguousarray(array)

    def _check_region(
        self, node: Node, graph: Graph, memory: dict[Value, np.ndarray],
        wanted: Mapping[Value, np.ndarray], case: Case, interpreted: bool,
    ) -> None:  # fmt: skip
        name, lowered = self.lowered[node]
        inputs = [_operand(i, v, graph, memory, lowered) for i, v in enumerate(node.operands)]
        runs = [(f"order {o}", self._run(name, node, inputs, o)) for o in ORDERS]
        if interpreted:
            arrays = dict(zip((p.name for p in lowered.kernel.params), inputs, strict=False))
            out = interpret(lowered.kernel, arrays)
            runs.append(("interpreted", [out[n].ravel() for n in lowered.kernel.outputs]))
        for how, results in runs:
            for value, flat in zip(node.results, results, strict=True):
                got = from_memory(flat, value.type)
                _compare(got, wanted[value], value.type.dtype, f"{name} {how}", case.tolerance)
        for value, flat in zip(node.results, runs[0][1], strict=True):
            memory[value] = flat

    def _run(
        self, name: str, node: Node, inputs: Sequence[np.ndarray], order: str
    ) -> list[np.ndarray]:
        results = [_poisoned(r.type) for r in node.results]
        workspace = np.full(workspace_bytes(self.lowered[node][1].kernel), 0x7F, np.uint8)
        buffers = [_aligned(a) for a in (*inputs, *results, workspace)]
        pointers = (ctypes.c_void_p * len(buffers))(*(b.ctypes.data for b in buffers))
        os.environ["GRAPHOPT_EMULATED_ORDER"] = order
        try:
            assert getattr(self.library, f"{name}_launch")(None, pointers) == 0
        finally:
            del os.environ["GRAPHOPT_EMULATED_ORDER"]
        return buffers[len(inputs) : -1]


def compiled(texts: Mapping[str, str], folder: Path) -> ctypes.CDLL:
    """Kernel files as one library for this machine's processor."""
    headers = device_sources()
    for name, text in {**headers, **{f"{n}.cu": t for n, t in texts.items()}}.items():
        (folder / name).write_text(text)
    source = "".join(f'#include "{n}.cu"\n' for n in texts)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    (folder / f"{digest}.cpp").write_text(source)
    library = folder / f"{digest}.so"
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", "-DGO_EMULATED", "-Wall", "-Wextra",
               "-Wno-unknown-pragmas", "-Wno-maybe-uninitialized", "-Werror", "-ffp-contract=off",
               f"{digest}.cpp", "-o", library.name]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(library))


def _operand(
    i: int, value: Value, graph: Graph, memory: Mapping[Value, np.ndarray], lowered: Lowered
) -> np.ndarray:
    if i not in lowered.packings:
        return memory[value].ravel()
    constant = graph.constant(value)
    assert constant is not None
    packed = np.ascontiguousarray(lowered.packings[i].pack(constant)).ravel()
    assert packed.size == lowered.packings[i].size
    return packed


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 16 bytes."""
    room = np.empty(array.nbytes + 16, np.uint8)
    start = -room.ctypes.data % 16
    out = room[start : start + array.nbytes].view(array.dtype)
    out[...] = array
    return out


def _poisoned(type: TensorType) -> np.ndarray:
    return np.frombuffer(b"\x7f" * type.size_bytes, type.dtype.numpy).copy()


def to_memory(array: np.ndarray, type: TensorType) -> np.ndarray:
    """A logical array as the flat buffer its layout says."""
    flat = np.zeros(type.size_bytes // type.dtype.size_bytes, type.dtype.numpy)
    _view(flat, type)[...] = array
    return flat


def from_memory(flat: np.ndarray, type: TensorType) -> np.ndarray:
    return _view(flat, type).copy()


def _view(flat: np.ndarray, type: TensorType) -> np.ndarray:
    strides = [s * type.dtype.size_bytes for s in type.strides]
    return np.lib.stride_tricks.as_strided(flat[type.offset :], type.dims, strides)


def _compare(
    got: np.ndarray, wanted: np.ndarray, dtype: DType, what: str, tolerance: float | None
) -> None:
    if not dtype.is_float:
        np.testing.assert_array_equal(got, wanted, err_msg=what)
        return
    tolerance = tolerance or TOLERANCE[dtype]
    largest = max(float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)), 1e-30)
    got = got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(got - wanted)
    error = np.where((got == wanted) | (np.isnan(got) & np.isnan(wanted)), 0, error)
    assert not np.isnan(error).any(), f"{what}: not a number"
    assert error.max(initial=0) <= tolerance * largest, f"{what}: {error.max() / largest:.2e}"
