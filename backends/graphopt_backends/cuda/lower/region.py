"""A region as a GPU computes it: halves in memory, floats in between."""

from __future__ import annotations

import dataclasses

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import Buffer, Cast, Expr, Stmt, Store, cast, load
from graphopt.lower.access import Index, Source
from graphopt.lower.region import Region, flat_buffer, position
from graphopt.rewrite import Rewriter
from graphopt.target import Target

_HALF = frozenset({DType.F16, DType.BF16})
_VECTOR_BYTES = 16


class GpuRegion(Region):
    """A region whose halves become f32 when they are read and halves again when they are stored:
    what lies between is computed, and accumulated, in f32."""

    def __init__(self, node: Node, target: Target, body: Graph | None = None) -> None:
        assert node.body is not None
        super().__init__(node, target, widened(body if body is not None else node.body))
        self.inputs = tuple(flat_buffer(f"in{i}", v.type) for i, v in enumerate(node.body.inputs))
        self.outputs = tuple(
            flat_buffer(f"out{i}", v.type) for i, v in enumerate(node.body.outputs)
        )
        for value, buffer in zip(self.body.inputs, self.inputs, strict=True):
            self.access.keep(value, self.reader(buffer, value.type))

    def reader(self, buffer: Buffer, type: TensorType) -> Source:
        def read(index: Index) -> Expr:
            return widen(load(buffer, self.access.simplify(position(index, type))))

        return read

    def store(self, which: int, index: Index, value: Expr) -> Stmt:
        type, buffer = self.body.outputs[which].type, self.outputs[which]
        at = self.access.simplify(position(index, type))
        return Store(buffer, (at,), narrow(value, buffer.dtype))

    def lanes(self, which: int = 0) -> int:
        """Elements of a result that make 16 bytes."""
        return _VECTOR_BYTES // self.outputs[which].dtype.size_bytes


def widen(e: Expr) -> Expr:
    """What is loaded, as it is computed with."""
    return cast(e, DType.F32) if e.dtype in _HALF else e


def narrow(e: Expr, dtype: DType) -> Expr:
    """What is computed, as it is stored."""
    if isinstance(e, Cast) and e.a.dtype is dtype:
        return e.a
    return cast(e, dtype) if dtype in _HALF else e


def widened(body: Graph) -> Graph:
    """The same graph with f32 for every half."""
    types = [v.type for v in body.inputs]
    types += [r.type for n in body.nodes for r in n.results]
    if not any(t.dtype in _HALF for t in types):
        return body
    inputs = tuple(Value(_wide(v.type), name=v.name) for v in body.inputs)
    rw = Rewriter(Graph(inputs, (), ()))
    values = dict(zip(body.inputs, rw.inputs, strict=True))
    for node in body.nodes:
        attrs = node.attrs
        if getattr(attrs, "dtype", None) in _HALF:
            attrs = dataclasses.replace(attrs, dtype=DType.F32)  # type: ignore[call-arg]
        copy = rw.insert(
            node.op.name, [values[o] for o in node.operands], attrs, loc=node.loc,
            types=[_wide(r.type) for r in node.results],
        )  # fmt: skip
        values.update(zip(node.results, copy.results, strict=True))
    rw.outputs = [values[v] for v in body.outputs]
    return rw.freeze()


def _wide(type: TensorType) -> TensorType:
    return dataclasses.replace(type, dtype=DType.F32) if type.dtype in _HALF else type
