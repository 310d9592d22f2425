"""Sources: values with no operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.errors import InternalError, IRError
from graphopt.ir.types import DType, TensorType
from graphopt.ops.base import Attrs, OpDef


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


def _constant_reference(_: ConstantAttrs) -> np.ndarray:
    raise InternalError("a constant's value is in Graph.constants")


def _full(a: FullAttrs) -> np.ndarray:
    return np.full(a.shape, a.value, a.dtype.numpy)


def _iota_infer(a: IotaAttrs) -> TensorType:
    if a.size < 0:
        raise IRError(f"iota: size {a.size} is negative", hint="give a size of at least 0")
    return TensorType(a.dtype, (a.size,))


def _iota(a: IotaAttrs) -> np.ndarray:
    return (np.arange(a.size) * a.step + a.start).astype(a.dtype.numpy)


CONSTANT = OpDef("constant", ConstantAttrs, _constant_infer, _constant_reference, kind="source")
FULL = OpDef("full", FullAttrs, lambda a: TensorType(a.dtype, a.shape), _full, kind="source")
IOTA = OpDef("iota", IotaAttrs, _iota_infer, _iota, kind="source")
OPS = (CONSTANT, FULL, IOTA)
