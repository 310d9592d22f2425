"""choose-libraries: products, convolutions and attention that a vendor's library computes, split
from what it does not do.

  %c = fused %x, %w, %r {kind="contraction"} {conv, add, relu, pad}
→ %d = fused %x, %w, %r {kind="contraction", library="cudnn"} {conv, add, relu}
  %c = fused %d {kind="movement"} {pad}

What CUTLASS computes is a region as it was, less a `pad` at its end: its epilogue is made for it.

A `pad` that is split from one convolution, or stands alone, becomes padding of the next one's call.

Left open, for a tuner, it splits nothing and says who could compute a region:

  %c = fused %x, %w, %r {kind="contraction", offers=["cudnn","kernel"]} {conv, add, relu, pad}

CUTLASS's other schedules are offers of their own, `cutlass.128x128x64_2x1_cooperative`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Node
from graphopt.ops import FusedAttrs
from graphopt.passbase import EXACT, Numerics, Pass, PassContext
from graphopt.rewrite import Rewriter
from graphopt.tune.openings import KERNEL
from graphopt_backends.cuda.targets import GpuTarget
from graphopt_backends.cuda.vendor.match import ATTENTION, LIBRARY, Mismatch
from graphopt_backends.cuda.vendor.offers import Asked, Offer, is_attention, offers, pays
from graphopt_backends.cuda.vendor.split import split

_AS_FAST = "the generated kernel is expected to be as fast"
_MEASURED = "the generated kernel was measured to be faster"


@dataclass(frozen=True)
class ChooseLibraries(Pass):
    """`use` are the libraries that may be called, CUTLASS before others where it is among them;
    cuDNN's attention is `cudnn-attention`. `always` calls them wherever they can be, else where a
    table expects it to pay; `tf32` lets them round the factors of f32 products to tf32. `open`
    decides nothing, and `by` what was measured: `DIGEST=cudnn`, `DIGEST=kernel`, where DIGEST is
    that of a region left open.

    Numerics: exact: who computes a region does not change what it means; what tf32 rounds is the
    user's choice. Refuses: other targets than GPUs; regions that no call begins.
    """

    name: ClassVar[str] = "choose-libraries"
    numerics: ClassVar[Numerics] = EXACT
    use: tuple[str, ...] = ()
    always: bool = False
    tf32: bool = False
    open: bool = False
    by: tuple[str, ...] = ()

    def left_open(self) -> Pass:
        return replace(self, open=True, by=()) if self.use else self

    def settled(self, by: Mapping[str, str]) -> Pass:
        if not self.use:
            return self
        return replace(self, open=False, by=tuple(f"{d}={who}" for d, who in sorted(by.items())))

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        if not self.use or not isinstance(ctx.target, GpuTarget):
            return graph
        rw = Rewriter(graph)
        measured = bool(self.open or self.by)
        asked = Asked(self._asked(), self.tf32, ctx.target, schedules=measured)
        for old in graph.nodes:
            node = rw.values[old.results[0]].producer
            assert node is not None
            if _is_undecided(node):
                self._visit(node, asked, rw, ctx)
        return rw.freeze()

    def _visit(self, node: Node, asked: Asked, rw: Rewriter, ctx: PassContext) -> None:
        found = offers(node, asked, lambda v: rw.array(v) is not None)
        made = [o for o in found if isinstance(o, Offer)]
        always = self.always and (ATTENTION in self.use or not is_attention(node))
        usual = (o for o in made if o.is_usual)
        first = next((o for o in usual if always or pays(o, node, asked.target)), None)
        opened = _opened(node, made, first)
        chosen, reason = self._measured(opened, made, first) if self.by else (first, _AS_FAST)
        if self.open and made:
            if ctx.spend():
                rw.set_attrs(node, opened.attrs)
                ctx.fired(self.name, node)
        elif chosen is None:
            reasons = [o.reason if isinstance(o, Mismatch) else reason for o in found]
            ctx.rejected(self.name, node, "; ".join(dict.fromkeys(reasons)))
        elif ctx.spend():
            split(rw, node, chosen)
            ctx.fired(self.name, node)

    def _asked(self) -> tuple[str, ...]:
        """What is measured is attention by cuDNN, too, where cuDNN may be called at all."""
        measured = self.open or self.by
        return (*self.use, ATTENTION) if measured and LIBRARY["attention"] in self.use else self.use

    def _measured(
        self, opened: Node, made: list[Offer], first: Offer | None
    ) -> tuple[Offer | None, str]:
        """Who was measured to be the fastest, else who is `first` by the table."""
        who = self._known.get(region_digest(opened))
        if who == KERNEL:
            return None, _MEASURED
        return next((o for o in made if o.library == who), first), _AS_FAST

    @cached_property
    def _known(self) -> dict[str, str]:
        parts = (text.partition("=") for text in self.by)
        return {digest: who for digest, _, who in parts}


def _is_undecided(node: Node) -> bool:
    attrs = node.attrs
    if not isinstance(attrs, FusedAttrs) or attrs.library or attrs.offers:
        return False
    return attrs.kind in ("contraction", "attention")


def _opened(node: Node, made: list[Offer], first: Offer | None) -> Node:
    """The region as it is left open: who the table chooses comes first, other schedules of CUTLASS
    last."""
    assert isinstance(node.attrs, FusedAttrs)
    usual, others = ([o.library for o in made if o.is_usual is how] for how in (True, False))
    names = [first.library if first else KERNEL, *usual, KERNEL, *others]
    attrs = replace(node.attrs, offers=tuple(dict.fromkeys(names)))
    types = [r.type for r in node.results]
    return Node(node.op, node.operands, attrs, types, loc=node.loc, body=node.body)
