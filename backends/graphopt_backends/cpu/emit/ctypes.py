"""C spellings of kernel IR types and constants."""

from __future__ import annotations

import math

import numpy as np

from graphopt.errors import InternalError
from graphopt.ir.types import DType

C_TYPE: dict[DType, str] = {
    DType.F64: "double",
    DType.F32: "float",
    DType.F16: "int16_t",
    DType.BF16: "int16_t",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.I16: "int16_t",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.BOOL: "uint8_t",
}
"""What one element is in memory."""

HALF = frozenset({DType.F16, DType.BF16})
"""Stored as 16 bits, computed in f32 and rounded after every operation."""

INTEGER_OF_SIZE = {1: DType.I8, 2: DType.I16, 4: DType.I32, 8: DType.I64}


def register_dtype(dtype: DType) -> DType:
    """The dtype that holds such a value in a variable: halves are f32, booleans 32-bit."""
    if dtype in HALF:
        return DType.F32
    return DType.I32 if dtype is DType.BOOL else dtype


def register_lanes(lanes: int) -> int:
    """Of the register that a vector of so many lanes lies in: a power of two."""
    return 1 << (lanes - 1).bit_length()


def memory_dtype(dtype: DType) -> DType:
    """The dtype whose vectors hold such elements in memory; bits only."""
    if dtype in HALF:
        return DType.I16
    return DType.U8 if dtype is DType.BOOL else dtype


def mask_dtype(dtype: DType) -> DType:
    """Integers of a dtype's width: what comparing its vectors gives."""
    return INTEGER_OF_SIZE[register_dtype(dtype).size_bytes]


def literal(value: float | int | bool, dtype: DType) -> str:
    """A scalar constant as a C99 expression of the register dtype."""
    if dtype is DType.BOOL:
        return "1" if value else "0"
    if not dtype.is_float:
        return _integer(int(value), dtype)
    return _double(float(value)) if dtype is DType.F64 else _single(float(value), dtype)


def _integer(value: int, dtype: DType) -> str:
    bits = 8 * dtype.size_bytes
    low, high = (0, 2**bits) if dtype is DType.U8 else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if not low <= value < high:
        raise InternalError(f"constant {value} does not fit {dtype}")
    if value == -(2**63):
        return "(-INT64_C(9223372036854775807) - 1)"
    if value == -(2**31):
        return "(-2147483647 - 1)"
    return f"INT64_C({value})" if dtype is DType.I64 and abs(value) >= 2**31 else str(value)


def _single(value: float, dtype: DType) -> str:
    if math.isnan(value):
        return "(0.0f / 0.0f)"
    with np.errstate(over="ignore"):
        rounded = np.float32(dtype.numpy.type(value))
    if math.isinf(rounded):
        return "(1.0f / 0.0f)" if rounded > 0 else "(-1.0f / 0.0f)"
    return _decimal(str(rounded)) + "f"


def _double(value: float) -> str:
    if math.isnan(value):
        return "(0.0 / 0.0)"
    if math.isinf(value):
        return "(1.0 / 0.0)" if value > 0 else "(-1.0 / 0.0)"
    return _decimal(repr(value))


def _decimal(text: str) -> str:
    return text if any(c in text for c in ".e") else text + ".0"
