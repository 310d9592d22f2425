"""fuse: grow regions from the nodes that cost most, then wrap each in a `fused` node.

  %a = conv %x, %w              %c = fused %x, %w, %r {kind="contraction"} {
  %b = add %a, %r        →        ... conv, add, relu ...
  %c = relu %b                  }

Nothing is computed twice but index arithmetic (slices, transposes, expands), splats, and what few
gathers read (a resize).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.views import is_view
from graphopt.ops import FusedAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter, extract
from graphopt_passes.fuse.gathered import written_down
from graphopt_passes.fuse.regions import FREE, MATERIAL, Partition, Region

_INDEX_ONLY = frozenset({"slice", "transpose", "expand"})
_HEAVY = ("contraction", "depthwise", "window", "attention", "reduction")
_SCATTERS = {"scatter_nd": 2, "scatter_along": 2}
"""The first operand that is read once per element: updates, not positions."""
_PARAMETER_OPS = frozenset({"constant", *FREE})


@dataclass(frozen=True)
class Fuse(Pass):
    """Partition the graph into regions. `max_inputs` bounds the pointers of one kernel.

    Numerics: exact.
    """

    name: ClassVar[str] = "fuse"
    numerics: ClassVar[Numerics] = EXACT
    max_inputs: int = 16

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        computing = [n for n in graph.nodes if self._computes(n)]
        partition = Partition(graph, computing)
        growth = _Growth(self, partition, ctx)
        growth.epilogues()
        growth.prologues()
        growth.pointwise()
        return _Wrap(graph, partition).run()

    def _computes(self, node: Node) -> bool:
        return node.op.name not in (*_PARAMETER_OPS, "fused") and not is_view(node)


class _Growth:
    def __init__(self, options: Fuse, partition: Partition, ctx: PassContext) -> None:
        self.options, self.p, self.ctx = options, partition, ctx
        self.written = written_down(partition)

    def epilogues(self) -> None:
        """What a heavy node's result flows through alone, at its own shape, joins it."""
        for node in self.p.graph.nodes:
            region = self.p.of.get(node)
            if region is None or region.kind not in _HEAVY or region.root is not node:
                continue
            at: Node | None = node
            while at is not None:
                at = self._extend(region, at)

    def _extend(self, region: Region, node: Node) -> Node | None:
        if len(node.results) != 1:
            return None
        user = self.p.only_user(node.result)
        reason = self._epilogue_refusal(region, node, user)
        if user is None or reason:
            if user is not None:
                self.ctx.rejected(self.options.name, user, reason)
            return None
        if not self._merge(region, self.p.of[user]):
            return None
        return None if user.op.name == "pad" else user

    def _epilogue_refusal(self, region: Region, node: Node, user: Node | None) -> str:
        if user is None or user not in self.p.of:
            return "its input is read by several nodes"
        if len(self.p.of[user].nodes) > 1 or self.p.of[user].kind not in ("pointwise", "movement"):
            return "it already belongs to another region"
        if user.op.name == "pad":
            constant = user.attrs.mode == "constant"  # type: ignore[attr-defined]
            plain = region.kind != "reduction" and region.kind != "attention"
            return "" if constant and plain else "only a contraction writes a padded result"
        if user.op.kind != "pointwise":
            return f"{user.op.name} moves elements"
        same = user.result.type.shape == node.result.type.shape
        if not same or user.result.type.order != node.result.type.order:
            return "it changes the shape or the layout"
        return ""

    def prologues(self) -> None:
        """Rows read their pointwise producers in place, scatters what makes their updates;
        attention and products read through index arithmetic (done by copying it, see _Wrap)."""
        for node in reversed(self.p.graph.nodes):
            region = self.p.of.get(node)
            if region is not None and region.kind == "reduction":
                self._absorb(region, ("pointwise",))
            elif region is not None and node.op.name in _SCATTERS:
                self._absorb(region, ("pointwise", "movement"))

    def pointwise(self) -> None:
        """What is left joins along edges whose value nobody else reads."""
        for node in reversed(self.p.graph.nodes):
            region = self.p.of.get(node)
            if region is not None and region.kind in ("pointwise", "movement"):
                self._absorb(region, ("pointwise", "movement"))

    def _absorb(self, region: Region, kinds: tuple[str, ...]) -> None:
        """Take in producers all of whose readers lie inside, until none is left."""
        changed = True
        while changed:
            changed = False
            for node in list(region.nodes):
                for operand in node.operands[_SCATTERS.get(node.op.name, 0) :]:
                    changed |= self._absorb_producer(region, operand, kinds)

    def _absorb_producer(self, region: Region, value: Value, kinds: tuple[str, ...]) -> bool:
        producer = value.producer
        if producer is None or producer not in self.p.of:
            return False
        other = self.p.of[producer]
        if other is region or other.kind not in kinds or self.p.escapes(value, region):
            return False
        if any(n.op.name in MATERIAL for n in other.nodes):
            self.ctx.rejected(
                self.options.name, producer, f"{producer.op.name} is written to memory"
            )
            return False
        if any(self.p.escapes(r, region) for n in other.nodes for r in n.results if n is producer):
            return False
        if value in self.written:
            self.ctx.rejected(
                self.options.name, producer, "it would be computed for each place it is read at"
            )
            return False
        return self._merge(region, other)

    def _merge(self, region: Region, other: Region) -> bool:
        if self._input_count(region, other) > self.options.max_inputs:
            self.ctx.rejected(
                self.options.name, other.root, "the region would have too many inputs"
            )
            return False
        if not self.p.can_merge(region, other):
            self.ctx.rejected(
                self.options.name, other.root, "the regions would wait for each other"
            )
            return False
        if not self.ctx.spend():
            return False
        self.p.merge(region, other)
        self.ctx.fired(self.options.name, other.root)
        return True

    def _input_count(self, a: Region, b: Region) -> int:
        inside = {**a.nodes, **b.nodes}
        return len({o for n in inside for o in n.operands if o.producer not in inside})


class _Wrap:
    """Builds the graph of fused nodes."""

    def __init__(self, graph: Graph, partition: Partition) -> None:
        self.graph, self.p = graph, partition
        self.rw = Rewriter(graph)

    def run(self) -> Graph:
        for region in self.p.regions():
            self._wrap(region)
        return self.rw.freeze()

    def _wrap(self, region: Region) -> None:
        nodes = self._with_index_arithmetic(region)
        inside = set(nodes)
        inputs = list(dict.fromkeys(
            o for n in nodes for o in n.operands if o.producer is None or o.producer not in inside
        ))  # fmt: skip
        results = [
            r for n in nodes if n in region.nodes for r in n.results if self.p.escapes(r, region)
        ]
        body = extract(inputs, nodes, results)
        fused = self.rw.insert(
            "fused",
            [self.rw.values[v] for v in inputs],
            FusedAttrs(region.kind),
            loc=region.root.loc,
            body=body,
        )
        for old, new in zip(results, fused.results, strict=True):
            self.rw.replace(self.rw.values[old], new)
            self.rw.values[old] = new

    def _with_index_arithmetic(self, region: Region) -> list[Node]:
        """The region's nodes in order, with copies of the splats and index-only movement they
        read: reading through those costs nothing, computing them apart costs a copy."""
        extra: dict[Node, None] = {}
        stack = [o for n in region.nodes for o in n.operands]
        deep = region.kind in ("attention", "contraction", "reduction")
        while stack:
            producer = stack.pop().producer
            if producer is None or producer in region.nodes or producer in extra:
                continue
            if producer.op.name in FREE or (deep and self._is_index_only(producer)):
                extra[producer] = None
                stack.extend(producer.operands)
        members = {**extra, **region.nodes}
        return [n for n in self.graph.nodes if n in members]

    def _is_index_only(self, node: Node) -> bool:
        """A view, or movement in a region of such: what it reads is there to be read. In a region
        that computes, what it reads may stay inside."""
        region = self.p.of.get(node)
        alike = {node} if region is None else region.nodes
        return all(n.op.name in _INDEX_ONLY for n in alike)
