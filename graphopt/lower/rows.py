"""What every reduction lowering starts from: the space it runs over, and what to keep of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType
from graphopt.kernel.ir import IDENTITY, Broadcast, Expr
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
    order = _order(body, first.operands[0])
    long = [a for a in order if dims[a] > 1]
    vector = long[-1] if long else order[-1]
    return RowDomain(
        dims,
        tuple(a for a in order if a not in axes),
        tuple(a for a in order if a in axes),
        vector,
    )


def in_place(body: Graph, reductions: list[Node]) -> set[Value]:
    """Values of the space that is reduced, or as large, of which an element is read where the
    element of its place in the row is computed and nowhere else: what a row may be kept of."""
    space = reductions[0].operands[0].type.numel
    users: dict[Value, list[Node]] = {}
    for node in body.nodes:
        for operand in node.operands:
            users.setdefault(operand, []).append(node)
    out: set[Value] = set()
    values = [*body.inputs, *(r for n in body.nodes for r in n.results)]
    for value in reversed(values):
        if value.type.numel == space and all(
            n in reductions or (_stays(n) and n.result in out) for n in users.get(value, ())
        ):
            out.add(value)
    return out


def _stays(node: Node) -> bool:
    return node.op.kind == "pointwise" or node.op.name == "reshape"


def row_only(node: Node, index: Sequence[Expr], row: Sequence[Expr]) -> None:
    """A kernel knows what `node` reduces for the row that it is at. Raises: UnsupportedError for
    an index that is another."""
    if [i.a if isinstance(i, Broadcast) else i for i in index] != list(row):
        raise UnsupportedError(
            f"{node.op.name} at {node.loc} is read for another row than the one it is computed in",
            hint="report this: the fusion pass put what reads it into the same region",
        )


def _order(body: Graph, x: Value) -> tuple[int, ...]:
    """Memory order of the axes of what is reduced: as what it is read from lies, or else the first
    input or result of its shape, or of one whose axes are split to give it (the groups of a group
    norm)."""
    dims = x.type.dims
    if (read := _strides(x)) is not None:
        return _by_strides(read)
    for value in (*body.inputs, *body.outputs):
        if value.type.dims == dims:
            return value.type.order
    for value in (*body.inputs, *body.outputs):
        if value.type.numel == math.prod(dims):
            strides = _split(value.type.dims, value.type.strides, dims)
            if strides is not None:
                return _by_strides(strides)
    return tuple(range(len(dims)))


def _strides(x: Value) -> Sequence[int] | None:
    """How far apart neighbours along each axis of `x` lie, in the first input that is as large and
    that it is read from through pointwise ops, transposes and reshapes."""
    node = x.producer
    if node is None:
        return x.type.strides
    if node.op.kind == "pointwise":
        whole = (_strides(o) for o in node.operands if o.type.dims == x.type.dims)
        return next((s for s in whole if s is not None), None)
    if node.op.name not in ("transpose", "reshape"):
        return None
    (source,) = node.operands
    strides = _strides(source)
    if strides is None:
        return None
    if node.op.name == "reshape":
        return _split(source.type.dims, strides, x.type.dims)
    return [strides[a] for a in node.attrs.perm]  # type: ignore[attr-defined]


def _by_strides(strides: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=lambda a: -strides[a]))


def _split(
    old_dims: Sequence[int], strides: Sequence[int], dims: Sequence[int]
) -> list[int] | None:
    """Strides of a tensor seen with some axes split in two or more."""
    out: list[int] = []
    for old, new in axis_groups(old_dims, dims):
        if len(old) != 1:
            return None
        parts = [dims[a] for a in new]
        out.extend(strides[old[0]] * math.prod(parts[i + 1 :]) for i in range(len(parts)))
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
