"""Graphs as networkx sees them, and what its algorithms say about them.

Views are built on demand and are the caller's own: editing one edits no graph. Node order follows
the graph's, so that results are the same on every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx

from graphopt.ir.graph import Graph, Node, Value


def node_view(graph: Graph) -> nx.DiGraph:
    """An edge from each node to the nodes that read its results; `values` on an edge lists them."""
    view: nx.DiGraph = nx.DiGraph()
    view.add_nodes_from(graph.nodes)
    for node in graph.nodes:
        for operand in node.operands:
            producer = operand.producer
            if producer is None:
                continue
            if view.has_edge(producer, node):
                values = view.edges[producer, node]["values"]
                if operand not in values:
                    values.append(operand)
            else:
                view.add_edge(producer, node, values=[operand])
    return view


def value_view(graph: Graph) -> nx.DiGraph:
    """An edge from each operand to each result of a node; the edge's `node` is that node."""
    view: nx.DiGraph = nx.DiGraph()
    view.add_nodes_from(graph.values())
    for node in graph.nodes:
        for operand in node.operands:
            view.add_edges_from((operand, r, {"node": node}) for r in node.results)
    return view


def dominators(graph: Graph) -> Mapping[Node, Node | None]:
    """For each node, the nearest one that every path from the inputs to it goes through.

    None where there is none, and for nodes on no path from an input or source.
    """
    view, root = node_view(graph), "root"
    firsts = [n for n in graph.nodes if view.in_degree(n) == 0 or _reads_input(n)]
    view.add_edges_from((root, n) for n in firsts)
    return _immediate(view, root, graph)


def post_dominators(graph: Graph) -> Mapping[Node, Node | None]:
    """For each node, the nearest one that every path from it to an output goes through.

    None where there is none, and for nodes on no path to an output.
    """
    view, root = node_view(graph).reverse(copy=True), "root"
    view.add_node(root)
    last = dict.fromkeys(v.producer for v in graph.outputs if v.producer is not None)
    view.add_edges_from((root, n) for n in last)
    return _immediate(view, root, graph)


def _reads_input(node: Node) -> bool:
    return any(o.producer is None for o in node.operands)


def _immediate(view: nx.DiGraph, root: str, graph: Graph) -> Mapping[Node, Node | None]:
    found = nx.immediate_dominators(view, root) if root in view else {}
    return {n: None if found.get(n, root) in (root, n) else found[n] for n in graph.nodes}


def generations(graph: Graph) -> list[list[Node]]:
    """Nodes by their distance from the inputs: those of one generation may run at once."""
    return [list(g) for g in nx.topological_generations(node_view(graph))]


def reaches(graph: Graph, source: Node, sink: Node) -> bool:
    """Whether `sink` depends on `source`, directly or not."""
    return bool(nx.has_path(node_view(graph), source, sink))


@dataclass(frozen=True)
class Interval:
    """Node positions at which a value is needed, both ends included.

    `first` is the position of its producer, -1 for graph inputs; `last` that of its last reader,
    `len(graph.nodes)` for outputs; `first == last` for a result that nobody reads.
    """

    first: int
    last: int

    def overlaps(self, other: Interval) -> bool:
        return self.first <= other.last and other.first <= self.last


def live_intervals(graph: Graph) -> Mapping[Value, Interval]:
    """When each value is needed, nodes running in the graph's order."""
    position = {n: i for i, n in enumerate(graph.nodes)}
    outputs = frozenset(graph.outputs)
    out: dict[Value, Interval] = {}
    for value in graph.values():
        first = -1 if value.producer is None else position[value.producer]
        reads = [position[node] for node, _ in graph.uses[value]]
        last = len(graph.nodes) if value in outputs else max(reads, default=first)
        out[value] = Interval(first, last)
    return out
