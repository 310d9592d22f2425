"""A region's body as expressions: the value of any body value at any index.

Pointwise ops become arithmetic and movement ops become index arithmetic, so a region touches memory
only at its inputs, at its results, and where the lowering says a value is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.kernel.affine import simplify_index
from graphopt.kernel.ir import (
    INDEX,
    Expr,
    binary,
    cast,
    const,
    index_const,
    select,
)
from graphopt.lower.scalar import pointwise

Index = tuple[Expr, ...]
Source = Callable[[Index], Expr]
"""How a value kept somewhere (a buffer, an accumulator) is read at a logical index."""


class Access:
    """Reads a region's values. `sources` are the values that lie somewhere: inputs at first; a
    lowering adds those it keeps. `ranges` are loop extents, for index simplification."""

    def __init__(self, sources: Mapping[Value, Source]) -> None:
        self.sources = dict(sources)
        self.ranges: dict[str, int] = {}
        self._memo: dict[tuple[Value, Index], Expr] = {}

    def keep(self, value: Value, source: Source) -> None:
        """From now on read `value` from where it is kept instead of recomputing it."""
        self.sources[value] = source
        self._memo.clear()

    def drop(self, value: Value) -> None:
        """Recompute `value` again where it is read."""
        self.sources.pop(value, None)
        self._memo.clear()

    def at(self, value: Value, index: Index) -> Expr:
        """The element of `value` at a logical index (one expression per axis)."""
        index = tuple(
            index_const(0) if d == 1 else self.simplify(i)
            for i, d in zip(index, value.type.dims, strict=True)
        )
        key = (value, index)
        if key not in self._memo:
            source = self.sources.get(value)
            self._memo[key] = source(index) if source else self._compute(value, index)
        return self._memo[key]

    def broadcast_at(self, value: Value, index: Index) -> Expr:
        """As `at` for an index of a shape that `value` broadcasts to."""
        dims = value.type.dims
        tail = index[len(index) - len(dims) :]
        return self.at(
            value, tuple(index_const(0) if d == 1 else i for i, d in zip(tail, dims, strict=True))
        )

    def simplify(self, i: Expr) -> Expr:
        """An index simplified by the loop ranges declared so far."""
        return simplify_index(i, self.ranges)

    def _compute(self, value: Value, index: Index) -> Expr:
        node = value.producer
        if node is None:
            raise UnsupportedError(f"region input {value} has no buffer")
        if node.op.kind == "pointwise":
            return pointwise(node, [self.broadcast_at(o, index) for o in node.operands])
        rule = _MOVES.get(node.op.name)
        if rule is None:
            raise UnsupportedError(
                f"{node.op.name} at {node.loc} cannot be read element by element",
                hint="report this: the fusion pass put it into a region it does not fit",
            )
        return rule(self, node, index)


def linear_index(index: Sequence[Expr], shape: Sequence[int]) -> Expr:
    """Row-major position of an index."""
    out: Expr = index_const(0)
    for i, extent in zip(index, shape, strict=True):
        out = binary("+", binary("*", out, index_const(extent)), i)
    return out


def delinearized(position: Expr, shape: Sequence[int]) -> Index:
    """The index at a row-major position."""
    out: list[Expr] = []
    for axis, extent in enumerate(shape):
        step = math.prod(shape[axis + 1 :])
        i = binary("//", position, index_const(step))
        out.append(i if axis == 0 else binary("%", i, index_const(extent)))
    return tuple(out)


def _reshape(a: Access, node: Node, index: Index) -> Expr:
    """Axes are matched in groups of equal product, so that only split axes need // and %."""
    (x,) = node.operands
    source: list[Expr] = []
    for old, new in axis_groups(x.type.dims, node.result.type.dims):
        part = [index[i] for i in new]
        new_dims = [node.result.type.dims[i] for i in new]
        old_dims = [x.type.dims[i] for i in old]
        position = simplify_index(linear_index(part, new_dims), a.ranges)
        source.extend(delinearized(position, old_dims))
    return a.at(x, tuple(source))


def axis_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes of `old` and `new` with equal element counts."""
    out: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = [], []
        left = right = 1
        while True:
            if i < len(old) and (left <= right or j == len(new)):
                left *= old[i]
                a.append(i)
                i += 1
            elif j < len(new):
                right *= new[j]
                b.append(j)
                j += 1
            if left == right and (a or b):
                break
        out.append((a, b))
    return out


def _transpose(a: Access, node: Node, index: Index) -> Expr:
    perm = node.attrs.perm  # type: ignore[attr-defined]
    source: list[Expr] = [index_const(0)] * len(perm)
    for position, axis in enumerate(perm):
        source[axis] = index[position]
    return a.at(node.operands[0], tuple(source))


def _slice(a: Access, node: Node, index: Index) -> Expr:
    attrs = node.attrs
    source = tuple(
        binary("+", binary("*", i, index_const(step)), index_const(start))
        for i, start, step in zip(index, attrs.starts, attrs.steps, strict=True)  # type: ignore[attr-defined]
    )
    return a.at(node.operands[0], source)


def _flip(a: Access, node: Node, index: Index) -> Expr:
    axes = node.attrs.axes  # type: ignore[attr-defined]
    source = tuple(
        binary("-", index_const(d - 1), i) if axis in axes else i
        for axis, (i, d) in enumerate(zip(index, node.result.type.dims, strict=True))
    )
    return a.at(node.operands[0], source)


def _clamped(i: Expr, extent: int) -> Expr:
    return binary("max", binary("min", i, index_const(extent - 1)), index_const(0))


def _concat(a: Access, node: Node, index: Index) -> Expr:
    """A chain of selects; every branch reads a legal index, so that none may fault."""
    axis = node.attrs.axis  # type: ignore[attr-defined]
    out: Expr | None = None
    start = node.result.type.dims[axis]
    for x in reversed(node.operands):
        extent = x.type.dims[axis]
        start -= extent
        local = _clamped(binary("-", index[axis], index_const(start)), extent)
        element = a.at(x, (*index[:axis], local, *index[axis + 1 :]))
        bound = index_const(start + extent)
        out = element if out is None else select(binary("<", index[axis], bound), element, out)
    assert out is not None
    return out


def _pad(a: Access, node: Node, index: Index) -> Expr:
    attrs, (x,) = node.attrs, node.operands
    mode, before = attrs.mode, attrs.before  # type: ignore[attr-defined]
    source: list[Expr] = []
    inside: Expr | None = None
    for axis, (i, d) in enumerate(zip(index, x.type.dims, strict=True)):
        if d == node.result.type.dims[axis] and not before[axis]:
            source.append(i)
            continue
        j = binary("-", i, index_const(before[axis]))
        if mode == "reflect":
            j = binary("max", j, binary("*", j, index_const(-1)))
            j = binary("min", j, binary("-", index_const(2 * (d - 1)), j))
        else:
            ok = binary("and", binary(">=", j, index_const(0)), binary("<", j, index_const(d)))
            inside = ok if inside is None else binary("and", inside, ok)
        source.append(_clamped(j, d))
    element = a.at(x, tuple(source))
    if mode != "constant" or inside is None:
        return element
    fill = attrs.value  # type: ignore[attr-defined]
    return select(inside, element, const(fill, element.dtype, element.lanes))


def _gather(a: Access, node: Node, index: Index) -> Expr:
    x, positions = node.operands
    axis, rank = node.attrs.axis, positions.type.rank  # type: ignore[attr-defined]
    picked = cast(a.at(positions, index[axis : axis + rank]), INDEX)
    extent = x.type.dims[axis]
    wrapped = select(
        binary("<", picked, index_const(0)), binary("+", picked, index_const(extent)), picked
    )
    return a.at(x, (*index[:axis], _clamped(wrapped, extent), *index[axis + rank :]))


def _take_along(a: Access, node: Node, index: Index) -> Expr:
    x, positions = node.operands
    axis = node.attrs.axis  # type: ignore[attr-defined]
    extent = x.type.dims[axis]
    picked = cast(a.at(positions, index), INDEX)
    wrapped = select(
        binary("<", picked, index_const(0)), binary("+", picked, index_const(extent)), picked
    )
    return a.at(x, (*index[:axis], _clamped(wrapped, extent), *index[axis + 1 :]))


def _full(a: Access, node: Node, index: Index) -> Expr:
    del a, index
    dtype = node.result.type.dtype
    value = node.attrs.value  # type: ignore[attr-defined]
    return const(
        value if dtype.is_float else (bool(value) if dtype is DType.BOOL else int(value)), dtype
    )


def _iota(a: Access, node: Node, index: Index) -> Expr:
    attrs, dtype = node.attrs, node.result.type.dtype
    del a
    i = cast(index[0], dtype)
    step = const(attrs.step if dtype.is_float else int(attrs.step), dtype)  # type: ignore[attr-defined]
    start = const(attrs.start if dtype.is_float else int(attrs.start), dtype)  # type: ignore[attr-defined]
    return binary("+", binary("*", i, step), start)


_MOVES: Mapping[str, Callable[[Access, Node, Index], Expr]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "flip": _flip,
    "concat": _concat,
    "pad": _pad,
    "gather": _gather,
    "take_along": _take_along,
    "full": _full,
    "iota": _iota,
    "relayout": lambda a, node, index: a.at(node.operands[0], index),
    "expand": lambda a, node, index: a.broadcast_at(node.operands[0], index),
}
READABLE = frozenset(_MOVES)
"""Ops that `Access` reads element by element, besides the pointwise ones."""
