"""Tensors as a library sees them: matrices whose rows lie a leading dimension apart, and stacks of
those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir.types import TensorType

Axis = tuple[int, int]
"""(extent, elements between neighbours)."""


@dataclass(frozen=True)
class Matrices:
    """`batch` matrices of rows x columns, rows `ld` elements apart and matrices `step`."""

    batch: int
    rows: int
    columns: int
    ld: int
    step: int


def matrices(type: TensorType, rows: Sequence[int]) -> Matrices | None:
    """A tensor whose last axis are columns, next to each other; `rows` are the axes of the rows,
    those before them of the batch. None where strides do not merge."""
    if type.offset or not type.numel:
        return None
    axes = list(zip(type.dims, type.strides, strict=True))
    columns, apart = axes[-1]
    if apart != 1 and columns > 1:
        return None
    m, batch = _merged([axes[i] for i in rows]), _merged(axes[: rows[0]] if rows else axes[:-1])
    if m is None or batch is None:
        return None
    ld = m[1] if m[0] > 1 else columns
    return Matrices(batch[0], m[0], columns, ld, batch[1]) if ld >= columns else None


def channels_last(type: TensorType) -> bool:
    """Whether [n, c, *spatial] lies dense as n, *spatial, c."""
    if type.offset:
        return False
    dims, step = type.dims, 1
    for axis in (1, *range(type.rank - 1, 1, -1), 0):
        if dims[axis] > 1 and type.strides[axis] != step:
            return False
        step *= dims[axis]
    return True


def _merged(axes: Sequence[Axis]) -> Axis | None:
    """One axis that walks over all of them; (1, 0) for none."""
    out: Axis = (1, 0)
    for extent, stride in axes:
        if extent == 1:
            continue
        if out[0] > 1 and out[1] != extent * stride:
            return None
        out = (out[0] * extent, stride)
    return out
