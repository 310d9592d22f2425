"""What one core of this machine can do at most, measured by kernels of our own: the floor that a
profile is held against."""

from __future__ import annotations

import ctypes
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from graphopt.artifact.layout import WeightLayout
from graphopt.cache import Cache, key_of
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    For,
    Kernel,
    Scope,
    Store,
    binary,
    block,
    broadcast,
    const,
    contiguous,
    index_const,
    index_var,
    load,
)
from graphopt.program import Arg, KernelCall, Port, Program, Space
from graphopt.target import Limits, Target

_F32 = DType.F32
_STEPS = 1 << 16
_CHAINS = 12
"""Independent accumulators: more than latency (4 to 5 cycles) times units (2) on any core."""

_READ_BYTES = 128 << 20
"""Several times a last-level cache's share of one core."""

_REPEATS = 12


def measure(target: Target) -> Limits:
    """Peak multiply-adds and memory reads of one thread; kept in the cache folder per machine."""
    store, key = Cache("limits"), key_of([target.fingerprint, _cpu_model(), "1"])
    found = store.find(key, ".json")
    if found is not None:
        return Limits(**json.loads(found.read_text()))
    limits = measure_now(target)
    store.put(key, json.dumps(asdict(limits)).encode(), ".json")
    return limits


def measure_now(target: Target) -> Limits:
    """The same, whatever was found before: a shared machine's clock has good days."""
    flops = 2 * _STEPS * _CHAINS * max(1, target.lanes_f32)
    peak = _fastest_ns(_multiply_adds(target), [np.ones(1, np.float32)], target)
    words = np.ones(_READ_BYTES // 4, np.float32)
    read = _fastest_ns(_reads(target, len(words)), [words], target)
    return Limits(gflops=flops / peak, gbytes_per_s=_READ_BYTES / read)


def _multiply_adds(target: Target) -> Kernel:
    """Chains of acc = acc * x + y on vectors."""
    lanes = max(1, target.lanes_f32)
    x, out = Buffer.dense("x", _F32, (1,)), Buffer.dense("out", _F32, (_CHAINS * lanes,))
    acc = Buffer.dense("acc", _F32, (_CHAINS, lanes), Scope.REGISTER)
    lane = contiguous(index_const(0), lanes)
    factor = broadcast(load(x, index_const(0)), lanes)
    start = [Store(acc, (index_const(i), lane), const(float(i), _F32, lanes))
             for i in range(_CHAINS)]  # fmt: skip
    steps = []
    for i in range(_CHAINS):
        at = (index_const(i), lane)
        value = binary("+", binary("*", load(acc, *at), factor), const(0.5, _F32, lanes))
        steps.append(Store(acc, at, value))
    end = [
        Store(out, (contiguous(index_const(i * lanes), lanes),), load(acc, index_const(i), lane))
        for i in range(_CHAINS)
    ]
    body = block(Alloc(acc), *start, For("k", _STEPS, block(*steps)), *end)
    return Kernel("go_multiply_adds", (x, out), ("out",), body)


def _reads(target: Target, count: int) -> Kernel:
    """A sum over everything, four vectors at a time."""
    lanes, chains = max(1, target.lanes_f32), 4
    x, out = Buffer.dense("x", _F32, (count,)), Buffer.dense("out", _F32, (chains * lanes,))
    acc = Buffer.dense("acc", _F32, (chains, lanes), Scope.REGISTER)
    lane, k = contiguous(index_const(0), lanes), index_var("k")
    start, steps, end = [], [], []
    for i in range(chains):
        at = (index_const(i), lane)
        first = binary("+", binary("*", k, index_const(chains * lanes)), index_const(i * lanes))
        start.append(Store(acc, at, const(0.0, _F32, lanes)))
        steps.append(Store(acc, at, load(x, contiguous(first, lanes)), "+"))
        end.append(Store(out, (contiguous(index_const(i * lanes), lanes),), load(acc, *at)))
    loop = For("k", count // (chains * lanes), block(*steps))
    return Kernel("go_reads", (x, out), ("out",), block(Alloc(acc), *start, loop, *end))


# Running -----------------------------------------------------------------------------------------


def _fastest_ns(kernel: Kernel, inputs: list[np.ndarray], target: Target) -> int:
    """The quickest of a few runs: other work on the machine only ever adds time."""
    from graphopt_backends.cpu.build import build
    from graphopt_backends.cpu.emit import emit

    program = _program(kernel)
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        library = ctypes.CDLL(str(build(emit(program, target), target, Path(folder))))
        weights = Path(folder) / "weights.bin"
        weights.write_bytes(WeightLayout(()).header())
        handle = ctypes.c_void_p()
        library.go_model_open(str(weights).encode(), 1, ctypes.byref(handle))
        outputs = [np.empty(p.type.dims, np.float32) for p in program.outputs]
        pointers = [
            (ctypes.c_void_p * len(a))(*(x.ctypes.data for x in a)) for a in (inputs, outputs)
        ]
        library.go_model_run.argtypes = [ctypes.c_void_p] * 3
        library.go_model_close.argtypes = [ctypes.c_void_p]
        times = []
        for _ in range(_REPEATS):
            start = perf_counter_ns()
            library.go_model_run(handle, *pointers)
            times.append(perf_counter_ns() - start)
        library.go_model_close(handle)
    return max(1, min(times))


def _program(kernel: Kernel) -> Program:
    ports = {b.name: Port(b.name, TensorType(b.dtype, b.shape)) for b in kernel.params}
    x, out = kernel.params
    call = KernelCall(kernel.name, (Arg(Space.INPUT), Arg(Space.OUTPUT)), ())
    return Program((kernel,), (call,), (), (ports[x.name],), (ports[out.name],), 0, 0, 0)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("model name", "CPU part"))), "")
