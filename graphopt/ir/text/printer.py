"""Graphs to text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from graphopt.ir.graph import NOWHERE, Graph, Loc, Node, Value
from graphopt.ir.types import DType
from graphopt.syntax.lexer import PLAIN_NAME, quote
from graphopt.syntax.literals import field_types, format_literal

INLINE_ELEMENTS = 16
"""Constants up to this size are written into the text: scales, axes' sizes, epsilons."""


def print_graph(graph: Graph, *, locs: bool = True, types: bool = True) -> str:
    """The graph as text. `locs` and `types` leave these out, for reading and for test expectations.

    Names are made unique where they are not; nothing else is lost.
    """
    return "\n".join(["graph {", *_Printer(graph, locs, types).lines("  "), "}", ""])


class _Printer:
    def __init__(self, graph: Graph, locs: bool, types: bool) -> None:
        self.graph, self.locs, self.types = graph, locs, types
        self.names = _unique_names(graph)

    def lines(self, indent: str) -> Iterator[str]:
        for value in self.graph.inputs:
            yield f"{indent}{self._ref(value)} = input : {_typed(value)}"
        for node in self.graph.nodes:
            yield from self._node(node, indent)
        for state in self.graph.states:
            yield f"{indent}state {self._ref(self.graph.inputs[state.input])} -> " + self._output(
                state.output
            )
        yield indent + self._return()

    def _node(self, node: Node, indent: str) -> Iterator[str]:
        head = f"{indent}{', '.join(map(self._ref, node.results))} = {node.op.name}"
        operands = " " + ", ".join(map(self._ref, node.operands)) if node.operands else ""
        tail = self._types(node) + (_loc(node.loc) if self.locs else "")
        line = head + operands + _attrs(node, self.graph.constants) + tail
        if node.body is None:
            yield line
            return
        yield line + " {"
        yield from _Printer(node.body, self.locs, self.types).lines(indent + "  ")
        yield indent + "}"

    def _types(self, node: Node) -> str:
        plain = all(r.offset is None and r.type.layout is None for r in node.results)
        if not self.types and plain and node.op.name != "constant":
            return ""
        return " : " + ", ".join(map(_typed, node.results)) if node.results else ""

    def _return(self) -> str:
        values = " " + ", ".join(map(self._ref, self.graph.outputs)) if self.graph.outputs else ""
        names = self.graph.output_names
        return "return" + values + (f" {{names={_strings(names)}}}" if names else "")

    def _output(self, position: int) -> str:
        """An output; its position is added when the same value is returned twice."""
        value = self.graph.outputs[position]
        once = self.graph.outputs.count(value) == 1
        return self._ref(value) + ("" if once else f"[{position}]")

    def _ref(self, value: Value) -> str:
        name = self.names.get(
            value, value.name
        )  # a value of another graph: for broken IR in errors
        return f"%{name}" if PLAIN_NAME.fullmatch(name) else f"%{quote(name)}"


def _unique_names(graph: Graph) -> Mapping[Value, str]:
    out: dict[Value, str] = {}
    taken: set[str] = set()
    for i, value in enumerate(graph.values()):
        base = value.name or str(i)
        name, n = base, 1
        while name in taken:
            name, n = f"{base}.{n}", n + 1
        taken.add(name)
        out[value] = name
    return out


def _typed(value: Value) -> str:
    return str(value.type) + ("" if value.offset is None else f" at {value.offset}")


def _attrs(node: Node, constants: Mapping[str, np.ndarray]) -> str:
    values = {k: getattr(node.attrs, k) for k in field_types(type(node.attrs))}
    fields = [f"{k}={format_literal(v)}" for k, v in values.items() if v != ""]  # "": the default
    if node.op.name == "constant":
        array = constants.get(getattr(node.attrs, "key", ""))
        if array is not None and array.size <= INLINE_ELEMENTS:
            fields.append(f"value={format_array(array)}")
    return f" {{{', '.join(fields)}}}" if fields else ""


def format_array(array: np.ndarray) -> str:
    """The elements in row-major order, each as the shortest decimal that reads back exactly."""
    dtype = DType.of(array.dtype)
    if not dtype.is_float:
        return format_literal(array.ravel().tolist())
    # float16 and bfloat16 by way of float32: it holds them exactly, and numpy prints it shortest.
    wide = array.ravel() if dtype is DType.F64 else array.ravel().astype(np.float32)
    return "[" + ",".join(map(str, wide)) + "]"


def _strings(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(quote, names)) + "]"


def _loc(loc: Loc) -> str:
    if loc == NOWHERE:
        return ""
    return f" loc({quote(loc.module)}, {quote(loc.source)})"
