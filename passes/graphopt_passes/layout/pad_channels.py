"""pad-channels: channels that a convolution reads, brought to a multiple by zeros.

  %y = conv %x, %w      x: f16[1,3,224,224]   →   %p = pad %x {after=[0,5,0,0]}
                        w: f16[64,3,7,7]          %y = conv %p, %w.padded    w: f16[64,8,7,7]

Channels lie last, and GPUs read 16 bytes of them at once: with three of a half, tensor cores stand
still. The copy is one that the change of layout or a border makes anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ops import ConvAttrs, PadAttrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out


@dataclass(frozen=True)
class PadChannels(RewritePass):
    """`multiple` is what the number of channels is brought to; 1 does nothing.

    Numerics: exact: zeros times zeros. Refuses: groups; weights that are no constants.
    """

    name: ClassVar[str] = "pad-channels"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar = ConvAttrs
    multiple: int = 1

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        x, w = node.operands[:2]
        missing = -x.type.dims[1] % self.multiple
        if not missing:
            return Reject(f"its channels are a multiple of {self.multiple}")
        if laid_out(node):
            return Reject(LAID_OUT)
        if node.attrs.groups > 1:  # type: ignore[attr-defined]
            return Reject("it has groups")
        weights = rw.array(w)
        if weights is None:
            return Reject("its weights are computed while the model runs")
        return Plan(node, missing=missing, weights=weights)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        node = plan.node
        x, w, *bias = node.operands
        none = (0,) * (x.type.rank - 2)
        attrs = PadAttrs((0, 0, *none), (0, plan.missing, *none))
        wide = np.pad(plan.weights, [(0, 0), (0, plan.missing), *((0, 0) for _ in none)])
        weights = rw.constant(wide, name=f"{w.name}.padded", loc=node.loc)
        padded = rw.emit("pad", x, attrs=attrs, loc=node.loc)
        made = rw.emit("conv", padded, weights, *bias, attrs=node.attrs, loc=node.loc)
        rw.replace(node.result, made)
