"""Where the interpreter keeps values: rows of iterations that run at once, memories, types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.types import DType
from graphopt.kernel.ir import Buffer

Value = Any
"""A scalar i64 that is the same in all rows is an int, a scalar bool a bool; everything else is an
array [rows or 1, lanes or 1]."""

HALVES = frozenset({DType.F16, DType.BF16})


class Frame:
    """Iterations that run at once, one per row. `rows[i]` is the row of the surrounding frame to
    which row i belongs."""

    def __init__(self, size: int, parent: Frame | None = None, rows: np.ndarray | None = None):
        self.size, self.parent, self.rows = size, parent, rows
        self._rows_in: dict[int, np.ndarray] = {}

    def rows_in(self, other: Frame) -> np.ndarray:
        """The row of a surrounding frame (or of this one) to which each row belongs."""
        known = self._rows_in.get(id(other))
        if known is None:
            known = np.arange(self.size) if other is self else self._through_parent(other)
            self._rows_in[id(other)] = known
        return known

    def _through_parent(self, other: Frame) -> np.ndarray:
        assert self.parent is not None
        assert self.rows is not None
        return np.take(self.parent.rows_in(other), self.rows)


@dataclass(frozen=True)
class Memory:
    """A buffer's elements [rows of its frame, size]."""

    array: np.ndarray
    frame: Frame


class State:
    """A running kernel: what every slot of its names and buffers holds."""

    def __init__(self, slots: int) -> None:
        self.frame = Frame(1)
        self.values: list[tuple[Value, Frame]] = [(0, self.frame)] * slots
        self.memory: list[Memory] = [Memory(np.zeros((1, 0)), self.frame)] * slots
        self.shared: list[Value] = []

    def value(self, slot: int) -> Value:
        """A name's value in the rows of the current frame."""
        value, frame = self.values[slot]
        if frame is self.frame or not isinstance(value, np.ndarray) or value.shape[0] == 1:
            return value
        return value[self.frame.rows_in(frame)]


class Types:
    """dtypes at run time. With `precision`, every float type is that one."""

    def __init__(self, precision: np.dtype | None) -> None:
        self.precision = precision

    def memory(self, dtype: DType) -> np.dtype:
        """Of elements in memory."""
        return self.precision if self.precision and dtype.is_float else dtype.numpy

    def register(self, dtype: DType) -> np.dtype:
        """Of values: halves are computed as float32 and rounded after every operation."""
        if self.precision and dtype.is_float:
            return self.precision
        return np.dtype(np.float32) if dtype in HALVES else dtype.numpy

    def rounds(self, dtype: DType) -> bool:
        return dtype in HALVES and self.precision is None

    def poisoned(self, dtype: DType, rows: int, size: int) -> np.ndarray:
        kind = self.memory(dtype)
        if dtype.is_float:
            return np.full((rows, size), np.nan, kind)
        if dtype is DType.BOOL:
            return np.ones((rows, size), kind)
        element = np.frombuffer(b"\xa5" * kind.itemsize, kind)
        return np.full((rows, size), element[0], kind)


def size_of(b: Buffer) -> int:
    """Elements from a buffer's pointer to its last one, halo included; at least 1."""
    last = b.offset
    for axis, stride in enumerate(b.strides):
        low, high = b.bounds(axis)
        last += max(low * stride, (high - 1) * stride)
    return max(last + 1, 1)
