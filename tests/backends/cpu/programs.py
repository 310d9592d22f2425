"""Hand-made programs, and running them: what the tests of the C emitter share."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from graphopt_backends.cpu.build import build
from graphopt_backends.cpu.emit import emit

from graphopt.artifact.layout import WeightLayout
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Expr,
    For,
    Kernel,
    LoopKind,
    Ramp,
    Store,
    binary,
    index_const,
    index_var,
    load,
)
from graphopt.program import Arg, KernelCall, Port, Program, Space
from graphopt.target import Target


def program_of(*kernels: Kernel, states: tuple[tuple[int, int], ...] = ()) -> Program:
    """One call of each kernel: parameters it does not write are the program's inputs, common to
    all; those it writes are outputs of the program, one kernel's after the other's."""
    calls, inputs, outputs = [], {}, []
    for kernel in kernels:
        args = []
        for buffer in kernel.params:
            port = Port(buffer.name, TensorType(buffer.dtype, buffer.shape))
            if buffer.name in kernel.outputs:
                args.append(Arg(Space.OUTPUT, len(outputs)))
                outputs.append(port)
            else:
                inputs.setdefault(buffer.name, port)
                args.append(Arg(Space.INPUT, list(inputs).index(buffer.name)))
        calls.append(KernelCall(kernel.name, tuple(args), (), flops=10**9))
    return Program(
        kernels, tuple(calls), (), tuple(inputs.values()), tuple(outputs), 0, 0, 0, states
    )


class Running:
    """A built program, opened. Weights are packed into a file beside it."""

    def __init__(self, program: Program, target: Target, folder: Path, threads: int = 1) -> None:
        self.program = program
        self.library = ctypes.CDLL(str(build(emit(program, target), target, folder)))
        self.weights = folder / "weights.bin"
        write_weights(program, self.weights)
        for name in ("run", "profile", "close", "set_parallel_for"):
            function = getattr(self.library, f"go_model_{name}")
            function.argtypes = [ctypes.c_void_p] * (4 if name == "profile" else 3)
        self.handle = ctypes.c_void_p()
        path = str(self.weights).encode()
        self.code = self.library.go_model_open(path, threads, ctypes.byref(self.handle))

    def __call__(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = [np.full(p.type.dims, 7, p.type.dtype.numpy) for p in self.program.outputs]
        ins, outs = pointers(arrays), pointers(outputs)
        assert self.library.go_model_run(self.handle, ins, outs) == 0
        return tuple(outputs)


def pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    assert all(a.flags.c_contiguous for a in arrays)
    return (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))


def write_weights(program: Program, path: Path) -> None:
    layout = WeightLayout(program.weights)
    content = bytearray(layout.size_bytes)
    content[:64] = layout.header()
    for weight, offset in zip(program.weights, layout.offsets, strict=True):
        content[offset : offset + weight.size_bytes] = weight.pack().tobytes()
    path.write_bytes(content)


def elementwise(
    name: str, fn: object, inputs: Sequence[DType], output: DType, lanes: int, n: int
) -> Kernel:
    """out[i] = fn(a[i], b[i], ...) in vectors of `lanes`."""
    buffers = [Buffer.dense(f"in{i}", d, (n,)) for i, d in enumerate(inputs)]
    out = Buffer.dense("out", output, (n,))
    x = binary("*", index_var("x"), index_const(lanes))
    at: Expr = Ramp(INDEX, lanes, x, 1) if lanes > 1 else x
    value = fn(*(load(b, at) for b in buffers))  # type: ignore[operator]
    body = For("x", n // lanes, Store(out, (at,), value), LoopKind.PARALLEL)
    return Kernel(f"go_{name}", (*buffers, out), ("out",), body)
