"""Hand-made programs for GPUs, and running them through the C interface, in emulation."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from graphopt_backends.cuda.build import build
from graphopt_backends.cuda.emit.model import emit
from graphopt_backends.cuda.targets import TARGETS

from graphopt.artifact.layout import WeightLayout
from graphopt.ir.graph import Loc
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import (
    Buffer,
    For,
    If,
    Kernel,
    LoopKind,
    Store,
    binary,
    index_const,
    index_var,
    load,
)
from graphopt.program import Arg, KernelCall, Port, Program, Space, Weight

EMULATED = TARGETS["emulated"]
N = 300
"""Elements: more than a block of threads, and no multiple of one."""

OK, BAD_ARGUMENT, NO_MEMORY, NO_FILE, WRONG_WEIGHTS, NO_DRIVER, NO_DEVICE, WRONG_DEVICE = range(8)
NO_LIBRARY, NOT_ON_DEVICE, CUDA = 8, 9, 10


def pointwise(name: str, op: str) -> Kernel:
    """out = a op b, of N floats."""
    a, b, out = (Buffer.dense(n, DType.F32, (N,)) for n in ("a", "b", "out"))
    i = binary("+", binary("*", index_var("block"), index_const(128)), index_var("t"))
    store = Store(out, (i,), binary(op, load(a, i), load(b, i)))
    guarded = If(binary("<", i, index_const(N)), store)
    body = For("block", -(-N // 128), For("t", 128, guarded, LoopKind.THREAD), LoopKind.BLOCK)
    return Kernel(name, (a, b, out), ("out",), body)


WEIGHTS = np.linspace(-1, 1, N, dtype=np.float32)


def scaled_sum() -> Program:
    """y = (x + w) * x: two calls, a weight, a value in the arena."""
    port = TensorType(DType.F32, (N,))
    x, y = Arg(Space.INPUT), Arg(Space.OUTPUT)
    w, middle = Arg(Space.WEIGHT), Arg(Space.ARENA, offset=256)
    calls = (
        KernelCall("go_add", (x, w, middle), (Loc("first", "model.py:1"),)),
        KernelCall("go_mul", (middle, x, y), (Loc("second", "model.py:2"),)),
    )
    weight = Weight("w", WEIGHTS.nbytes, lambda: WEIGHTS)
    size = 256 + 4 * N
    return Program(
        (pointwise("go_add", "+"), pointwise("go_mul", "*")),
        calls, (weight,), (Port("x", port),), (Port("y", port),), size, size, 0,
    )  # fmt: skip


def accumulated() -> Program:
    """state = state + x, in place."""
    port = TensorType(DType.F32, (N,))
    call = KernelCall(
        "go_add", (Arg(Space.INPUT), Arg(Space.INPUT, 1), Arg(Space.OUTPUT)), (Loc("sum"),)
    )
    inputs = (Port("state", port), Port("x", port))
    return Program(
        (pointwise("go_add", "+"),), (call,), (), inputs, (Port("state_out", port),), 0, 0, 0,
        ((0, 0),),
    )  # fmt: skip


class Machine(ctypes.Structure):
    """runtime/go_runtime_emulated.h."""

    _fields_ = [
        ("devices", ctypes.c_int),
        ("driver", ctypes.c_int),
        ("capability", ctypes.c_int),
        ("allocations_left", ctypes.c_int),
        ("strict_pointers", ctypes.c_int),
        ("capturing", ctypes.c_int),
        ("recordings", ctypes.c_int),
        ("live_bytes", ctypes.c_size_t),
        ("ranges", ctypes.c_int),
        ("open_ranges", ctypes.c_int),
    ]


class Library:
    """A program built for emulation, its weights beside it, and the machine that it meets."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.c = ctypes.CDLL(str(build(emit(program, EMULATED), EMULATED, folder)))
        self.weights = folder / "weights.bin"
        write_weights(program, self.weights)
        pointer = ctypes.c_void_p
        for name, arguments in {
            "open": [ctypes.c_char_p, ctypes.c_int, pointer],
            "open_again": [pointer, pointer],
            "run": [pointer] * 4,
            "profile": [pointer] * 5,
            "close": [pointer],
            "allocate": [pointer, ctypes.c_size_t, pointer],
            "free": [pointer, pointer],
            "workspace_bytes": [pointer],
        }.items():
            getattr(self.c, f"go_model_{name}").argtypes = arguments
        for name in ("error", "message", "call_name", "call_kernel"):
            getattr(self.c, f"go_model_{name}").restype = ctypes.c_char_p
        self.c.go_emulated_machine.restype = ctypes.POINTER(Machine)
        self.machine: Machine = self.c.go_emulated_machine().contents

    def open(self, device: int = 0, path: Path | None = None) -> tuple[int, ctypes.c_void_p]:
        handle = ctypes.c_void_p()
        given = str(path or self.weights).encode()
        return self.c.go_model_open(given, device, ctypes.byref(handle)), handle

    def opened(self) -> ctypes.c_void_p:
        code, handle = self.open()
        assert code == OK, self.message
        return handle

    def run(self, handle: Any, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> int:
        code: int = self.c.go_model_run(handle, pointers(inputs), pointers(outputs), None)
        return code

    @property
    def message(self) -> str:
        text: bytes = self.c.go_model_message()
        return text.decode()


def pointers(arrays: Sequence[np.ndarray | None]) -> ctypes.Array[ctypes.c_void_p]:
    addresses = (None if a is None else a.ctypes.data for a in arrays)
    return (ctypes.c_void_p * max(1, len(arrays)))(*addresses)


def write_weights(program: Program, path: Path) -> None:
    layout = WeightLayout(program.weights)
    content = bytearray(layout.size_bytes)
    content[:64] = layout.header()
    for weight, offset in zip(program.weights, layout.offsets, strict=True):
        content[offset : offset + weight.size_bytes] = weight.pack().tobytes()
    path.write_bytes(content)


def aligned(n: int = N) -> np.ndarray:
    """Floats at an address that is a multiple of 64."""
    memory = np.empty(4 * n + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + 4 * n].view(np.float32)
