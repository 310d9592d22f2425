"""Run one graph through fusion, lowering, C and the machine, region by region."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from graphopt_backends.cpu.build import build
from graphopt_backends.cpu.emit import emit_kernel, parallel_extent, scratch_bytes
from graphopt_backends.cpu.lower import lower_region
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.memory.plan_memory import overwritable

from graphopt.check.reference import execute
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.ir.views import Storages, is_view
from graphopt.passbase import Pass, PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target
from graphopt.tune.space import Point

# float32 has 24 bits; sums of K products lose about sqrt(K) * 2**-24 of the largest term, and the
# longest sums here have K = 4608 terms.
TOLERANCE = 70 * 2.0**-24

# A model's kernels are not exported; here the kernel is all there is.
_EXPORTED = "#pragma GCC visibility push(default)\n"


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


def run_region(
    node: Node,
    graph: Graph,
    memory: dict[Value, np.ndarray],
    target: Target,
    folder: Path,
    parts: int = 1,
    point: Point | None = None,
    over: Value | None = None,
) -> None:
    """Compile and call the kernel of a fused node, by the default schedule or that of a `point`;
    its results are added to `memory`. It is called for `parts` ranges of what threads share, the
    last one first. Its result overwrites the operand `over`."""
    lowered = lower_region(node, target, point)
    kernel, aliased = dataclasses.replace(lowered.kernel, name="kernel"), frozenset[str]()
    if over is not None:
        read, written = kernel.params[node.operands.index(over)], kernel.params[-1]
        aliased = frozenset({read.name, written.name})
    text = _EXPORTED + emit_kernel(kernel, target, aliased=aliased)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    library = build({f"{name}.c": text}, target, folder / f"{name}.so")
    function = ctypes.CDLL(str(library)).kernel
    buffers = []
    for i, operand in enumerate(node.operands):
        flat = memory[operand]
        if i in lowered.packings:
            constant = graph.constant(operand)
            assert constant is not None
            flat = np.ascontiguousarray(lowered.packings[i].pack(constant))
        buffers.append(flat)
    storages = Storages(graph)
    for result in node.results:
        size = result.type.size_bytes // result.type.dtype.size_bytes
        fresh = np.frombuffer(b"\x7f" * size * result.type.dtype.size_bytes,
                              result.type.dtype.numpy).copy()  # fmt: skip
        memory[result] = memory.setdefault(storages.of(result), fresh)
        buffers.append(memory[result])
    scratch = np.full(scratch_bytes(lowered.kernel) + 128, 0x7F, np.uint8)
    aligned = (scratch.ctypes.data + 63) & ~63
    pointers = [b.ctypes.data_as(ctypes.c_void_p) for b in buffers]
    extent = parallel_extent(lowered.kernel)
    for part in reversed(range(parts)):
        begin, end = extent * part // parts, extent * (part + 1) // parts
        function(*pointers, ctypes.c_void_p(aligned), *map(ctypes.c_int64, (begin, end)))


def check_regions(
    graph: Graph,
    inputs: Sequence[np.ndarray],
    target: Target,
    folder: Path,
    *,
    tolerance: float = TOLERANCE,
    passes: Sequence[Pass] = (Fuse(),),
    parts: int = 1,
    point: Point | None = None,
) -> Graph:
    """Every region's results agree with the reference in float64, also where they overwrite what
    they may. Returns the graph after the passes that fuse it."""
    fused = graph
    for pass_ in passes:
        fused = pass_.run(fused, PassContext(target=target))
    wanted: dict[Value, np.ndarray] = {}

    def observe(node: Node, arrays: Sequence[np.ndarray]) -> None:
        wanted.update(zip(node.results, arrays, strict=True))

    execute(fused, list(inputs), precision=np.float64, observer=observe)
    memory = {v: to_memory(a, v.type) for v, a in zip(fused.inputs, inputs, strict=True)}
    storages = Storages(fused)
    for node in fused.nodes:
        if node.op.name == "fused":
            run_region(node, fused, memory, target, folder, parts, point)
            for result in node.results:
                _compare(from_memory(memory[result], result.type), wanted[result], node, tolerance)
            for operand in overwritable(node, storages):
                result, place = node.result, memory[operand].copy()
                there = {**memory, operand: place, storages.of(result): place}
                run_region(node, fused, there, target, folder, parts, point, over=operand)
                _compare(from_memory(place, result.type), wanted[result], node, tolerance)
        elif is_view(node):
            memory[node.result] = memory[node.operands[0]]
            array = from_memory(memory[node.result], node.result.type)
            _compare(array, wanted[node.result], node, tolerance)
        else:
            array = wanted[node.result].astype(node.result.type.dtype.numpy)
            memory[node.result] = np.ascontiguousarray(array)
    return fused


def _compare(got: np.ndarray, wanted: np.ndarray, node: Node, tolerance: float) -> None:
    ops = [] if node.body is None else [n.op.name for n in node.body.nodes]
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted, err_msg=str(ops))
        return
    largest = max(float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)), 1e-30)
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - wanted)
    error = np.where((got == wanted) | (np.isnan(got) & np.isnan(wanted)), 0, error)
    assert not np.isnan(error).any(), f"{ops}: not a number"
    assert float(error.max(initial=0)) <= tolerance * largest, f"{ops}: {error.max() / largest:.2e}"
