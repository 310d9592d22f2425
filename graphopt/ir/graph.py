"""The graph IR: SSA values over tensors, frozen once built. `graphopt.rewrite` alone edits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs

if TYPE_CHECKING:
    from graphopt.ops.base import OpDef


@dataclass(frozen=True)
class Loc:
    """Where a node came from: module path in the model (`layer1.0.conv2`) and `file.py:line`.

    A fused node keeps one Loc per op it swallowed, in execution order, root first in `Node.loc`.
    """

    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        return " at ".join(p for p in (self.module, self.source) if p) or "<unknown>"


NOWHERE = Loc()


class Value:
    """One SSA value. `producer` is None for graph inputs. Identity is what makes it itself.

    `offset` is the byte in the arena where memory planning has placed it, None before that.
    """

    __slots__ = ("index", "name", "offset", "producer", "type")

    def __init__(
        self, type: TensorType, *, name: str = "", producer: Node | None = None, index: int = 0
    ) -> None:
        self.type, self.name, self.producer, self.index = type, name, producer, index
        self.offset: int | None = None

    def __repr__(self) -> str:
        return f"%{self.name} : {self.type}"


class Node:
    """`results = op(operands) {attrs}`; a fused region also has a `body`."""

    __slots__ = ("attrs", "body", "loc", "op", "operands", "results")

    def __init__(
        self,
        op: OpDef,
        operands: Sequence[Value],
        attrs: Attrs,
        result_types: Sequence[TensorType],
        *,
        loc: Loc = NOWHERE,
        body: Graph | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.op, self.operands, self.attrs = op, tuple(operands), attrs
        self.loc, self.body = loc, body
        self.results = tuple(
            Value(t, producer=self, index=i, name=names[i] if i < len(names) else "")
            for i, t in enumerate(result_types)
        )

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def __repr__(self) -> str:
        return f"<{self.op.name} {', '.join(map(repr, self.results))}>"


@dataclass(frozen=True)
class State:
    """State kept between runs (a KV cache): output `output` is written where input `input` lies."""

    input: int
    output: int


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in a topological order. `constants` holds the array of every `constant` node by key."""

    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    output_names: tuple[str, ...] = ()

    @cached_property
    def uses(self) -> Mapping[Value, tuple[tuple[Node, int], ...]]:
        """For each value, the (node, operand position) pairs that read it. Outputs not counted."""
        out: dict[Value, list[tuple[Node, int]]] = {v: [] for v in self.values()}
        for node in self.nodes:
            for i, operand in enumerate(node.operands):
                out[operand].append((node, i))
        return {v: tuple(u) for v, u in out.items()}

    def values(self) -> Iterator[Value]:
        yield from self.inputs
        for node in self.nodes:
            yield from node.results

    def constant(self, value: Value) -> np.ndarray | None:
        """The array of a value produced by a `constant` node, else None."""
        node = value.producer
        if node is None or node.op.name != "constant":
            return None
        return self.constants[node.attrs.key]  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        from graphopt.ir.equal import first_difference  # which needs this module

        return isinstance(other, Graph) and first_difference(self, other) is None

    __hash__ = object.__hash__
