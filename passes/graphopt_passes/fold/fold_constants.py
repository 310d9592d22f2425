"""fold-constants: evaluate nodes whose operands are all known.

%a = iota {size=4}          %c = constant [0, 2, 4, 6]
%b = full {value=2}    →
%c = mul %a, %b
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ops import FullAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter
from graphopt_passes.recipes import evaluated, uniform, written_out

_KEEP = frozenset({"constant", "full", "fused"})


@dataclass(frozen=True)
class FoldConstants(Pass):
    """`max_growth`: a result may be this many times larger than its operands together, so that an
    expanded constant does not swell the artifact; results under 64 KiB always fold.

    Numerics: exact: evaluation is the reference interpreter's, in the node's own precision.
    """

    name: ClassVar[str] = "fold-constants"
    numerics: ClassVar[Numerics] = EXACT
    max_growth: float = 1.5

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        rw = Rewriter(graph)
        for node in rw.nodes:
            arrays = _known(rw, node)
            if arrays is None:
                continue
            results = evaluated(node, arrays)
            reason = self._refusal(arrays, results)
            if reason:
                ctx.rejected(self.name, node, reason)
            elif ctx.spend():
                for old, array in zip(node.results, results, strict=True):
                    rw.replace(old, _constant(rw, old, array))
                ctx.fired(self.name, node)
        return rw.freeze()

    def _refusal(self, arrays: list[np.ndarray], results: list[np.ndarray]) -> str:
        made = sum(r.nbytes for r in results)
        given = sum(a.nbytes for a in arrays)
        if made > 65536 and made > self.max_growth * given:
            return f"its value takes {made} bytes, its operands {given}"
        return ""


def _known(rw: Rewriter, node: Node) -> list[np.ndarray] | None:
    """The operands' arrays when all are known, for a node worth evaluating."""
    if node.op.name in _KEEP or any(r.type.layout is not None for r in node.results):
        return None
    arrays: list[np.ndarray] = []
    for operand in node.operands:
        array = written_out(rw, operand)
        if array is None:
            return None
        arrays.append(array)
    return arrays


def _constant(rw: Rewriter, old: Value, array: np.ndarray) -> Value:
    """A splat stays a `full`, which costs no memory; anything else becomes a constant."""
    assert old.producer is not None
    loc = old.producer.loc
    number = uniform(array)
    if number is not None:
        attrs = FullAttrs(number, array.shape, old.type.dtype)
        return rw.emit("full", attrs=attrs, loc=loc)
    return rw.constant(array, name=old.name or "folded", loc=loc)
