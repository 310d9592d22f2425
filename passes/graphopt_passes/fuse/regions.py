"""Regions while they grow: sets of nodes that stay convex, found on a quotient of the graph."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from graphopt.ir.graph import Graph, Node, Value
from graphopt.lower.strips import is_depthwise

KIND_OF_OP = {
    "linear": "contraction",
    "matmul": "contraction",
    "gathered_matmul": "contraction",
    "conv": "contraction",
    "conv_transpose": "contraction",
    "max_pool": "window",
    "avg_pool": "window",
    "attention": "attention",
}
ROWS = frozenset(
    {"sum", "mean", "max", "min", "prod", "any", "all", "softmax", "log_softmax", "layer_norm",
     "rms_norm", "group_norm"}
)  # fmt: skip
FREE = frozenset({"full", "iota"})
"""Sources that every region that reads them holds a copy of."""
MATERIAL = frozenset({"concat", "pad", "relayout"})
"""Movement that is written box by box, or for a reader that wants it elsewhere: a region may end in
it but not read through it."""


class Region:
    """Nodes of one kernel. `kind` is that of the node it grew from."""

    __slots__ = ("kind", "nodes", "root")

    def __init__(self, kind: str, root: Node) -> None:
        self.kind, self.root = kind, root
        self.nodes: dict[Node, None] = {root: None}


def kind_of(node: Node) -> str:
    """The region kind a node starts."""
    name = node.op.name
    if is_depthwise(node):
        return "depthwise"
    if name in KIND_OF_OP:
        return KIND_OF_OP[name]
    if name in ROWS:
        return "reduction"
    if node.op.kind in ("pointwise", "movement"):
        return node.op.kind
    return "opaque"


class Partition:
    """Every computing node in exactly one region; regions and their order stay acyclic."""

    def __init__(self, graph: Graph, nodes: Iterable[Node]) -> None:
        self.graph = graph
        self.of: dict[Node, Region] = {n: Region(kind_of(n), n) for n in nodes}
        self._quotient: nx.DiGraph = nx.DiGraph()
        self._depth: dict[Node, int] = {}
        for node in graph.nodes:
            producers = [o.producer for o in node.operands if o.producer is not None]
            self._depth[node] = 1 + max((self._depth[p] for p in producers), default=0)
            self._quotient.add_node(self._key(node))
            self._quotient.add_edges_from((self._key(p), self._key(node)) for p in producers)
        self._outputs = set(graph.outputs)

    def regions(self) -> list[Region]:
        return list(dict.fromkeys(self.of[n] for n in self.graph.nodes if n in self.of))

    def users(self, value: Value) -> list[Node]:
        return list(dict.fromkeys(n for n, _ in self.graph.uses[value]))

    def only_user(self, value: Value) -> Node | None:
        """The one node that reads a value that is not a graph output."""
        users = self.users(value)
        return users[0] if len(users) == 1 and value not in self._outputs else None

    def escapes(self, value: Value, region: Region) -> bool:
        """Read outside the region, or a graph output."""
        return value in self._outputs or any(
            self.of.get(n) is not region for n in self.users(value)
        )

    def can_merge(self, a: Region, b: Region) -> bool:
        """Whether a and b as one region leave no path from it out and back in."""
        return not (self._detour(a, b) or self._detour(b, a))

    def merge(self, into: Region, other: Region) -> None:
        for node in other.nodes:
            self.of[node] = into
            into.nodes[node] = None
        for source, _ in list(self._quotient.in_edges(other)):
            if source is not into:
                self._quotient.add_edge(source, into)
        for _, sink in list(self._quotient.out_edges(other)):
            if sink is not into:
                self._quotient.add_edge(into, sink)
        self._quotient.remove_node(other)

    def _detour(self, start: Region, end: Region) -> bool:
        """A path start → something else → end; nothing deeper than `end` can lie on it."""
        deepest = max(self._depth[n] for n in end.nodes)
        seen: set[object] = {start}
        stack = [s for s in self._quotient.successors(start) if s is not end]
        while stack:
            at = stack.pop()
            if at in seen or self._shallowest(at) > deepest:
                continue
            seen.add(at)
            for after in self._quotient.successors(at):
                if after is end:
                    return True
                stack.append(after)
        return False

    def _shallowest(self, key: object) -> int:
        if isinstance(key, Region):
            return min(self._depth[n] for n in key.nodes)
        assert isinstance(key, Node)
        return self._depth[key]

    def _key(self, node: Node) -> Region | Node:
        return self.of.get(node, node)
