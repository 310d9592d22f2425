"""merge-parallel-products: linears that share their input become one, and slices of its result.

%q = linear %x, %wq        %m = linear %x, [%wq; %wk; %wv]
%k = linear %x, %wk   →    %q = slice %m [.., 0:64]
%v = linear %x, %wv        %k = slice %m [.., 64:128] ...

Not in the default pipeline: it does not pay there. bert_base at 128 tokens, one thread of a 2-core
AVX-512 machine, CPU time of 40 interleaved runs: median 229.0 ms without, 227.5 ms with (the median
of the paired ratios is 0.993, their quartiles 0.975 and 1.015), for 90 kernel calls in place of
114. The panels of packed weights are as wide either way, and x stays in cache between the products.
gpt2 and llama_small: 1.00. It may pay where products are narrow and launches dear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ops import SliceAttrs
from graphopt.passbase import REASSOCIATES, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class MergeParallelProducts(Pass):
    """`max_width`: merged results are at most this wide.

    Numerics: reassociates: the order of a sum may depend on the width of the product. Refuses:
    weights computed at run time or shared; a linear that shares its input with no other.
    """

    name: ClassVar[str] = "merge-parallel-products"
    numerics: ClassVar[Numerics] = REASSOCIATES
    max_width: int = 4096

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        rw = Rewriter(graph)
        for value in (*rw.inputs, *(r for n in rw.nodes for r in n.results)):
            group: list[Node] = []
            for node in rw.users(value):
                if node.op.name != "linear" or node.operands[0] is not value:
                    continue
                reason = _refusal(node, rw) or self._overflow(group, node)
                if reason:
                    ctx.rejected(self.name, node, reason)
                else:
                    group.append(node)
            if len(group) == 1:
                ctx.rejected(self.name, group[0], "no other linear reads its input")
            elif group and ctx.spend():
                _merge(group, rw)
                ctx.fired(self.name, group[0])
        return rw.freeze()

    def _overflow(self, group: list[Node], node: Node) -> str:
        width = sum(_width(n) for n in (*group, node))
        return f"together they would be {width} wide" if width > self.max_width else ""


def _refusal(node: Node, rw: Rewriter) -> str:
    if any(rw.array(p) is None for p in node.operands[1:]):
        return "its weights are computed at run time"
    if not rw.has_one_use(node.operands[1]):
        return "its weights are shared"
    return LAID_OUT if laid_out(node) else ""


def _width(node: Node) -> int:
    return node.operands[1].type.dims[0]


def _merge(group: list[Node], rw: Rewriter) -> None:
    first = group[0]
    weights = rw.constant(_stacked([n.operands[1] for n in group], rw), name="merged.weight")
    operands = [first.operands[0], weights]
    if any(len(n.operands) > 2 for n in group):
        biases = [_bias(n, rw) for n in group]
        operands.append(rw.constant(np.concatenate(biases), name="merged.bias"))
    merged = rw.insert("linear", operands, loc=first.loc).result
    at = 0
    for node in group:
        part = rw.emit("slice", merged, attrs=_columns(merged, at, _width(node)), loc=node.loc)
        rw.replace(node.result, part)
        at += _width(node)


def _stacked(values: list[Value], rw: Rewriter) -> np.ndarray:
    arrays = [rw.array(v) for v in values]
    return np.concatenate([a for a in arrays if a is not None])


def _bias(node: Node, rw: Rewriter) -> np.ndarray:
    array = rw.array(node.operands[2]) if len(node.operands) > 2 else None
    return np.zeros(_width(node), node.result.type.dtype.numpy) if array is None else array


def _columns(merged: Value, start: int, width: int) -> SliceAttrs:
    dims = merged.type.dims
    zeros, ones = (0,) * (len(dims) - 1), (1,) * len(dims)
    return SliceAttrs((*zeros, start), (*dims[:-1], start + width), ones)
