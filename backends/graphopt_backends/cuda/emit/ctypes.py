"""C++ spellings of kernel IR types and constants."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.types import DType

MEMORY: dict[DType, str] = {
    DType.F64: "double",
    DType.F32: "float",
    DType.F16: "go::f16",
    DType.BF16: "go::bf16",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.I16: "int16_t",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.BOOL: "uint8_t",
}
"""What one element is in memory."""

HALF = frozenset({DType.F16, DType.BF16})
NARROW = frozenset({DType.I8, DType.I16, DType.U8})
"""Computed as int and cut to size after every operation."""


def register(dtype: DType) -> str:
    """What one element is in a variable: halves are floats, rounded after every operation."""
    if dtype in HALF:
        return "float"
    return "bool" if dtype is DType.BOOL else MEMORY[dtype]


def value_type(dtype: DType, lanes: int) -> str:
    """The type of a value in a variable."""
    return register(dtype) if lanes == 1 else f"go::vec<{register(dtype)}, {lanes}>"


def literal(value: float | int | bool, dtype: DType) -> str:
    """A scalar constant of the register type."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if not dtype.is_float:
        return integer(int(value), dtype)
    if math.isnan(value):
        return "NAN" if dtype is not DType.F64 else "(double)NAN"
    with np.errstate(over="ignore"):
        rounded = float(dtype.numpy.type(value))
    if math.isinf(rounded):
        infinity = "INFINITY" if dtype is not DType.F64 else "(double)INFINITY"
        return infinity if rounded > 0 else f"-{infinity}"
    if dtype is DType.F64:
        return _decimal(repr(rounded))
    return _decimal(str(np.float32(rounded))) + "f"


def integer(value: int, dtype: DType) -> str:
    if value == -(2**63):
        return "INT64_MIN"
    if value == -(2**31):
        return "INT32_MIN"
    return f"INT64_C({value})" if dtype is DType.I64 and abs(value) >= 2**31 else str(value)


def _decimal(text: str) -> str:
    return text if any(c in text for c in ".e") else text + ".0"
