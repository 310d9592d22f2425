"""Kernels on the machine and in the interpreter: what the tests of kernel IR share."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from graphopt_backends.cpu.build import build
from graphopt_backends.cpu.emit import emit_kernel, parallel_extent, scratch_bytes
from graphopt_backends.cpu.targets import host

from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    Buffer,
    Expr,
    For,
    Kernel,
    Ramp,
    Store,
    binary,
    index_const,
    index_var,
    load,
)
from graphopt.target import Target

Arrays = Mapping[str, np.ndarray]

_EXPORTED = "#pragma GCC visibility push(default)\n"


class Machine:
    """Kernels compiled into one library."""

    def __init__(
        self, kernels: Sequence[Kernel], folder: Path, target: Target | None = None
    ) -> None:
        target = target or host()
        self.kernels = tuple(kernels)
        sources = {
            f"k{i}.c": _EXPORTED + emit_kernel(dataclasses.replace(k, name=f"k{i}"), target)
            for i, k in enumerate(kernels)
        }
        folder.mkdir(exist_ok=True)
        self.library = ctypes.CDLL(str(build(sources, target, folder / "kernels.so")))

    def run(self, i: int, arrays: Arrays) -> dict[str, np.ndarray]:
        """Outputs of kernel i; memory that it does not write holds 0x7f.."""
        kernel = self.kernels[i]
        memory = {p.name: _memory(p, arrays.get(p.name)) for p in kernel.params}
        scratch = np.full(scratch_bytes(kernel) + 128, 0x7F, np.uint8)
        pointers = [m.ctypes.data_as(ctypes.c_void_p) for m in memory.values()]
        pointers.append(ctypes.c_void_p((scratch.ctypes.data + 63) & ~63))
        extent = parallel_extent(kernel)
        getattr(self.library, f"k{i}")(*pointers, ctypes.c_int64(0), ctypes.c_int64(extent))
        return {name: memory[name] for name in kernel.outputs}


def _memory(b: Buffer, array: np.ndarray | None) -> np.ndarray:
    if array is not None:
        return np.ascontiguousarray(array).copy()
    content = np.frombuffer(b"\x7f" * max(b.numel, 1) * b.dtype.size_bytes, b.dtype.numpy)
    return content.copy().reshape(b.shape)


def elementwise(fn: object, inputs: Sequence[DType], output: DType, lanes: int, n: int) -> Kernel:
    """out[i] = fn(in0[i], in1[i], ...) in vectors of `lanes`."""
    buffers = [Buffer.dense(f"in{i}", d, (n,)) for i, d in enumerate(inputs)]
    out = Buffer.dense("out", output, (n,))
    x = binary("*", index_var("x"), index_const(lanes))
    at: Expr = Ramp(x.dtype, lanes, x, 1) if lanes > 1 else x
    value = fn(*(load(b, at) for b in buffers))  # type: ignore[operator]
    body = For("x", n // lanes, Store(out, (at,), value))
    return Kernel("elementwise", (*buffers, out), ("out",), body)


def same(a: Arrays, b: Arrays) -> None:
    """Equal bits, NaN where NaN is."""
    assert a.keys() == b.keys()
    for name in a:
        x, y = (
            v.astype(np.float32) if v.dtype.name == "bfloat16" else v for v in (a[name], b[name])
        )
        np.testing.assert_array_equal(x.ravel(), y.ravel(), err_msg=name)
