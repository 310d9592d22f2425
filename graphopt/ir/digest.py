"""What a region computes, as a short text that is the same in every process and every model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from graphopt.errors import InternalError
from graphopt.ir.graph import Graph, Node, Value

SOURCES = frozenset({"constant", "full", "iota"})
"""Ops whose result is known when a model is compiled."""


def region_digest(node: Node) -> str:
    """16 hex digits, equal for fused nodes of the same computation on the same types and layouts:
    all that lowering looks at. Which operands are constants counts, for those are packed; their
    values, names and places in the model do not. Constants of the body count with their values."""
    if node.body is None:
        raise InternalError(f"{node.op.name} at {node.loc} is no region")
    text = "\n".join([repr(node.attrs), *map(_operand, node.operands), *_steps(node.body)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _operand(value: Value) -> str:
    source = value.producer.op.name if value.producer is not None else ""
    return f"{value.type} {source if source in SOURCES else ''}"


def _steps(body: Graph) -> Iterator[str]:
    """The body's nodes, values by number."""
    number = {v: i for i, v in enumerate(body.inputs)}
    for n in body.nodes:
        operands = [number[o] for o in n.operands]
        for r in n.results:
            number[r] = len(number)
        array = body.constant(n.result) if n.op.name == "constant" else None
        attrs = repr(n.attrs) if array is None else _content(array)
        yield f"{n.op.name} {attrs} {operands} {[str(r.type) for r in n.results]}"
    yield f"return {[number[v] for v in body.outputs]}"


def _content(array: np.ndarray) -> str:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(content.data).hexdigest()
