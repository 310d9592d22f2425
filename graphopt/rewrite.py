"""The only writer of graphs: a working copy with use lists, edited in place, frozen at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np

from graphopt.errors import InternalError, IRError
from graphopt.ir.graph import NOWHERE, Graph, Loc, Node, Value
from graphopt.ir.types import TensorType
from graphopt.ops import CONSTANT, OPS, ConstantAttrs
from graphopt.ops.base import Attrs, OpDef


class Plan:
    """What a pass has decided about one node. Extra facts are kept as attributes."""

    def __init__(self, node: Node, **facts: Any) -> None:
        self.node = node
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> Any:  # facts are typed by the pass that made them
        raise AttributeError(name)


@dataclass(frozen=True)
class Reject:
    """Why a pass left a node alone: the near-misses that `graphopt explain` shows."""

    reason: str


class Rewriter:
    """A mutable copy of a graph. The original stays valid; `self.values` maps its values over."""

    def __init__(self, graph: Graph) -> None:
        self.constants = dict(graph.constants)
        self.states, self.output_names = graph.states, graph.output_names
        self.values: dict[Value, Value] = {}
        self._uses: dict[Value, dict[Node, None]] = {}
        self._nodes: dict[Node, None] = {}
        self.inputs = tuple(self._adopt(v, Value(v.type, name=v.name)) for v in graph.inputs)
        for node in graph.nodes:
            copy = Node(
                node.op,
                [self.values[o] for o in node.operands],
                node.attrs,
                [r.type for r in node.results],
                loc=node.loc,
                body=node.body,
                names=[r.name for r in node.results],
            )
            for old, new in zip(node.results, copy.results, strict=True):
                self._adopt(old, new)
            self._insert(copy)
        self.outputs = [self.values[v] for v in graph.outputs]
        self.changes = 0

    # Reading -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Live nodes. The order is that of insertion, not a schedule."""
        return tuple(self._nodes)

    def alive(self, node: Node) -> bool:
        return node in self._nodes

    def users(self, value: Value) -> tuple[Node, ...]:
        """Nodes that read a value, each once."""
        return tuple(self._uses[value])

    def is_output(self, value: Value) -> bool:
        return value in self.outputs

    def has_one_use(self, value: Value) -> bool:
        """Read at exactly one operand position, graph outputs counted."""
        reads = sum(n.operands.count(value) for n in self._uses[value])
        return reads + self.outputs.count(value) == 1

    def array(self, value: Value) -> np.ndarray | None:
        """The array of a constant value, else None."""
        node = value.producer
        if node is None or not isinstance(node.attrs, ConstantAttrs):
            return None
        return self.constants[node.attrs.key]

    # Writing -----------------------------------------------------------------------------------

    def insert(
        self,
        op: str,
        operands: Sequence[Value],
        attrs: Attrs | None = None,
        *,
        loc: Loc = NOWHERE,
        body: Graph | None = None,
        types: Sequence[TensorType] = (),
    ) -> Node:
        """Add a node; result types are inferred unless given (to choose a layout)."""
        definition = OPS[op]
        attrs = definition.defaults() if attrs is None else attrs
        if not types:
            types = infer_types(definition, operands, attrs, body)
        node = Node(definition, operands, attrs, types, loc=loc, body=body)
        self._insert(node)
        return node

    def emit(
        self, op: str, *operands: Value, attrs: Attrs | None = None, loc: Loc = NOWHERE
    ) -> Value:
        """Add a node with one result and return that result."""
        return self.insert(op, operands, attrs, loc=loc).result

    def constant(self, array: np.ndarray, *, name: str = "const", loc: Loc = NOWHERE) -> Value:
        """Add a constant. Equal names are told apart by a number."""
        key, n = name, 1
        while key in self.constants:
            if self.constants[key] is array:
                break
            key, n = f"{name}.{n}", n + 1
        self.constants[key] = array
        types = (TensorType.of(array),)
        node = Node(CONSTANT, (), ConstantAttrs(key), types, loc=loc, names=(key,))
        self._insert(node)
        return node.result

    def replace(self, old: Value, new: Value) -> None:
        """Let every reader of `old`, graph outputs included, read `new`."""
        if old is new:
            return
        if old.type.logical != new.type.logical:
            raise IRError(f"cannot replace {old} by {new}: the types differ")
        for node in tuple(self._uses[old]):
            self.set_operands(node, [new if o is old else o for o in node.operands])
        self.outputs = [new if o is old else o for o in self.outputs]
        new.name = new.name or old.name

    def set_operands(self, node: Node, operands: Sequence[Value]) -> None:
        for o in node.operands:
            self._uses[o].pop(node, None)
        node.operands = tuple(operands)
        for o in node.operands:
            self._uses[o][node] = None

    def set_attrs(self, node: Node, attrs: Attrs) -> None:
        node.attrs = attrs

    def set_body(self, node: Node, body: Graph) -> None:
        """Another body of a fused node, of the types that its operands and results have by now."""
        node.body = body

    def set_type(self, value: Value, type: TensorType) -> None:
        """Choose another layout for a value. Its dtype and shape stay."""
        if value.type.logical != type.logical:
            raise IRError(f"cannot retype {value} as {type}: only the layout may change")
        value.type = type

    def erase(self, node: Node) -> None:
        """Remove a node nobody reads."""
        if any(self._uses[r] or self.is_output(r) for r in node.results):
            raise InternalError(f"erase of {node}, which is still read")
        for o in node.operands:
            self._uses[o].pop(node, None)
        del self._nodes[node]

    def erase_dead(self) -> int:
        """Remove every node whose results nobody reads. Returns how many."""
        erased, stack = 0, list(self._nodes)
        while stack:
            node = stack.pop()
            if self.alive(node) and not any(
                self._uses[r] or self.is_output(r) for r in node.results
            ):
                self.erase(node)
                erased += 1
                stack.extend(o.producer for o in node.operands if o.producer is not None)
        return erased

    def freeze(self) -> Graph:
        """The edited graph, dead nodes gone, in a topological order close to the old one."""
        self.erase_dead()
        nodes = _in_order(tuple(self._nodes))
        kept = {n.attrs.key for n in nodes if isinstance(n.attrs, ConstantAttrs)}
        _name_values(self.inputs, nodes)
        return Graph(
            self.inputs,
            nodes,
            tuple(self.outputs),
            {k: v for k, v in self.constants.items() if k in kept},
            self.states,
            self.output_names,
        )

    def _adopt(self, old: Value, new: Value) -> Value:
        self.values[old] = new
        self._uses.setdefault(new, {})
        return new

    def _insert(self, node: Node) -> None:
        for r in node.results:
            self._uses.setdefault(r, {})
        for o in node.operands:
            self._uses[o][node] = None
        self._nodes[node] = None


def extract(
    inputs: Sequence[Value],
    nodes: Sequence[Node],
    results: Sequence[Value],
    same: Mapping[Value, Value] | None = None,
) -> Graph:
    """A graph of copies of `nodes`, which are in order and read `inputs` and each other. `same`:
    what is read under another name, when nodes come from several graphs."""
    rw = Rewriter(Graph(tuple(inputs), (), ()))
    same = same or {}
    for node in nodes:
        copy = rw.insert(
            node.op.name,
            [rw.values[same.get(o, o)] for o in node.operands],
            node.attrs,
            loc=node.loc,
            types=[r.type for r in node.results],
        )
        rw.values.update(zip(node.results, copy.results, strict=True))
    rw.outputs = [rw.values[r] for r in results]
    return rw.freeze()


def infer_types(
    op: OpDef, operands: Sequence[Value], attrs: Attrs, body: Graph | None = None
) -> tuple[TensorType, ...]:
    """Result types of a node, row-major. Raises: IRError for operands that do not fit."""
    if body is not None:
        return tuple(v.type for v in body.outputs)
    inferred = op.infer(*(o.type.logical for o in operands), attrs)
    return (inferred,) if isinstance(inferred, TensorType) else inferred


def _in_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Old order kept; a new node comes right before the first node that needs it."""
    view: nx.DiGraph = nx.DiGraph()
    root = object()
    view.add_node(root)
    view.add_edges_from((root, n) for n in nodes)
    for n in nodes:
        view.add_edges_from((n, o.producer) for o in n.operands if o.producer is not None)
    if not nx.is_directed_acyclic_graph(view):
        raise InternalError("the rewritten graph has a cycle")
    return tuple(n for n in nx.dfs_postorder_nodes(view, root) if n is not root)


def _name_values(inputs: Sequence[Value], nodes: Sequence[Node]) -> None:
    """Give every value a name of its own: kept where free, else numbered."""
    taken: set[str] = set()
    for value in (*inputs, *(r for n in nodes for r in n.results)):
        base = value.name or (value.producer.op.name if value.producer else "input")
        name, n = base, 1
        while name in taken:
            name, n = f"{base}.{n}", n + 1
        value.name = name
        taken.add(name)
