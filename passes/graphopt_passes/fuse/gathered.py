"""Where chains of gathers are cut: a region computes what it gathers once for each place that it
reads it at.

Two linear resizes that follow each other would read sixteen elements, and lerp as often, for each
one of the result. The first one's result is written down instead, and four are read twice.
"""

from __future__ import annotations

from graphopt.ir.graph import Node, Value
from graphopt_passes.fuse.regions import MATERIAL, Partition

LOADS = 8
"""What an element may be gathered from: the corners of a cube, which a linear resize reads."""

Way = tuple[Node, ...]
"""Gathers from a value down to another: an element is read at a place of its own for each."""


def written_down(partition: Partition) -> set[Value]:
    """Values in the middle of chains that are too long for one region."""
    out: set[Value] = set()
    gathers: dict[Value, int] = {}
    for node in partition.graph.nodes:
        if not _may_join(partition, node):
            continue
        longest = max((gathers.get(o, 0) for o in _read(node)), default=0)
        gathers[node.result] = longest + (node.op.name == "gather")
        if gathers[node.result] > 1:
            middle = _middle(partition, node.result, out)
            if middle is not None:
                out.add(middle)
    return out


def _middle(partition: Partition, value: Value, written: set[Value]) -> Value | None:
    """Of the values that gathers read on the way to `value`, the one that is computed from about as
    few elements as it is read at, where the two together are too many."""
    ways = _ways(partition, value, written)
    gathered = {o for v in ways for o in _gathered(v) if o in ways}
    costs: dict[Value, int] = {}
    for middle in gathered:
        reads, loads = len(ways[middle]), _loads(partition, middle, written)
        if min(reads, loads) > 1 and reads * loads > LOADS:
            costs[middle] = reads + loads
    return min(costs, key=lambda v: costs[v], default=None)


def _loads(partition: Partition, value: Value, written: set[Value]) -> int:
    """Elements in memory that one of `value` is computed from; constants are not counted."""
    if _lies(partition, value, written):
        return 1
    ways = _ways(partition, value, written)
    return sum(len(w) for v, w in ways.items() if _lies(partition, v, written))


def _ways(partition: Partition, value: Value, written: set[Value]) -> dict[Value, set[Way]]:
    """All values that one is computed from within a region, and the ways to each."""
    out: dict[Value, set[Way]] = {value: {()}}
    order = {n: i for i, n in enumerate(partition.graph.nodes)}
    waiting = {value}
    while waiting:
        at = max(waiting, key=lambda v: order.get(v.producer, -1) if v.producer else -1)
        waiting.remove(at)
        if at is not value and _lies(partition, at, written):
            continue
        assert at.producer is not None
        for operand in _read(at.producer):
            step = (at.producer,) if at.producer.op.name == "gather" else ()
            out.setdefault(operand, set()).update((*way, *step) for way in out[at])
            waiting.add(operand)
    return out


def _read(node: Node) -> list[Value]:
    """Operands that are computed: no constants, and no places that are looked up."""
    operands = node.operands[:1] if node.op.name == "gather" else node.operands
    return [o for o in operands if o.producer is None or o.producer.op.name != "constant"]


def _gathered(value: Value) -> tuple[Value, ...]:
    """What a gather that makes `value` reads."""
    node = value.producer
    return node.operands[:1] if node is not None and node.op.name == "gather" else ()


def _lies(partition: Partition, value: Value, written: set[Value]) -> bool:
    """Whether it is read from memory in any case."""
    node = value.producer
    return node is None or value in written or not _may_join(partition, node)


def _may_join(partition: Partition, node: Node) -> bool:
    region = partition.of.get(node)
    free = region is not None and region.kind in ("pointwise", "movement")
    return free and node.op.name not in MATERIAL
