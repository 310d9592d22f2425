"""Values of a graph in float64, as the kernels of its regions find them in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.check.reference import execute
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.lower.region import Lowered


def reference_values(graph: Graph, inputs: Sequence[np.ndarray]) -> dict[Value, np.ndarray]:
    """Every value of the graph outside regions."""
    values: dict[Value, np.ndarray] = dict(zip(graph.inputs, inputs, strict=True))

    def observe(node: Node, arrays: Sequence[np.ndarray]) -> None:
        values.update(zip(node.results, arrays, strict=True))

    execute(graph, list(inputs), precision=np.float64, observer=observe)
    for node in graph.nodes:
        for operand in node.operands:
            constant = graph.constant(operand)
            if constant is not None:
                values[operand] = constant
    return values


def inputs_of(node: Node, found: Lowered, values: dict[Value, np.ndarray]) -> dict[str, np.ndarray]:
    """An array for every operand of a region's kernel, packed where it wants it so."""
    arrays = {}
    for i, (operand, p) in enumerate(zip(node.operands, found.kernel.params, strict=False)):
        array = values[operand]
        packing = found.packings.get(i)
        packed = packing.pack(array) if packing else to_memory(array, operand.type)
        arrays[p.name] = np.ascontiguousarray(packed)
    return arrays


def to_memory(array: np.ndarray, type: TensorType) -> np.ndarray:
    """A logical array as the flat buffer its layout says, in the array's own dtype."""
    flat = np.zeros(type.size_bytes // type.dtype.size_bytes, array.dtype)
    _view(flat, type)[...] = array
    return flat


def from_memory(flat: np.ndarray, type: TensorType) -> np.ndarray:
    return _view(flat.ravel(), type).copy()


def _view(flat: np.ndarray, type: TensorType) -> np.ndarray:
    strides = [s * flat.itemsize for s in type.strides]
    return np.lib.stride_tricks.as_strided(flat[type.offset :], type.dims, strides)
