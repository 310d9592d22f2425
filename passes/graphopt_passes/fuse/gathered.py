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
    return _Chains(partition).cut()


class _Chains:
    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.order = {n: i for i, n in enumerate(partition.graph.nodes)}
        self.written: set[Value] = set()

    def cut(self) -> set[Value]:
        gathers: dict[Value, int] = {}
        for node in self.partition.graph.nodes:
            if not self._may_join(node):
                continue
            longest = max((gathers.get(o, 0) for o in _read(node)), default=0)
            gathers[node.result] = longest + (node.op.name == "gather")
            if gathers[node.result] > 1:
                middle = self._middle(node.result)
                if middle is not None:
                    self.written.add(middle)
        return self.written

    def _middle(self, value: Value) -> Value | None:
        """Of the values that gathers read on the way to `value`, the one that is computed from
        about as few elements as it is read at, where the two together are too many."""
        ways = self._ways(value)
        gathered = {o for v in ways for o in _gathered(v) if o in ways}
        costs: dict[Value, int] = {}
        for middle in gathered:
            reads, loads = len(ways[middle]), self._loads(middle)
            if min(reads, loads) > 1 and reads * loads > LOADS:
                costs[middle] = reads + loads
        return min(costs, key=lambda v: (costs[v], self._position(v)), default=None)

    def _loads(self, value: Value) -> int:
        """Elements in memory that one of `value` is computed from; constants are not counted."""
        if self._lies(value):
            return 1
        return sum(len(w) for v, w in self._ways(value).items() if self._lies(v))

    def _ways(self, value: Value) -> dict[Value, set[Way]]:
        """All values that one is computed from within a region, and the ways to each."""
        out: dict[Value, set[Way]] = {value: {()}}
        waiting = {value}
        while waiting:
            at = max(waiting, key=self._position)
            waiting.remove(at)
            if at is not value and self._lies(at):
                continue
            assert at.producer is not None
            for operand in _read(at.producer):
                step = (at.producer,) if at.producer.op.name == "gather" else ()
                out.setdefault(operand, set()).update((*way, *step) for way in out[at])
                waiting.add(operand)
        return out

    def _position(self, value: Value) -> int:
        return -1 if value.producer is None else self.order[value.producer]

    def _lies(self, value: Value) -> bool:
        """Whether it is read from memory in any case."""
        node = value.producer
        return node is None or value in self.written or not self._may_join(node)

    def _may_join(self, node: Node) -> bool:
        region = self.partition.of.get(node)
        free = region is not None and region.kind in ("pointwise", "movement")
        return free and node.op.name not in MATERIAL


def _read(node: Node) -> list[Value]:
    """Operands that are computed: no constants, and no places that are looked up."""
    operands = node.operands[:1] if node.op.name == "gather" else node.operands
    return [o for o in operands if o.producer is None or o.producer.op.name != "constant"]


def _gathered(value: Value) -> tuple[Value, ...]:
    """What a gather that makes `value` reads."""
    node = value.producer
    return node.operands[:1] if node is not None and node.op.name == "gather" else ()
