"""The verifier: everything a graph must satisfy, with inference as the one source of truth."""

from __future__ import annotations

import re

from graphopt.errors import IRError
from graphopt.ir.graph import NOWHERE, Graph, Node, Value
from graphopt.ir.infer import infer
from graphopt.ir.regions import REGION_KINDS
from graphopt.ir.types import SymDim, TensorType
from graphopt.syntax.literals import conforms, describe, field_types

_SYMBOL = re.compile(r"(?!(?:inf|nan)$)[A-Za-z_][A-Za-z0-9_]*")


def verify(graph: Graph) -> None:
    """Hold a graph to the rules of the IR. Raises: IRError for the first that is broken.

    Checked: values are defined once and before their use; operands, attributes and result types fit
    the op; constants have their data; layouts and symbolic dims are legal; bodies take the operands
    and return the results; states pair inputs and outputs of one type.
    """
    _Verifier(graph, {}).run()


class _Verifier:
    def __init__(self, graph: Graph, symbols: dict[str, SymDim]) -> None:
        self.graph, self.symbols = graph, symbols
        self.defined: set[Value] = set()

    def run(self) -> None:
        for value in self.graph.inputs:
            if value.producer is not None:
                raise IRError(f"input %{value.name} has a producer")
            self._define(value, "the inputs")
        for node in self.graph.nodes:
            self._node(node)
        self._outputs()
        self._states()

    # Nodes ---------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        where = describe_node(node)
        for i, operand in enumerate(node.operands):
            if operand not in self.defined:
                raise IRError(
                    f"{where}: operand {i}, %{operand.name}, is not defined before its use",
                    hint="a value is read after the node that produces it, in the same graph",
                )
        self._attributes(node, where)
        self._results(node, where)
        for i, result in enumerate(node.results):
            if result.producer is not node or result.index != i:
                raise IRError(f"{where}: result {i} does not point back at its node")
            self._define(result, where)

    def _attributes(self, node: Node, where: str) -> None:
        if type(node.attrs) is not node.op.attrs:
            raise IRError(
                f"{where}: attributes are {type(node.attrs).__name__}",
                hint=f"use {node.op.attrs.__name__}",
            )
        for name, hint in field_types(node.op.attrs).items():
            value = getattr(node.attrs, name)
            if not conforms(value, hint):
                raise IRError(
                    f"{where}: attribute {name} is {value!r} of {type(value).__name__}",
                    hint=f"it must be {describe(hint)}",
                )

    def _results(self, node: Node, where: str) -> None:
        types = tuple(r.type for r in node.results)
        if node.op.name == "fused":
            expected = self._body(node, where)
        elif node.body is not None:
            raise IRError(f"{where}: only fused nodes have a body")
        elif node.op.name == "constant":
            expected = (self._constant(node, where),)
        else:
            expected = self._inferred(node, where)
        if tuple(t.logical for t in types) != tuple(t.logical for t in expected):
            raise IRError(
                f"{where}: inference gives {_types(expected)}, the node says {_types(types)}"
            )

    def _inferred(self, node: Node, where: str) -> tuple[TensorType, ...]:
        try:
            return infer(node.op, [o.type for o in node.operands], node.attrs)
        except IRError as error:
            raise IRError(f"{where}: {error.message}", hint=error.hint) from error

    def _constant(self, node: Node, where: str) -> TensorType:
        array = self.graph.constants.get(getattr(node.attrs, "key", ""))
        if array is None:
            raise IRError(f"{where}: {node.attrs} has no array in Graph.constants")
        return TensorType.of(array)

    def _body(self, node: Node, where: str) -> tuple[TensorType, ...]:
        body = node.body
        if body is None:
            raise IRError(f"{where}: a fused node needs a body")
        kind = getattr(node.attrs, "kind", "")
        if kind not in REGION_KINDS:
            raise IRError(f"{where}: no region kind {kind!r}", hint=f"use {sorted(REGION_KINDS)}")
        if body.states:
            raise IRError(f"{where}: a body has no states")
        if len(body.inputs) != len(node.operands):
            raise IRError(
                f"{where}: the body has {len(body.inputs)} inputs for {len(node.operands)} operands"
            )
        for i, (inside, outside) in enumerate(zip(body.inputs, node.operands, strict=True)):
            _same_type(inside, outside, f"{where}: body input {i}")
        try:
            _Verifier(body, self.symbols).run()
        except IRError as error:
            raise IRError(f"{where}: in its body: {error.message}", hint=error.hint) from error
        for i, (inside, outside) in enumerate(zip(body.outputs, node.results, strict=False)):
            _same_type(inside, outside, f"{where}: body output {i}")
        return tuple(v.type for v in body.outputs)

    # Values --------------------------------------------------------------------------------------

    def _define(self, value: Value, where: str) -> None:
        if value in self.defined:
            raise IRError(f"%{value.name} is defined twice, the second time by {where}")
        self.defined.add(value)
        check_layout(value)
        for dim in value.type.shape:
            if isinstance(dim, SymDim):
                self._symbol(dim, value)
            elif not isinstance(dim, int) or dim < 0:
                raise IRError(f"{value}: dimension {dim!r} is not a whole number of at least 0")

    def _symbol(self, dim: SymDim, value: Value) -> None:
        if not _SYMBOL.fullmatch(dim.name):
            raise IRError(f"{value}: {dim.name!r} is no name for a dimension", hint="use letters")
        if not 0 <= dim.low <= dim.high:
            raise IRError(f"{value}: the range of {dim} is empty")
        other = self.symbols.setdefault(dim.name, dim)
        if other != dim:
            raise IRError(f"{value}: {dim.name} is {other} elsewhere", hint="one range per name")

    def _outputs(self) -> None:
        for i, value in enumerate(self.graph.outputs):
            if value not in self.defined:
                raise IRError(f"output {i}, %{value.name}, is not defined in this graph")
        names = self.graph.output_names
        if names and len(names) != len(self.graph.outputs):
            raise IRError(f"{len(names)} output names for {len(self.graph.outputs)} outputs")

    def _states(self) -> None:
        graph = self.graph
        seen: set[tuple[str, int]] = set()
        for state in graph.states:
            if not (
                0 <= state.input < len(graph.inputs) and 0 <= state.output < len(graph.outputs)
            ):
                raise IRError(f"{state} is outside the graph's inputs and outputs")
            before, after = graph.inputs[state.input], graph.outputs[state.output]
            _same_type(after, before, f"state %{before.name} -> %{after.name}")
            ends = {("input", state.input), ("output", state.output)}
            if ends & seen:
                raise IRError(f"state %{before.name} -> %{after.name}: one end is already paired")
            seen |= ends


def check_layout(value: Value) -> None:
    """Raises: IRError unless the layout orders every axis of the value's shape once."""
    layout = value.type.layout
    if layout is None:
        return
    if sorted(layout.order) != list(range(value.type.rank)):
        raise IRError(f"{value}: its layout must name each of {value.type.rank} axes once")
    placed: set[int] = set()
    for axis in layout.axes:
        if axis.block < 0 or axis.before < 0 or axis.after < 0:
            raise IRError(f"{value}: block and halo sizes cannot be negative")
        if axis.block and (axis.axis not in placed or axis.before or axis.after):
            raise IRError(f"{value}: a block stands inside its axis and has no halo")
        placed.add(axis.axis)
    if len({a.axis for a in layout.axes if a.block}) < sum(1 for a in layout.axes if a.block):
        raise IRError(f"{value}: an axis is blocked twice")


def describe_node(node: Node) -> str:
    """`%y = conv (layer1.0.conv1 at model.py:12)`: how errors name a node."""
    names = ", ".join(f"%{r.name}" for r in node.results)
    return f"{names} = {node.op.name}" + ("" if node.loc == NOWHERE else f" ({node.loc})")


def _same_type(value: Value, other: Value, where: str) -> None:
    if value.type != other.type:
        raise IRError(f"{where} is {value.type}, not {other.type}")


def _types(types: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, types)) or "nothing"
