"""What an ATen mapping writes with: the graph being built, and what torch recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.ir.graph import NOWHERE, Loc, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import (
    Attrs,
    CastAttrs,
    ConcatAttrs,
    ExpandAttrs,
    FullAttrs,
    GatherAttrs,
    IotaAttrs,
    ReshapeAttrs,
    SliceAttrs,
    TransposeAttrs,
)
from graphopt.rewrite import Rewriter

Number = int | float | bool
Operand = Value | Number
"""A tensor, or a Python number that broadcasts and promotes as torch's do."""


class UnsupportedFormError(Exception):
    """An operator is known but not with these arguments; the importer collects the reasons."""


class DataDependentError(GraphoptError):
    """A shape or a branch depends on tensor values."""


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis; a scalar has the one axis 0, as in torch."""
    return axis + max(rank, 1) if axis < 0 else axis


def axes_of(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Non-negative axes in ascending order; None and [] mean all. A scalar has none."""
    if rank == 0:
        return ()
    if isinstance(axes, int):
        axes = (axes,)
    return tuple(sorted(axis_of(a, rank) for a in axes)) if axes else tuple(range(rank))


def per_axis(value: int | Sequence[int], count: int) -> tuple[int, ...]:
    """One entry per spatial axis from torch's `int`, `[int]` or `[int, ...]`."""
    entries = (value,) if isinstance(value, int) else tuple(value)
    return entries * count if len(entries) == 1 else entries


class Builder:
    """Emits graph nodes for the ATen node at hand.

    loc: its provenance. types: dtype and shape of its results as torch recorded them (one per
    result; empty when it is no tensor). first: its first operand as torch recorded it, with the
    strides that it has there; None when that is no tensor.
    """

    def __init__(self, rewriter: Rewriter) -> None:
        self.rewriter = rewriter
        self.loc: Loc = NOWHERE
        self.types: tuple[TensorType, ...] = ()
        self.first: Any = None

    @property
    def type(self) -> TensorType:
        """The recorded type of the (first) result."""
        return self.types[0]

    # Any op ------------------------------------------------------------------------------------

    def emit(self, op: str, *operands: Value, attrs: Attrs | None = None) -> Value:
        return self.rewriter.emit(op, *operands, attrs=attrs, loc=self.loc)

    def emit_all(self, op: str, *operands: Value, attrs: Attrs | None = None) -> tuple[Value, ...]:
        return self.rewriter.insert(op, operands, attrs, loc=self.loc).results

    # Sources and dtypes ------------------------------------------------------------------------

    def full(self, value: Number, dtype: DType, shape: Sequence[int] = ()) -> Value:
        """A tensor of one value, a constant where float64 cannot hold the value (large i64)."""
        if dtype is DType.BOOL:
            value = bool(value)
        elif dtype.is_integer and math.isfinite(value):
            value = int(value)
            if int(float(value)) != value:
                return self.constant(np.full(tuple(shape), value, dtype.numpy))
        return self.emit("full", attrs=FullAttrs(float(value), tuple(shape), dtype))

    def iota(self, start: Number, step: Number, size: int, dtype: DType) -> Value:
        return self.emit("iota", attrs=IotaAttrs(float(start), float(step), size, dtype))

    def constant(self, array: np.ndarray, name: str = "const") -> Value:
        return self.rewriter.constant(np.ascontiguousarray(array), name=name, loc=self.loc)

    def indices(self, array: np.ndarray) -> Value:
        """A constant of positions."""
        return self.constant(array.astype(np.int64), "indices")

    def cast(self, x: Value, dtype: DType) -> Value:
        return x if x.type.dtype is dtype else self.emit("cast", x, attrs=CastAttrs(dtype))

    def operand(self, x: Operand, dtype: DType) -> Value:
        """A tensor or number as an operand of the given dtype."""
        return self.cast(x, dtype) if isinstance(x, Value) else self.full(x, dtype)

    def truth(self, x: Value) -> Value:
        """x != 0 as bool."""
        if x.type.dtype is DType.BOOL:
            return x
        return self.emit("ne", x, self.full(0, x.type.dtype))

    # Movement, left out where it would change nothing -------------------------------------------

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        shape = tuple(shape)
        return x if x.type.shape == shape else self.emit("reshape", x, attrs=ReshapeAttrs(shape))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        perm = tuple(perm)
        if perm == tuple(range(x.type.rank)):
            return x
        return self.emit("transpose", x, attrs=TransposeAttrs(perm))

    def move_axis(self, x: Value, source: int, target: int) -> Value:
        perm = [i for i in range(x.type.rank) if i != source]
        perm.insert(target, source)
        return self.transpose(x, perm)

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        shape = tuple(shape)
        return x if x.type.shape == shape else self.emit("expand", x, attrs=ExpandAttrs(shape))

    def slice(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """x[..., start:stop:step, ...] with Python's clamping and negative positions."""
        dims = x.type.dims
        start, stop, _ = slice(start, stop).indices(dims[axis])
        stop = max(start, stop)
        if (start, stop, step) == (0, dims[axis], 1):
            return x
        starts, stops, steps = [0] * len(dims), list(dims), [1] * len(dims)
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return self.emit("slice", x, attrs=SliceAttrs(tuple(starts), tuple(stops), tuple(steps)))

    def select(self, x: Value, axis: int, index: int) -> Value:
        """x[..., index, ...]: the axis goes."""
        dims = x.type.dims
        index += dims[axis] if index < 0 else 0
        piece = self.slice(x, axis, index, index + 1)
        return self.reshape(piece, dims[:axis] + dims[axis + 1 :])

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        return xs[0] if len(xs) == 1 else self.emit("concat", *xs, attrs=ConcatAttrs(axis))

    def unsqueeze(self, x: Value, axis: int) -> Value:
        dims = x.type.dims
        return self.reshape(x, (*dims[:axis], 1, *dims[axis:]))

    def gather(self, x: Value, indices: Value, axis: int) -> Value:
        return self.emit("gather", x, indices, attrs=GatherAttrs(axis))

    def take_flat(self, x: Value, positions: np.ndarray) -> Value:
        """Elements of x, counted row-major, at constant positions; the result has their shape."""
        return self.gather(self.reshape(x, (x.type.numel,)), self.indices(positions), 0)

    # Arithmetic on equal dtypes ----------------------------------------------------------------

    def add(self, x: Value, y: Operand) -> Value:
        return self.emit("add", x, self.operand(y, x.type.dtype))

    def sub(self, x: Value, y: Operand) -> Value:
        return self.emit("sub", x, self.operand(y, x.type.dtype))

    def mul(self, x: Value, y: Operand) -> Value:
        return self.emit("mul", x, self.operand(y, x.type.dtype))

    def div(self, x: Value, y: Operand) -> Value:
        return self.emit("div", x, self.operand(y, x.type.dtype))

    def where(self, condition: Value, x: Operand, y: Operand, dtype: DType) -> Value:
        return self.emit("where", condition, self.operand(x, dtype), self.operand(y, dtype))


Mapping = Any
"""`f(builder, *args, **kwargs)`: an ATen operator's own arguments, tensors given as Values; returns
a Value, or a tuple with None for results that nobody computes."""
