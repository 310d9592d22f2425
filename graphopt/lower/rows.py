"""What every reduction lowering starts from: the space it runs over, and what to keep of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import IDENTITY
from graphopt.lower.access import axis_groups

REDUCTIONS = {"sum": "+", "max": "max", "min": "min", "prod": "*", "any": "or", "all": "and"}
ACCUMULATE = {"add": "+", "mul": "*", "maximum": "max", "minimum": "min"}
"""How kernels accumulate what a scatter combines."""
DEAR = frozenset({"exp", "erf", "tanh", "log", "gelu", "sigmoid", "silu", "pow", "sin", "cos"})
"""Ops whose value is kept rather than computed again."""


@dataclass(frozen=True)
class RowDomain:
    """The iteration space: the shape that is reduced, its kept and its reduced axes, each in
    memory order, and the axis that vectors run along."""

    dims: tuple[int, ...]
    kept: tuple[int, ...]
    reduced: tuple[int, ...]
    vector: int

    @property
    def across(self) -> bool:
        """Vectors run along a kept axis: every lane is a row of its own."""
        return self.vector in self.kept


def row_domain(body: Graph, reductions: list[Node]) -> RowDomain:
    first = reductions[0]
    dims, axes = first.operands[0].type.dims, first.attrs.axes  # type: ignore[attr-defined]
    for other in reductions:
        same = other.attrs.axes == axes and other.operands[0].type.dims == dims  # type: ignore[attr-defined]
        if not same:
            raise UnsupportedError(f"{other.op.name} at {other.loc} reduces another space")
    order = _order(body, dims)
    long = [a for a in order if dims[a] > 1]
    vector = long[-1] if long else order[-1]
    return RowDomain(
        dims,
        tuple(a for a in order if a not in axes),
        tuple(a for a in order if a in axes),
        vector,
    )


def _order(body: Graph, dims: tuple[int, ...]) -> tuple[int, ...]:
    """Memory order of the reduced shape: that of the first input or result of this shape, or of
    one whose axes are split to give it (the groups of a group norm)."""
    for value in (*body.inputs, *body.outputs):
        if value.type.dims == dims:
            return value.type.order
    for value in (*body.inputs, *body.outputs):
        if value.type.numel == math.prod(dims):
            strides = _split_strides(value.type, dims)
            if strides is not None:
                return tuple(sorted(range(len(dims)), key=lambda a: -strides[a]))
    return tuple(range(len(dims)))


def _split_strides(type: TensorType, dims: tuple[int, ...]) -> list[int] | None:
    """Strides of a tensor seen with some axes split in two or more."""
    out: list[int] = []
    for old, new in axis_groups(type.dims, dims):
        if len(old) != 1:
            return None
        parts = [dims[a] for a in new]
        out.extend(type.strides[old[0]] * math.prod(parts[i + 1 :]) for i in range(len(parts)))
    return out


def identity(op: str, dtype: DType) -> float | int | bool:
    """What a reduction starts from."""
    value = IDENTITY[op]
    if dtype is DType.BOOL:
        return bool(value)
    if dtype.is_float:
        return float(value)
    if op in ("min", "max"):
        info = np.iinfo(dtype.numpy)
        return int(info.max if op == "min" else info.min)
    return int(value)


def behind(x: Value, known: Mapping[Value, object]) -> list[Value]:
    """Values that `x` is computed from, itself included, up to those that lie somewhere."""
    if x in known or x.producer is None:
        return []
    out = [v for o in x.producer.operands for v in behind(o, known)]
    return [*dict.fromkeys([*out, x])]
