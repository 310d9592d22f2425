"""Sources: values with no operands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.errors import InternalError, IRError
from graphopt.ir.types import DType, TensorType
from graphopt.ops.base import Attrs
from graphopt.ops.define import define


@dataclass(frozen=True)
class ConstantAttrs(Attrs):
    """`key` names the array in `Graph.constants`."""

    key: str


@dataclass(frozen=True)
class FullAttrs(Attrs):
    """A tensor of one value."""

    value: float
    shape: tuple[int, ...]
    dtype: DType


@dataclass(frozen=True)
class IotaAttrs(Attrs):
    """start, start + step, ...: `size` values."""

    start: float
    step: float
    size: int
    dtype: DType


def _constant_infer(_: ConstantAttrs) -> TensorType:
    raise InternalError("a constant's type is that of its array")


def _constant(_: ConstantAttrs) -> np.ndarray:
    raise InternalError("a constant's value is in Graph.constants")


def _full_infer(a: FullAttrs) -> TensorType:
    if min(a.shape, default=0) < 0:
        raise IRError(f"full: shape {list(a.shape)} is negative", hint="give extents of at least 0")
    if not a.dtype.is_float and not math.isfinite(a.value):
        raise IRError(f"full: {a.dtype} has no {a.value}", hint="use a float dtype")
    return TensorType(a.dtype, a.shape)


def _full(a: FullAttrs) -> np.ndarray:
    return np.full(a.shape, a.value if a.dtype.is_float else int(a.value), a.dtype.numpy)


def _iota_infer(a: IotaAttrs) -> TensorType:
    if a.size < 0:
        raise IRError(f"iota: size {a.size} is negative", hint="give a size of at least 0")
    return TensorType(a.dtype, (a.size,))


def _iota(a: IotaAttrs) -> np.ndarray:
    if a.dtype.is_float:
        return (a.start + np.arange(a.size, dtype=np.float64) * a.step).astype(a.dtype.numpy)
    return (int(a.start) + np.arange(a.size, dtype=np.int64) * int(a.step)).astype(a.dtype.numpy)


CONSTANT = define("constant", ConstantAttrs, _constant_infer, _constant, kind="source", operands=0)
FULL = define("full", FullAttrs, _full_infer, _full, kind="source", operands=0)
IOTA = define("iota", IotaAttrs, _iota_infer, _iota, kind="source", operands=0)
OPS = (CONSTANT, FULL, IOTA)
