"""A region as a case to be measured: operands as they lie in memory, and what must come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.digest import SOURCES
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Expected:
    """A result: `size_bytes` of memory, elements of `dtype` from element `offset` on, `strides`
    elements apart; `values` in float64 (integers as they are), and how far off, relative to their
    largest magnitude, a kernel may be."""

    dtype: np.dtype
    size_bytes: int
    offset: int
    strides: tuple[int, ...]
    values: np.ndarray
    tolerance: float

    def read(self, memory: np.ndarray) -> np.ndarray:
        """The logical array in a buffer's bytes."""
        strides = tuple(s * self.dtype.itemsize for s in self.strides)
        flat = memory.view(self.dtype)[self.offset :]
        return np.lib.stride_tricks.as_strided(flat, self.values.shape, strides)


@dataclass(frozen=True)
class Case:
    """`constants` are the positions of operands that are the model's weights; `model_bytes` is how
    much memory the whole model goes through in a run."""

    operands: tuple[np.ndarray, ...]
    constants: frozenset[int]
    results: tuple[Expected, ...]
    model_bytes: int = 0


def capture(
    graph: Graph,
    inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    nodes: Sequence[Node],
    model_bytes: int,
) -> dict[Node, Case]:
    """Run a planned graph in the reference interpreter and keep what these of its nodes read.

    Operands are rounded to the graph's types, as kernels see them; results are computed from those
    in float64.
    """
    from graphopt.check.reference import execute

    wanted = {o for n in nodes for o in n.operands}
    seen: dict[Value, np.ndarray] = {}

    def observe(node: Node, results: Sequence[np.ndarray]) -> None:
        seen.update((v, a) for v, a in zip(node.results, results, strict=True) if v in wanted)

    named = inputs if isinstance(inputs, Mapping) else None
    for i, value in enumerate(graph.inputs):
        seen[value] = named[value.name] if named is not None else inputs[i]  # type: ignore[index]
    execute(graph, inputs, observer=observe)
    return {n: _case(n, [seen[o] for o in n.operands], model_bytes) for n in nodes}


def _case(node: Node, operands: Sequence[np.ndarray], model_bytes: int) -> Case:
    from graphopt.check.artifact import tolerance_of
    from graphopt.check.reference import execute

    assert node.body is not None
    exact = execute(node.body, operands, precision=np.float64)
    results = tuple(
        Expected(
            v.type.dtype.numpy, v.type.size_bytes, v.type.offset, v.type.strides, array,
            tolerance_of(str(v.type.dtype)),
        )
        for v, array in zip(node.results, exact, strict=True)
    )  # fmt: skip
    constants = (i for i, v in enumerate(node.operands) if v.producer and _is_source(v.producer))
    flat = tuple(in_memory(a, v.type) for a, v in zip(operands, node.operands, strict=True))
    return Case(flat, frozenset(constants), results, model_bytes)


def _is_source(node: Node) -> bool:
    return node.op.name in SOURCES


def in_memory(array: np.ndarray, type: TensorType) -> np.ndarray:
    """A logical array as the flat buffer its layout says, zeros in the halo."""
    size = type.dtype.size_bytes
    flat = np.zeros(type.size_bytes // size, type.dtype.numpy)
    strides = tuple(s * size for s in type.strides)
    np.lib.stride_tricks.as_strided(flat[type.offset :], type.dims, strides)[...] = array
    return flat
