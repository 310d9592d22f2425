"""eliminate-common-subexpressions: what is computed twice is computed once.

%a = exp %x
%b = exp %x          →   %a = exp %x
%c = add %a, %b          %c = add %a, %a
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Graph, Node
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter


@dataclass(frozen=True)
class EliminateCommonSubexpressions(Pass):
    """Nodes of equal op, attributes, types and operands (in any order where the op commutes), and
    constants of equal data.

    Numerics: exact. Refuses: fused regions.
    """

    name: ClassVar[str] = "eliminate-common-subexpressions"
    numerics: ClassVar[Numerics] = EXACT

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        rw = Rewriter(graph)
        first: dict[Hashable, list[Node]] = {}
        for node in rw.nodes:  # in topological order: operands are merged already
            if node.body is not None:
                ctx.rejected(self.name, node, "it is a fused region")
                continue
            alike = first.setdefault(_key(rw, node), [])
            twin = next((n for n in alike if _same_data(rw, n, node)), None)
            if twin is None:
                alike.append(node)
            elif ctx.spend():
                for old, new in zip(node.results, twin.results, strict=True):
                    rw.replace(old, new)
                ctx.fired(self.name, node)
        return rw.freeze()


def _key(rw: Rewriter, node: Node) -> Hashable:
    """Equal for nodes that may be merged. Attributes as text: it tells 0.0 from -0.0."""
    types = tuple(r.type for r in node.results)
    array = rw.array(node.results[0]) if node.results else None
    if array is not None:
        return node.op.name, types, _sample(array)
    operands = [id(o) for o in node.operands]
    if node.op.commutative:
        operands.sort()
    return node.op.name, repr(node.attrs), types, tuple(operands)


def _sample(array: np.ndarray) -> bytes:
    """A few elements: they tell most arrays apart without reading them whole."""
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // 16)].tobytes()


def _same_data(rw: Rewriter, a: Node, b: Node) -> bool:
    x, y = rw.array(a.results[0]), rw.array(b.results[0])
    if x is None or y is None:
        return True
    return x is y or np.array_equal(_bits(x), _bits(y))


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
