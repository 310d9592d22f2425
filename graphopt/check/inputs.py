"""Seeded inputs that a graph can run on: indices stay inside what they index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import Dim, SymDim, TensorType

DISTRIBUTIONS = ("normal", "positive")
"""Of float inputs: around 0, and in [0.1, 1.1) where logarithms and roots are defined."""

_SAME_NUMBERS = frozenset(
    {"cast", "reshape", "transpose", "expand", "slice", "concat", "flip", "relayout", "gather",
     "take_along"}
)  # fmt: skip
_INDEX_OPERAND = frozenset({"gather", "take_along", "gather_nd", "scatter_nd", "scatter_along"})
_UNBOUNDED = 8
_COUNTED = 2  # 0 and 1: what arithmetic makes of them, such as a cumsum, still indexes most tables


def seeded_inputs(
    graph: Graph,
    seed: int = 0,
    *,
    distribution: str = "normal",
    sizes: Mapping[str, int] | None = None,
) -> tuple[np.ndarray, ...]:
    """One array per graph input, in its dtype. The same arguments give the same arrays.

    Integers that index a tensor, directly or through movement, lie inside it; those that index
    after arithmetic are 0 or 1. `sizes` fixes symbolic dims by name; the others are drawn.
    """
    numbers = np.random.default_rng(seed)
    chosen = dict(sizes or {})
    return tuple(
        _array(value.type, _bound(graph, value), distribution, numbers, chosen)
        for value in graph.inputs
    )


def _array(
    t: TensorType, bound: int | None, distribution: str, numbers: np.random.Generator,
    sizes: dict[str, int],
) -> np.ndarray:  # fmt: skip
    shape = tuple(_size(d, numbers, sizes) for d in t.shape)
    if t.dtype.is_float:
        normal = distribution == "normal"
        array = numbers.standard_normal(shape) if normal else numbers.random(shape) + 0.1
        return np.asarray(array).astype(t.dtype.numpy)
    if not t.dtype.is_integer:
        return np.asarray(numbers.integers(0, 2, shape)).astype(t.dtype.numpy)
    high = _UNBOUNDED if bound is None else max(min(bound, np.iinfo(t.dtype.numpy).max), 1)
    return np.asarray(numbers.integers(0, high, shape)).astype(t.dtype.numpy)


def _size(dim: Dim, numbers: np.random.Generator, sizes: dict[str, int]) -> int:
    if not isinstance(dim, SymDim):
        return dim
    if dim.name not in sizes:
        sizes[dim.name] = int(numbers.integers(dim.low, min(dim.high, dim.low + 7) + 1))
    return sizes[dim.name]


def _bound(graph: Graph, value: Value) -> int | None:
    """The smallest extent that an integer input indexes; None when it indexes nothing."""
    if not value.type.dtype.is_integer:
        return None
    return min(_extents(graph, value, True), default=None)


def _extents(graph: Graph, value: Value, plain: bool) -> Iterator[int]:
    """Extents indexed by a value; `plain` while it still holds the input's own numbers."""
    stack, seen = [(graph, value, plain)], {(value, plain)}
    while stack:
        graph, value, plain = stack.pop()
        for node, position in graph.uses[value]:
            if node.op.name in _INDEX_OPERAND and position == 1:
                yield _indexed(node) if plain else _COUNTED
                continue
            if node.body is not None:
                inside = node.body.inputs[position]
                reached = [(node.body, inside, plain)]
                reached += [(graph, r, False) for r in node.results]
            else:
                kept = plain and node.op.name in _SAME_NUMBERS
                reached = [(graph, r, kept) for r in node.results]
            for item in reached:
                if not item[1].type.dtype.is_float and item[1:] not in seen:
                    seen.add(item[1:])
                    stack.append(item)


def _indexed(node: Node) -> int:
    """The extent that operand 1 indexes in operand 0: of one axis, or the least of several."""
    shape, indices = node.operands[0].type.shape, node.operands[1].type.shape
    axis = getattr(node.attrs, "axis", None)
    if axis is None:
        depth = indices[-1] if indices and isinstance(indices[-1], int) else 1
        return min((_least(d) for d in shape[:depth]), default=1)
    return _least(shape[axis])


def _least(dim: Dim) -> int:
    return dim.low if isinstance(dim, SymDim) else dim
