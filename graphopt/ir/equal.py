"""Structural equality of graphs, and where two of them first differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.syntax.literals import field_types, format_literal


def first_difference(a: Graph, b: Graph, *, locs: bool = False) -> str | None:
    """Where `a` and `b` differ, in one line naming both sides; None when they are equal.

    Compared: operations, operands, attributes, types with their layouts, arena offsets, bodies,
    states and output names; constants by value; provenance with `locs`. Not compared: value names,
    constants' keys, and the order of nodes that do not depend on each other.
    """
    return _Comparison(a, b, locs).run()


def same_array(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal dtype, shape and values; nan equals nan."""
    if a is b:
        return True
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool(np.all((a == b) | ((a != a) & (b != b))))


class _Comparison:
    """Walks from outputs to inputs, pairing values; a value may be paired with one other only."""

    def __init__(self, a: Graph, b: Graph, locs: bool) -> None:
        self.a, self.b, self.locs = a, b, locs
        self.pair: dict[Value, Value] = {}
        self.back: dict[Value, Value] = {}
        self.matched: set[Node] = set()

    def run(self) -> str | None:
        return self._interface() or self._computation() or self._rest()

    def _interface(self) -> str | None:
        a, b = self.a, self.b
        if len(a.inputs) != len(b.inputs):
            return f"inputs: {len(a.inputs)} versus {len(b.inputs)}"
        if len(a.outputs) != len(b.outputs):
            return f"outputs: {len(a.outputs)} versus {len(b.outputs)}"
        if a.output_names != b.output_names:
            return f"output names: {list(a.output_names)} versus {list(b.output_names)}"
        if set(a.states) != set(b.states) or len(a.states) != len(b.states):
            return f"states: {_states(a)} versus {_states(b)}"
        for i, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=True)):
            if not _same_value(x, y):
                return f"input {i}: {_typed(x)} versus {_typed(y)}"
            self.pair[x], self.back[y] = y, x
        return None

    def _computation(self) -> str | None:
        stack = [
            (x, y, f"output {i}")
            for i, (x, y) in enumerate(zip(self.a.outputs, self.b.outputs, strict=True))
        ][::-1]
        while stack:
            x, y, where = stack.pop()
            if x in self.pair or y in self.back:
                if self.pair.get(x) is not y or self.back.get(y) is not x:
                    return f"{where} is {_source(x)} versus {_source(y)}"
                continue
            if x.producer is None or y.producer is None or x.index != y.index:
                return f"{where} is {_source(x)} versus {_source(y)}"
            difference = self._nodes(x.producer, y.producer)
            if difference:
                return difference
            operands = zip(x.producer.operands, y.producer.operands, strict=True)
            stack += [
                (p, q, f"operand {i} of %{x.name} ({x.producer.op.name})")
                for i, (p, q) in enumerate(operands)
            ][::-1]
        return None

    def _nodes(self, x: Node, y: Node) -> str | None:
        name = f"%{x.results[0].name}" if x.results else x.op.name
        if x.op.name != y.op.name:
            return f"{name} is {_call(x)} versus {_call(y)}"
        name = f"{name} ({x.op.name})"
        if len(x.operands) != len(y.operands) or len(x.results) != len(y.results):
            return f"{name}: {_arity(x)} versus {_arity(y)}"
        difference = self._attributes(x, y)
        if difference:
            return f"{name}: {difference}"
        for r, s in zip(x.results, y.results, strict=True):
            if not _same_value(r, s):
                return f"type of %{r.name} ({x.op.name}): {_typed(r)} versus {_typed(s)}"
            self.pair[r], self.back[s] = s, r
        if self.locs and x.loc != y.loc:
            return f"{name}: loc {x.loc} versus {y.loc}"
        self.matched |= {x, y}
        return self._bodies(x.body, y.body, name)

    def _attributes(self, x: Node, y: Node) -> str | None:
        if x.op.name == "constant":
            c, d = self.a.constant(x.result), self.b.constant(y.result)
            same = c is not None and d is not None and same_array(c, d)
            return None if same else f"value {_brief(c)} versus {_brief(d)}"
        if type(x.attrs) is not type(y.attrs):
            return f"attributes {x.attrs} versus {y.attrs}"
        for field in field_types(type(x.attrs)):
            p, q = (format_literal(getattr(n.attrs, field)) for n in (x, y))
            if getattr(x.attrs, field) != getattr(y.attrs, field) and p != q:  # nan is not nan
                return f"attribute {field} is {p} versus {q}"
        return None

    def _bodies(self, x: Graph | None, y: Graph | None, name: str) -> str | None:
        if x is None or y is None:
            return None if x is y else f"{name}: only one of them has a body"
        difference = first_difference(x, y, locs=self.locs)
        return f"in the body of {name}: {difference}" if difference else None

    def _rest(self) -> str | None:
        """Nodes that no output depends on, in order."""
        x, y = ([n for n in g.nodes if n not in self.matched] for g in (self.a, self.b))
        if len(x) != len(y):
            more = _call((x if len(x) > len(y) else y)[-1])
            return f"nodes: {len(self.a.nodes)} versus {len(self.b.nodes)}, such as {more}"
        for m, n in zip(x, y, strict=True):
            difference = self._nodes(m, n) or self._paired(m, n)
            if difference:
                return difference
        return None

    def _paired(self, x: Node, y: Node) -> str | None:
        for i, (p, q) in enumerate(zip(x.operands, y.operands, strict=True)):
            if self.pair.get(p) is not q:
                return f"operand {i} of {_call(x)} versus {_call(y)}"
        return None


def _same_value(x: Value, y: Value) -> bool:
    return _canonical(x.type) == _canonical(y.type) and x.offset == y.offset


def _canonical(t: TensorType) -> TensorType:
    """The dense row-major layout spelled out is the layout left out."""
    return t if t.layout is None else t.with_layout(t.layout)


def _typed(value: Value) -> str:
    return f"{value.type}" + ("" if value.offset is None else f" at {value.offset}")


def _source(value: Value) -> str:
    if value.producer is None:
        return f"input %{value.name}"
    return f"%{value.name} = {_call(value.producer)}"


def _call(node: Node) -> str:
    return " ".join([node.op.name, ", ".join(f"%{o.name}" for o in node.operands)]).rstrip()


def _arity(node: Node) -> str:
    return f"{len(node.operands)} operand(s) and {len(node.results)} result(s)"


def _states(graph: Graph) -> list[tuple[int, int]]:
    return [(s.input, s.output) for s in graph.states]


def _brief(array: np.ndarray | None) -> str:
    if array is None:
        return "missing"
    shown: Sequence[object] = array.ravel()[:4].tolist()
    more = ", .." if array.size > 4 else ""
    return f"{TensorType.of(array)} [{', '.join(map(str, shown))}{more}]"
