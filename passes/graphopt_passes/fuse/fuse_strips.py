"""fuse-strips: a convolution, the depthwise one after it and a 1x1 one after that as one kernel.

  %a = fused %x, .. {kind="contraction"} { conv, relu, pad }
  %b = fused %a, .. {kind="depthwise"} { conv, relu }       →   %c = fused %x, .. {kind="strips"} {
  %c = fused %b, .. {kind="contraction"} { conv, add }            conv, relu, pad, conv, relu, ... }

Strips of output rows are computed one after the other, and what lies between the convolutions stays
in the level 2 cache. Where that saves nothing the kernels stay apart, or only two of them join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Graph, Node, Value
from graphopt.lower.strips import USABLE, chain_of, links_of
from graphopt.ops import ConvAttrs, FusedAttrs, PadAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Plan, Reject, Rewriter

_CHANNELS_LAST = (0, 2, 3, 1)
_CACHE_BYTES, _LANES = 1 << 20, 16
"""Of a target that is not known."""

_BLOCK_VECTORS = 3
"""Vectors of channels that a product usually has in one panel."""

_SUMS = frozenset({"conv", "linear", "matmul"})


@dataclass(frozen=True)
class FuseStrips(Pass):
    """`cache_bytes`: what should hold the rows between two convolutions; 0 is the target's level 2
    cache. `least`: the share of the time that has to be saved; an estimate of less may be a loss.

    Numerics: exact; every sum is the same, some are computed twice. Refuses: depthwise regions
    whose neighbours are no plain convolutions or have other readers; layouts other than
    channels-last; chains whose intermediate images stay in the cache as they are.
    """

    name: ClassVar[str] = "fuse-strips"
    numerics: ClassVar[Numerics] = EXACT
    cache_bytes: int = 0
    least: float = 0.03

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        rw = Rewriter(graph)
        for node in rw.nodes:
            if not rw.alive(node) or _kind(node) != "depthwise":
                continue
            plan = self._plan(node, rw, ctx)
            if isinstance(plan, Reject):
                ctx.rejected(self.name, node, plan.reason)
            elif ctx.spend():
                _apply(plan, rw)
                ctx.fired(self.name, node)
        return rw.freeze()

    def _plan(self, node: Node, rw: Rewriter, ctx: PassContext) -> Plan | Reject:
        root = _root(node)
        if root is None or not _is_image(node):
            return Reject("it is no plain convolution of images with the channels last")
        before, after = _expand(node, root, rw), _project(node, rw)
        if isinstance(before, Reject) and isinstance(after, Reject):
            return Reject(f"{before.reason}, and {after.reason}")
        first = [] if isinstance(before, Reject) else [before]
        last = [] if isinstance(after, Reject) else [after]
        candidates = [[*first, node, *last], *([[*first, node]] if first and last else [])]
        costs = {i: self._costs(regions, ctx) for i, regions in enumerate(candidates)}
        best = max(costs, key=lambda i: costs[i][0] - costs[i][1])
        apart, joined = costs[best]
        if joined > (1 - self.least) * apart:
            return Reject("what lies between its neighbours and it stays in the cache anyway")
        return Plan(node, regions=candidates[best])

    def _costs(self, regions: Sequence[Node], ctx: PassContext) -> tuple[float, float]:
        """Of the regions apart, and by strips."""
        target = ctx.target
        cache = self.cache_bytes or (target.l2_bytes if target else _CACHE_BYTES)
        lanes = target.lanes_f32 if target else _LANES
        _, body = _merged(regions)
        links = links_of(body)
        channels = links.depthwise.root.result.type.dims[1]
        chain = chain_of(links, -(-channels // (_BLOCK_VECTORS * lanes)))
        # Where what is beyond the cache is slow, what passes through it is noticed: MobileNetV2's
        # chains at 56 squared, 1.9 of 2 MB, 0.87 of the time by strips on a Xeon.
        stays = cache * (USABLE if target is not None and target.is_slow_afar else 1.0)
        return chain.cost_apart(stays), chain.cost(chain.best_rows(cache), cache)


def _apply(plan: Plan, rw: Rewriter) -> None:
    operands, body = _merged(plan.regions)
    last = plan.regions[-1]
    fused = rw.insert("fused", operands, FusedAttrs("strips"), loc=plan.node.loc, body=body)
    rw.replace(last.result, fused.result)
    rw.erase_dead()


def _kind(node: Node) -> str:
    return node.attrs.kind if isinstance(node.attrs, FusedAttrs) else ""


def _root(region: Node) -> Node | None:
    """The only sum of a region that is a convolution of two-dimensional images."""
    assert region.body is not None
    sums = [n for n in region.body.nodes if n.op.name in _SUMS]
    if len(sums) != 1 or not isinstance(sums[0].attrs, ConvAttrs):
        return None
    attrs, rank = sums[0].attrs, sums[0].result.type.rank
    plain = not attrs.winograd and not attrs.strassen and rank == 4
    return sums[0] if plain and len(region.results) == 1 else None


def _is_image(region: Node) -> bool:
    """What a region writes lies in memory with the channels last."""
    type = region.result.type
    return type.rank == 4 and type.is_static and type.order == _CHANNELS_LAST


def _expand(node: Node, root: Node, rw: Rewriter) -> Node | Reject:
    """The region that makes the image a depthwise region convolves."""
    source = _outside(node, root.operands[0])
    region = source.producer if source is not None else None
    if source is None or region is None or _kind(region) != "contraction":
        return Reject("its input comes from no convolution")
    expand = _root(region)
    if expand is None or expand.attrs.groups != 1 or not _is_image(region):  # type: ignore[attr-defined]
        return Reject("its input comes from no plain convolution")
    if not _read_once(source, node, rw):
        return Reject("its input is read by several nodes")
    if not _pads_pixels(region.body.outputs[0]):  # type: ignore[union-attr]
        return Reject("its input has more channels than the convolution before")
    return region


def _project(node: Node, rw: Rewriter) -> Node | Reject:
    """The region of a 1x1 convolution that alone reads a depthwise region's result."""
    users = rw.users(node.result)
    if len(users) != 1 or _kind(users[0]) != "contraction":
        return Reject("its result goes to no convolution alone")
    region = users[0]
    root = _root(region)
    if root is None or not _is_image(region):
        return Reject("its result goes to no plain convolution")
    attrs = root.attrs
    assert isinstance(attrs, ConvAttrs)
    pointwise = root.operands[1].type.dims[2:] == (1, 1) and attrs.stride == (1, 1)
    if not pointwise or attrs.groups != 1:
        return Reject("the convolution after it sees more than one pixel")
    direct = _outside(region, root.operands[0]) is node.result
    if not direct or not _read_once(node.result, region, rw):
        return Reject("its result is read in other ways, too")
    if root.result.type.dims[2:] != node.body.outputs[0].type.dims[2:]:  # type: ignore[union-attr]
        return Reject("its result is padded")
    return region


def _outside(region: Node, inside: Value) -> Value | None:
    """The operand that a body's input stands for."""
    assert region.body is not None
    if inside not in region.body.inputs:
        return None
    return region.operands[region.body.inputs.index(inside)]


def _read_once(value: Value, region: Node, rw: Rewriter) -> bool:
    """Whether one node of one region reads a value, and nobody else."""
    assert region.body is not None
    if not rw.has_one_use(value):
        return False
    inside = region.body.inputs[region.operands.index(value)]
    return len(region.body.uses[inside]) == 1


def _pads_pixels(value: Value) -> bool:
    """A border, if there is one, lies around the pixels and not between channels or images."""
    if value.producer is None or not isinstance(value.producer.attrs, PadAttrs):
        return True
    attrs = value.producer.attrs
    return not any((*attrs.before[:2], *attrs.after[:2])) and min(*attrs.before, *attrs.after) >= 0


def _merged(regions: Sequence[Node]) -> tuple[list[Value], Graph]:
    """The operands and the body of several regions, one after the other, as one."""
    made = {r for region in regions for r in region.results}
    operands = list(dict.fromkeys(o for r in regions for o in r.operands if o not in made))
    rw = Rewriter(Graph(tuple(operands), (), ()))
    known = dict(rw.values)
    for region in regions:
        body = region.body
        assert body is not None
        known.update(zip(body.inputs, (known[o] for o in region.operands), strict=True))
        for node in body.nodes:
            copy = rw.insert(node.op.name, [known[o] for o in node.operands], node.attrs,
                             loc=node.loc, types=[r.type for r in node.results])  # fmt: skip
            known.update(zip(node.results, copy.results, strict=True))
        known.update(zip(region.results, (known[v] for v in body.outputs), strict=True))
    rw.outputs = [known[regions[-1].result]]
    return operands, rw.freeze()
