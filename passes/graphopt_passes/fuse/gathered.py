"""How often a region would compute what it gathers: once for each place that it is read at."""

from __future__ import annotations

from graphopt.ir.graph import Node, Value
from graphopt_passes.fuse.regions import MATERIAL, Partition, Region

Path = tuple[Node, ...]
"""Gathers on the way from a value to another: an element is read at a place of its own for each."""


def reads_of(partition: Partition, region: Region, value: Value) -> int:
    """Places of `value` that an element of the region's results is computed from."""
    if not any(n.op.name == "gather" for n in region.nodes):
        return 1
    return len(_ways_up(partition, region, value, {}))


def _ways_up(
    partition: Partition, region: Region, value: Value, known: dict[Value, frozenset[Path]]
) -> frozenset[Path]:
    if value not in known:
        readers = [n for n in partition.users(value) if partition.of.get(n) is region]
        ways = (
            _through(n, way)
            for n in readers for r in n.results
            for way in _ways_up(partition, region, r, known)
        )  # fmt: skip
        known[value] = frozenset(ways) if readers else frozenset([()])
    return known[value]


def loads_of(partition: Partition, value: Value) -> int:
    """Elements in memory that one of `value` is computed from, where everything that can be part
    of the same region is."""
    return max(1, len(_ways_down(partition, value, {})))


def _ways_down(
    partition: Partition, value: Value, known: dict[Value, frozenset[tuple[Value, Path]]]
) -> frozenset[tuple[Value, Path]]:
    """(what is read, by which gathers), once for each of the ways; constants are left out."""
    node = value.producer
    if node is not None and node.op.name == "constant":
        return frozenset()
    if node is None or not _may_join(partition, node):
        return frozenset([(value, ())])
    if value not in known:
        operands = node.operands[:1] if node.op.name == "gather" else node.operands
        known[value] = frozenset(
            (source, _through(node, way))
            for operand in operands
            for source, way in _ways_down(partition, operand, known)
        )
    return known[value]


def _may_join(partition: Partition, node: Node) -> bool:
    region = partition.of.get(node)
    free = region is not None and region.kind in ("pointwise", "movement")
    return free and node.op.name not in MATERIAL


def _through(node: Node, way: Path) -> Path:
    return (node, *way) if node.op.name == "gather" else way
