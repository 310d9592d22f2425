"""eliminate-dead-code: what nobody reads goes, and results that nobody reads.

%v, %i = topk %x {k=1, axis=1}                     %v = max %x {axes=[1], keepdims=true}
return %v                                     →    return %v

%a, %b = fused %x {..} { .. return %p, %q }        %a = fused %x {..} { .. return %p }
return %a                                     →    return %a
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph, Node
from graphopt.ops import ArgmaxAttrs, MaxAttrs, TopkAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter


@dataclass(frozen=True)
class EliminateDeadCode(Pass):
    """Numerics: exact. Refuses: a topk of several elements, or of the smallest (which orders nan
    otherwise than min does).
    """

    name: ClassVar[str] = "eliminate-dead-code"
    numerics: ClassVar[Numerics] = EXACT

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        rw = Rewriter(graph)
        for node in reversed(rw.nodes):  # readers first: what only dead nodes read is dead
            read = [bool(rw.users(r)) or rw.is_output(r) for r in node.results]
            if not any(read):
                if ctx.spend():
                    rw.erase(node)
                    ctx.fired(self.name, node)
            elif not all(read):
                self._narrow(node, read, rw, ctx)
        return rw.freeze()

    def _narrow(self, node: Node, read: list[bool], rw: Rewriter, ctx: PassContext) -> None:
        """A node that makes only the results that are read."""
        reason = _refusal(node)
        if reason:
            ctx.rejected(self.name, node, reason)
        elif ctx.spend():
            narrowed = (
                _one_of_topk(node, read, rw) if node.body is None else _region(node, read, rw)
            )
            kept = (r for r, needed in zip(node.results, read, strict=True) if needed)
            for old, new in zip(kept, narrowed.results, strict=True):
                rw.replace(old, new)
            rw.erase(node)
            ctx.fired(self.name, node)


def _refusal(node: Node) -> str:
    if node.body is not None:
        return ""
    if not isinstance(node.attrs, TopkAttrs):
        return f"{node.op.name} makes all its results at once"
    if node.attrs.k != 1 or not node.attrs.largest:
        return "only the largest element alone is a max or an argmax"
    return ""


def _one_of_topk(node: Node, read: list[bool], rw: Rewriter) -> Node:
    assert isinstance(node.attrs, TopkAttrs)
    axis, types = node.attrs.axis, [r.type for r in node.results]
    if read[0]:
        attrs = MaxAttrs((axis,), True)
        return rw.insert("max", node.operands, attrs, loc=node.loc, types=types[:1])
    return rw.insert("argmax", node.operands, ArgmaxAttrs(axis, True), loc=node.loc,
                     types=types[1:])  # fmt: skip


def _region(node: Node, read: list[bool], rw: Rewriter) -> Node:
    """The region without the outputs that are not read, what they need, and what that reads."""
    assert node.body is not None
    body = node.body
    outputs = tuple(v for v, needed in zip(body.outputs, read, strict=True) if needed)
    pruned = Rewriter(dataclasses.replace(body, outputs=outputs, output_names=())).freeze()
    used = [bool(pruned.uses[v]) or v in pruned.outputs for v in pruned.inputs]
    inputs = tuple(v for v, needed in zip(pruned.inputs, used, strict=True) if needed)
    operands = [o for o, needed in zip(node.operands, used, strict=True) if needed]
    pruned = dataclasses.replace(pruned, inputs=inputs)
    return rw.insert("fused", operands, node.attrs, loc=node.loc, body=pruned)
