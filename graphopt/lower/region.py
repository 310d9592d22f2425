"""What every lowering starts from: a region's buffers, loop names, and reads of its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.kernel.ir import (
    Buffer,
    Expr,
    Kernel,
    Stmt,
    Store,
    binary,
    index_const,
    index_var,
    load,
)
from graphopt.lower.access import Access, Index
from graphopt.program import LibraryCall
from graphopt.target import Target


@dataclass(frozen=True)
class Packing:
    """How a constant operand is rearranged at compile time. `key` tells packings of one weight
    apart; `size` is the number of elements of the packed array."""

    key: str
    size: int
    pack: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Lowered:
    """A region's kernel; parameters are its operands in order, then its results. `steps` are the
    kernel after each schedule step, for `--print-after-all`."""

    kernel: Kernel
    packings: Mapping[int, Packing] = field(default_factory=dict)
    steps: tuple[tuple[str, Kernel], ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Delegated:
    """A region that a vendor's library computes: no kernel is made. Arguments are its operands in
    order, then its results."""

    name: str
    library: LibraryCall
    packings: Mapping[int, Packing] = field(default_factory=dict)


class Region:
    """A fused node seen as flat buffers and an `Access` over its body.

    Buffers are one-dimensional: an element's position is computed from the layout, so that loops
    over axes that are adjacent in memory can be fused whatever the region does.
    """

    def __init__(self, node: Node, target: Target, body: Graph | None = None) -> None:
        self.node, self.target = node, target
        found = body if body is not None else node.body
        assert found is not None
        self.body: Graph = found
        self.inputs = tuple(flat_buffer(f"in{i}", v.type) for i, v in enumerate(self.body.inputs))
        self.outputs = tuple(
            flat_buffer(f"out{i}", v.type) for i, v in enumerate(self.body.outputs)
        )
        self.access = Access({})
        for value, buffer in zip(self.body.inputs, self.inputs, strict=True):
            self.access.keep(value, self.reader(buffer, value.type))

    def resize(self, operand: int, size: int) -> None:
        """An operand's buffer holds `size` elements: a packed weight need not be as large as the
        model's."""
        old = self.inputs[operand]
        new = Buffer.dense(old.name, old.dtype, (size,))
        self.inputs = (*self.inputs[:operand], new, *self.inputs[operand + 1 :])

    def reader(self, buffer: Buffer, type: TensorType) -> Callable[[Index], Expr]:
        """Reads a flat buffer of a tensor at logical indices."""
        return lambda index: load(buffer, self.access.simplify(position(index, type)))

    def store(self, which: int, index: Index, value: Expr) -> Stmt:
        """Write result `which` at a logical index."""
        type = self.body.outputs[which].type
        return Store(self.outputs[which], (self.access.simplify(position(index, type)),), value)

    def written(self, which: int, index: Index) -> Expr:
        """What was written to result `which` at a logical index."""
        type = self.body.outputs[which].type
        return load(self.outputs[which], self.access.simplify(position(index, type)))

    def loop(self, name: str, extent: int) -> Expr:
        """Declare a loop variable, so that index arithmetic knows its range."""
        self.access.ranges[name] = extent
        return index_const(0) if extent == 1 else index_var(name)

    def kernel(self, name: str, body: Stmt) -> Kernel:
        return Kernel(
            name,
            (*self.inputs, *self.outputs),
            tuple(b.name for b in self.outputs),
            body,
        )


def flat_buffer(name: str, type: TensorType) -> Buffer:
    return Buffer.dense(name, type.dtype, (type.size_bytes // type.dtype.size_bytes,))


def position(index: Sequence[Expr], type: TensorType) -> Expr:
    """Elements from the start of a buffer to a logical index."""
    out: Expr = index_const(type.offset)
    for i, stride in zip(index, type.strides, strict=True):
        out = binary("+", binary("*", i, index_const(stride)), out)
    return out


def reads(value: Value, body: Graph) -> int:
    """How often a body value is read, results counted."""
    return len(body.uses[value]) + body.outputs.count(value)
