"""ATen's tensors out of nothing, and dtype conversions."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.frontend.builder import Builder, Mapping, Number, UnsupportedFormError
from graphopt.ir.graph import Value
from graphopt.ir.types import DType


def filled(value: Number) -> Mapping:
    """zeros, ones, ..., also `_like` and `new_`: torch recorded dtype and shape."""
    return lambda b, *_, **__: b.full(value, b.type.dtype, b.type.dims)


def full(b: Builder, _: object, value: Number | Value, **__: object) -> Value:
    if isinstance(value, Value):
        return b.expand(b.cast(value, b.type.dtype), b.type.dims)
    return b.full(value, b.type.dtype, b.type.dims)


def new_full(
    b: Builder, _: Value, size: Sequence[int], value: Number | Value, **__: object
) -> Value:
    return full(b, size, value)


def scalar_tensor(b: Builder, value: Number, **_: object) -> Value:
    return b.full(value, b.type.dtype)


def arange(b: Builder, start: Number, end: Number, step: Number = 1, **_: object) -> Value:
    return b.iota(start, step, b.type.dims[0], b.type.dtype)


def arange_end(b: Builder, end: Number, **_: object) -> Value:
    return b.iota(0, 1, b.type.dims[0], b.type.dtype)


def eye(b: Builder, *_: object, **__: object) -> Value:
    rows, columns = b.type.dims
    down = b.reshape(b.iota(0, 1, rows, DType.I64), (rows, 1))
    return b.cast(b.emit("eq", down, b.iota(0, 1, columns, DType.I64)), b.type.dtype)


def convert(b: Builder, x: Value, *_: object, **__: object) -> Value:
    """to, _to_copy, type_as, copy, clone, ...: at most the dtype changes."""
    return b.cast(x, b.type.dtype)


def dropout(b: Builder, x: Value, p: float, train: bool | None = True) -> Value:
    """Nothing drops in eval mode; F.dropout drops in any mode unless it is told."""
    if train and p:
        raise UnsupportedFormError("dropout in training: pass training=self.training")
    return convert(b, x)


def copy(b: Builder, x: Value, source: Value, *_: object) -> Value:
    return b.expand(b.cast(source, b.type.dtype), b.type.dims)


def fill(b: Builder, x: Value, value: Number | Value) -> Value:
    return full(b, None, value)


_ZEROS = """
zeros zeros_like new_zeros zero empty empty_like new_empty empty_permuted new_empty_strided
empty_strided
"""
_ONES = "ones ones_like new_ones"
_OVERLOADS = ("default", "memory_format")
_CONVERSIONS = """
_to_copy.default to.dtype to.dtype_layout to.device to.other type_as.default alias.default
clone.default contiguous.default detach.default detach_.default lift.default lift_fresh.default
lift_fresh_copy.default
_conj.default resolve_conj.default resolve_neg.default positive.default
"""

CREATION: dict[str, Mapping] = {
    "aten.full.default": full,
    "aten.full_like.default": full,
    "aten.new_full.default": new_full,
    "aten.fill.Scalar": fill,
    "aten.fill.Tensor": fill,
    "aten.scalar_tensor.default": scalar_tensor,
    "aten.arange.default": arange_end,
    "aten.arange.start": arange,
    "aten.arange.start_step": arange,
    "aten.eye.default": eye,
    "aten.eye.m": eye,
    **{f"aten.{name}.{o}": filled(0) for name in _ZEROS.split() for o in _OVERLOADS},
    **{f"aten.{name}.{o}": filled(1) for name in _ONES.split() for o in _OVERLOADS},
    **{f"aten.{name}": convert for name in _CONVERSIONS.split()},
    **{f"aten.{name}dropout.default": dropout for name in ("", "feature_", "alpha_")},
    "aten.native_dropout.default": lambda b, *args: (dropout(b, *args), None),
    "aten.copy.default": copy,
}
