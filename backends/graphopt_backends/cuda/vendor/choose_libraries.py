"""choose-libraries: products and convolutions that a vendor's library computes, split from what it
does not do.

  %c = fused %x, %w, %r {kind="contraction"} {conv, add, relu, pad}
→ %d = fused %x, %w, %r {kind="contraction", library="cudnn"} {conv, add, relu}
  %c = fused %d {kind="movement"} {pad}

What CUTLASS computes is a region as it was, less a `pad` at its end: its epilogue is made for it.

A `pad` that is split from one convolution, or stands alone, becomes padding of the next one's call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType
from graphopt.lower.link import flops
from graphopt.ops import ConvAttrs, FusedAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter, extract
from graphopt_backends.cuda.targets import GpuTarget
from graphopt_backends.cuda.vendor.choice import library_wins
from graphopt_backends.cuda.vendor.convolution import claimed
from graphopt_backends.cuda.vendor.match import CUTLASS, LIBRARY, Match, Mismatch, match

_AS_FAST = "the generated kernel is expected to be as fast"


@dataclass(frozen=True)
class ChooseLibraries(Pass):
    """`use` are the libraries that may be called, CUTLASS before others where it is among them;
    `always` calls them wherever they can be, else where a table expects it to pay; `tf32` lets them
    round the factors of f32 products to tf32.

    Numerics: exact: who computes a region does not change what it means; what tf32 rounds is the
    user's choice. Refuses: other targets than GPUs; regions that no call begins.
    """

    name: ClassVar[str] = "choose-libraries"
    numerics: ClassVar[Numerics] = EXACT
    use: tuple[str, ...] = ()
    always: bool = False
    tf32: bool = False

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        if not self.use or not isinstance(ctx.target, GpuTarget):
            return graph
        rw = Rewriter(graph)
        for old in graph.nodes:
            node = rw.values[old.results[0]].producer
            assert node is not None
            attrs = node.attrs
            if not isinstance(attrs, FusedAttrs) or attrs.library or attrs.kind != "contraction":
                continue
            whole = self._whole(node, rw, ctx.target)
            found = whole
            if isinstance(whole, Mismatch):
                found = self._found(node, rw, ctx.target)
            if isinstance(found, Mismatch):
                reasons = dict.fromkeys(
                    m.reason for m in (whole, found) if isinstance(m, Mismatch) and m.reason
                )
                ctx.rejected(self.name, node, "; ".join(reasons))
            elif ctx.spend():
                self._split(rw, node, found, CUTLASS if found is whole else self._library(found))
                ctx.fired(self.name, node)
        return rw.freeze()

    def _library(self, found: Match) -> str:
        rounds = self.tf32 and found.result.type.dtype is DType.F32
        return LIBRARY[found.function] + (".tf32" if rounds else "")

    def _whole(self, node: Node, rw: Rewriter, target: GpuTarget) -> Match | Mismatch:
        """What CUTLASS computes: all of a region, but for zeros around its result."""
        if CUTLASS not in self.use:
            return Mismatch("")
        if target.isa != "sm_90a":
            return Mismatch(f"CUTLASS: its kernels are for sm_90a, not for {target.isa}")
        found = claimed(_body(node))
        if isinstance(found, Mismatch):
            return found
        if found.root.op.name == "conv" and not _has_constant_weights(node, found, rw):
            return Mismatch("CUTLASS: its weights are no constants")
        moved = sum(v.type.size_bytes for v in (*node.operands, *node.results))
        dtype = found.root.operands[0].type.dtype
        pays = library_wins(flops(node), moved, 0, dtype, False, target)
        return found if self.always or pays else Mismatch(_AS_FAST)

    def _found(self, node: Node, rw: Rewriter, target: GpuTarget) -> Match | Mismatch:
        """What a call does of a region, if it is to."""
        body = _body(node)
        found = match(body)
        if isinstance(found, Mismatch):
            return found
        if LIBRARY[found.function] not in self.use:
            return Mismatch(f"{LIBRARY[found.function]} is not among the libraries to use")
        if "w" in found.roles and not _has_constant_weights(node, found, rw):
            return Mismatch("its weights are no constants")
        if self.always or self._pays(node, found, target):
            return found
        return Mismatch(_AS_FAST)

    def _pays(self, node: Node, found: Match, target: GpuTarget) -> bool:
        if isinstance(found.root.attrs, ConvAttrs) and found.root.attrs.groups > 1:
            return False
        whole = found.result in _body(node).outputs
        rest_bytes = 0 if whole else 2 * found.result.type.size_bytes
        moved = sum(v.type.size_bytes for v in (*node.operands, *node.results))
        dtype = found.result.type.dtype
        return library_wins(flops(node), moved, rest_bytes, dtype, self.tf32, target)

    def _split(self, rw: Rewriter, node: Node, found: Match, library: str) -> None:
        """The call's region, and one for the rest, if any."""
        body = _body(node)
        outside = dict(zip(body.inputs, node.operands, strict=True))
        attrs = FusedAttrs("contraction", library)
        called, operands = _called(found, outside, claimed if library == CUTLASS else match)
        call = rw.insert("fused", operands, attrs, loc=node.loc, body=called)
        outside[found.result] = call.result
        rest = [n for n in body.nodes if n not in found.nodes]
        if rest:
            made = [v for v in body.outputs if v is not found.result]
            read = list(dict.fromkeys(o for n in rest for o in n.operands if o in outside))
            kind = "movement" if rest[-1].op.kind == "movement" else "pointwise"
            second = rw.insert(
                "fused",
                [outside[v] for v in read],
                FusedAttrs(kind),
                loc=rest[-1].loc,
                body=extract(read, rest, made),
            )
            outside.update(zip(made, second.results, strict=True))
        for result, inside in zip(node.results, body.outputs, strict=True):
            rw.replace(result, outside[inside])


def _body(node: Node) -> Graph:
    assert node.body is not None
    return node.body


def _has_constant_weights(node: Node, found: Match, rw: Rewriter) -> bool:
    return rw.array(node.operands[_body(node).inputs.index(found.roles["w"])]) is not None


def _called(
    found: Match, outside: Mapping[Value, Value], matched: Callable[[Graph], Match | Mismatch]
) -> tuple[Graph, list[Value]]:
    """The call's body and operands. A pad of a convolution's input, if nothing else is done on the
    way and it still is `matched`, is taken in."""
    inputs = list(dict.fromkeys(found.roles.values()))
    operands = [outside[v] for v in inputs]
    plain = extract(inputs, found.nodes, [found.result])
    producer = operands[0].producer
    padded = producer.body if producer is not None else None
    if found.function != "conv" or padded is None or [n.op.name for n in padded.nodes] != ["pad"]:
        return plain, operands
    assert producer is not None
    joined = extract(
        [padded.inputs[0], *inputs[1:]],
        [*padded.nodes, *found.nodes],
        [found.result],
        {inputs[0]: padded.outputs[0]},
    )
    if isinstance(matched(joined), Mismatch):
        return plain, operands
    return joined, [producer.operands[0], *operands[1:]]
