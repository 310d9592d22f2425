"""A small program with a weight, written by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from graphopt_backends.cpu.backend import CpuBackend
from graphopt_backends.cpu.emit import emit
from graphopt_backends.cpu.targets import host

from graphopt.artifact.writer import write
from graphopt.ir.graph import Loc
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
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
from graphopt.program import Arg, CallResult, KernelCall, Port, Program, Space, Weight

ROWS, COLUMNS = 8, 16
BIAS = np.arange(COLUMNS, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Compiled:
    program: Program
    sources: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Options:
    cc: str | None = None
    emit_source: bool = False
    prefix: str = "go_model"
    static: bool = False


def add_bias(dtype: DType = DType.F32, padding: int = 0) -> Program:
    """y = x + bias. `padding`: bytes of a second weight that nothing reads."""
    shape = (ROWS, COLUMNS)
    x, y = Buffer.dense("x", dtype, shape), Buffer.dense("y", dtype, shape)
    bias = Buffer.dense("bias", dtype, (COLUMNS,))
    row, lane = index_var("row"), Ramp(INDEX, COLUMNS, index_const(0), 1)
    store = Store(y, (row, lane), binary("+", load(x, row, lane), load(bias, lane)))
    kernel = Kernel("go_add_bias", (x, bias, y), ("y",), For("row", ROWS, store, LoopKind.PARALLEL))
    args = (Arg(Space.INPUT), Arg(Space.WEIGHT), Arg(Space.OUTPUT))
    port = TensorType(dtype, shape)
    call = KernelCall(
        kernel.name, args, (Loc("head", "model.py:7"),), ROWS * COLUMNS, 1024,
        (CallResult("sum", port),), ("x",),
    )  # fmt: skip
    values = BIAS.astype(dtype.numpy)
    weights = [Weight("bias", values.nbytes, lambda: values)]
    if padding:
        weights.append(Weight("padding", padding, lambda: np.zeros(padding, np.int8)))
    return Program(
        (kernel,), (call,), tuple(weights), (Port("x", port),), (Port("y", port),), 0, 0, 0
    )


def write_program(program: Program, folder: Path, **more: object) -> Path:
    compiled = Compiled(program, emit(program, host()))
    return write(folder, compiled, CpuBackend(), host(), **more)  # type: ignore[arg-type]
