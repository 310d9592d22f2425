"""join-concats: what a concatenation joins is written where it is to lie.

%a = fused .. {kind="contraction"} {..} : f32[1,8,4,4]@[0,2,3,1]
%b = fused .. {kind="contraction"} {..} : f32[1,4,4,4]@[0,2,3,1]
%c = fused %a, %b {kind="movement"} { concat } : f32[1,12,4,4]@[0,2,3,1]
→
%a = fused .. {kind="contraction"} {..} : f32[1,8,4,4]@[0,2,3,1:0:4]
%b = fused .. {kind="contraction"} {..} : f32[1,4,4,4]@[0,2,3,1:8:0]
%c = concat %a, %b {axis=1} : f32[1,12,4,4]@[0,2,3,1]

The halo of a part is where the other parts lie; plan-memory gives them one buffer. Parts that the
region computed itself, or that cannot lie there, are left to regions of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.views import parts_of
from graphopt.ops import ConcatAttrs, FusedAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter, extract

_REGION_BYTES = 32 << 10
"""What could be copied in the time that one more kernel takes to start."""

Part = Value | tuple[Value, ...]
"""A value outside that is written in place, or values of the region's body that are copied."""

Item = tuple[tuple[Value, ...], Value | None]
"""Operands in the region's body, and the value outside that they are, if any."""


@dataclass(frozen=True)
class JoinConcats(Pass):
    """`align_bytes`: what parts that are written in place, and their rows, begin at multiples of.

    Numerics: exact: every element is computed as before, and lies elsewhere. Refuses: parts that
    inputs, constants, views or libraries hold, or may turn out to, that lie in another order, in
    another concatenation already, or not aligned; what would take more kernels than it saves.
    """

    name: ClassVar[str] = "join-concats"
    numerics: ClassVar[Numerics] = EXACT
    align_bytes: int = 1

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        joins = _Joins(Rewriter(graph), self.align_bytes)
        for node in joins.rw.nodes:
            concat = _concat_of(node)
            if concat is None:
                continue
            parts = joins.plan(node, concat)
            if isinstance(parts, str):
                ctx.rejected(self.name, node, parts)
            elif ctx.spend():
                joins.join(node, concat, parts)
                ctx.fired(self.name, node)
        joins.lay_out()
        return joins.rw.freeze()


def _concat_of(region: Node) -> Node | None:
    """The concatenation that a region ends in."""
    body = region.body
    if body is None or len(body.outputs) != 1 or not body.outputs[0].type.is_static:
        return None
    last = body.outputs[0].producer
    return last if last is not None and isinstance(last.attrs, ConcatAttrs) else None


class _Joins:
    """Concatenations joined so far; `inside` tells of which one a value is a part."""

    def __init__(self, rw: Rewriter, align_bytes: int) -> None:
        self.rw, self.align_bytes = rw, align_bytes
        self.joined: list[Node] = []
        self.inside: dict[Value, Node] = {}
        self.states = {rw.outputs[s.output] for s in rw.states}

    def plan(self, region: Node, concat: Node) -> list[Part] | str:
        """The parts of the result, in order; or why they are not joined."""
        if region.result in self.states:
            return "it is written where the state of before may still be read"
        parts: list[Part] = []
        axis: int = concat.attrs.axis  # type: ignore[attr-defined]
        end = 0
        for inside, outside in self._grouped(region, concat):
            start, end = end, end + sum(v.type.dims[axis] for v in inside)
            movable = (
                outside is not None
                and self._movable(outside, region.result)
                and self._is_aligned(region.result, axis, start)
            )
            if outside is not None and movable and outside not in parts:
                parts.append(outside)
            elif parts and isinstance(parts[-1], tuple):
                parts[-1] = (*parts[-1], *inside)
            else:
                parts.append(inside)
        placed = sum(p.type.size_bytes for p in parts if isinstance(p, Value))
        copied = sum(isinstance(p, tuple) for p in parts)
        if placed <= _REGION_BYTES * (copied - 1) or not placed:
            return "copying its parts takes fewer kernels, and hardly longer"
        return parts

    def _grouped(self, region: Node, concat: Node) -> list[Item]:
        """The operands of the concatenation. Those that are joined already, one after the other,
        are what they make."""
        assert region.body is not None
        outer = dict(zip(region.body.inputs, region.operands, strict=True))
        items: list[Item] = [((v,), outer.get(v)) for v in concat.operands]
        i = 0
        while i < len(items):
            outside = items[i][1]
            join = None if outside is None else self.inside.get(outside)
            run = [] if join is None else items[i : i + len(join.operands)]
            if join is not None and join.attrs == concat.attrs and _are(run, join.operands):
                items[i : i + len(run)] = [(tuple(v for vs, _ in run for v in vs), join.result)]
            else:
                i += 1
        return items

    def _movable(self, value: Value, whole: Value) -> bool:
        """Whether a value can lie in a whole: regions alone write and read it."""
        made = value.producer
        ours = made is not None and (made in self.joined or _is_kernel(made))
        free = value not in self.inside and not self.rw.is_output(value)
        alike = value.type.order == whole.type.order and value.type.is_static
        return ours and free and alike and all(map(_is_kernel, self.rw.users(value)))

    def _is_aligned(self, whole: Value, axis: int, start: int) -> bool:
        """Whether the rows of a part that begins there, and it, are aligned as they lie in a
        whole."""
        type = whole.type
        steps = [s for d, s in zip(type.dims, type.strides, strict=True) if d > 1 and s > 1]
        steps += [type.offset, start * type.strides[axis]]
        return not any(step * type.dtype.size_bytes % self.align_bytes for step in steps)

    def join(self, region: Node, concat: Node, parts: Sequence[Part]) -> None:
        operands = [p if isinstance(p, Value) else self._copied(region, concat, p) for p in parts]
        node = self.rw.insert(
            "concat", operands, concat.attrs, loc=region.loc, types=[region.result.type]
        )
        self.rw.replace(region.result, node.result)
        self.rw.erase(region)
        self.joined.append(node)
        self.inside.update((o, node) for o in operands)

    def _copied(self, region: Node, concat: Node, values: Sequence[Value]) -> Value:
        """A region of its own for some operands of the concatenation."""
        assert region.body is not None
        nodes = _behind(values, region.body)
        read = dict.fromkeys(o for n in nodes for o in n.operands)
        inputs = [v for v in region.body.inputs if v in read or v in values]
        rw = Rewriter(extract(inputs, nodes, values))
        rw.outputs = [rw.emit("concat", *rw.outputs, attrs=concat.attrs, loc=concat.loc)]
        layout = region.result.type.layout
        rw.set_type(rw.outputs[0], rw.outputs[0].type.with_layout(layout))
        outer = dict(zip(region.body.inputs, region.operands, strict=True))
        operands = [outer[v] for v in inputs]
        attrs = FusedAttrs("movement")
        return self.rw.insert("fused", operands, attrs, loc=region.loc, body=rw.freeze()).result

    # Types ---------------------------------------------------------------------------------------

    def lay_out(self) -> None:
        """Give every part the type that it has in its whole: the last to be joined first, for what
        it joined before lies within."""
        moved: dict[Value, None] = {}
        for node in reversed(self.joined):
            axis: int = node.attrs.axis  # type: ignore[attr-defined]
            extents = [o.type.dims[axis] for o in node.operands]
            types = parts_of(node.result.type, axis, extents)
            for operand, type in zip(node.operands, types, strict=True):
                self.rw.set_type(operand, type)
                moved[operand] = None
        made = [v.producer for v in moved if v.producer is not None]
        read = [user for v in moved for user in self.rw.users(v)]
        for region in dict.fromkeys((*made, *read)):
            if region.body is not None:
                self.rw.set_body(region, _retyped(region))


def _are(items: Sequence[Item], values: Sequence[Value]) -> bool:
    return [outside for _, outside in items] == list(values)


def _is_kernel(node: Node) -> bool:
    """Whether generated code computes a node, which reads and writes any layout."""
    attrs = node.attrs
    ours = isinstance(attrs, FusedAttrs) and not (attrs.library or attrs.offers)
    return ours and attrs.kind != "opaque"  # type: ignore[attr-defined]


def _behind(values: Sequence[Value], body: Graph) -> list[Node]:
    """The nodes of a body that make values, in order."""
    wanted, out = set(values), []
    for node in reversed(body.nodes):
        if any(r in wanted for r in node.results):
            wanted.update(node.operands)
            out.append(node)
    return out[::-1]


def _retyped(region: Node) -> Graph:
    """The body of a region whose operands or results have got other layouts."""
    assert region.body is not None
    rw = Rewriter(region.body)
    for inside, outside in zip(rw.inputs, region.operands, strict=True):
        rw.set_type(inside, outside.type)
    for inside, outside in zip(rw.outputs, region.results, strict=True):
        rw.set_type(inside, outside.type)
    return rw.freeze()
