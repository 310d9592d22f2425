"""sink-reshapes: a reshape of the rows of a product moves behind it, where reshapes cancel.

%r = reshape %x {shape=[16,64]}              %m = linear %x, %w, %b
%m = linear %r, %w, %b                       %y = reshape %m {shape=[16,256]}
%y = reshape %m {shape=[1,16,256]}      →    %z = reshape %y {shape=[1,16,256]}   (the identity)
%z = gelu %y                                 ...

Between a product and what could be its epilogue, a reshape keeps them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ir.types import TensorType
from graphopt.ops import ReshapeAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, producer


def _linear(node: Node, rw: Rewriter) -> Recipe | Reject:
    reshape = producer(node.operands[0], "reshape")
    if reshape is None:
        return Reject("its input is not a reshape")
    (x,) = reshape.operands
    if not x.type.is_static:
        return Reject("a dimension is symbolic")
    if not keeps_rows(x.type, node.operands[0].type):
        return Reject("the reshape regroups elements within rows")
    if producer(x, "transpose") is not None:
        return Reject("the reshape copies a transposed value, which a product reads slowly")
    product = make("linear", x, *node.operands[1:])
    return make("reshape", product, attrs=ReshapeAttrs(node.result.type.dims))


def keeps_rows(before: TensorType, after: TensorType) -> bool:
    """Whether a reshape leaves the last axis as it is."""
    return before.rank > 0 and after.rank > 0 and before.shape[-1] == after.shape[-1]


RULES: Mapping[str, tuple[Rule, ...]] = {"linear": (_linear,)}


@dataclass(frozen=True)
class SinkReshapes(RulePass):
    """Numerics: exact. Refuses: reshapes that change rows, or that stand behind a transpose."""

    name: ClassVar[str] = "sink-reshapes"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
