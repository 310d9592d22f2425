"""compose-views: reshapes, expands, transposes and flips that move nothing, or follow each other.

reshape(reshape(x, s), t)              →  reshape(x, t)
reshape, expand to the same shape      →  x
expand(expand(x, s), t)                →  expand(x, t)
expand(reshape(x), s)                  →  expand(x, s)     where the reshape adds axes in front
transpose of axes of extent 1          →  reshape
flip(flip(x, a), a), flip of extent 1  →  x
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ir.types import Dim
from graphopt.ops import ExpandAttrs, FlipAttrs, ReshapeAttrs, TransposeAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, producer


def _reshape(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    (x,) = node.operands
    if x.type.shape == node.result.type.shape:
        return x
    inner = producer(x, "reshape")
    if inner is None:
        return Reject("its operand is not a reshape")
    source = inner.operands[0]
    same = source.type.shape == node.result.type.shape
    return source if same else make("reshape", source, attrs=node.attrs)


def _expand(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    (x,) = node.operands
    if x.type.shape == node.result.type.shape:
        return x
    inner = producer(x, "expand", "reshape")
    if inner is None:
        return Reject("its operand is neither an expand nor a reshape")
    source = inner.operands[0]
    if inner.op.name == "reshape" and not _adds_leading(source.type.shape, x.type.shape):
        return Reject("the reshape before it does not only add axes in front")
    shape = tuple(d if isinstance(d, int) else -1 for d in node.result.type.shape)
    return make("expand", source, attrs=ExpandAttrs(shape))


def _adds_leading(shape: tuple[Dim, ...], longer: tuple[Dim, ...]) -> bool:
    lead = len(longer) - len(shape)
    return lead >= 0 and longer == (*(1,) * lead, *shape)


def _transpose(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    assert isinstance(node.attrs, TransposeAttrs)
    (x,) = node.operands
    if not x.type.is_static:
        return Reject("a dimension is symbolic")
    moved = [axis for axis in node.attrs.perm if x.type.dims[axis] != 1]
    if moved != sorted(moved):
        return Reject("it moves axes of more than one element")
    return make("reshape", x, attrs=ReshapeAttrs(node.result.type.dims))


def _flip(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    assert isinstance(node.attrs, FlipAttrs)
    (x,) = node.operands
    axes = {a for a in node.attrs.axes if x.type.shape[a] != 1}
    source, inner = x, producer(x, "flip")
    if inner is not None:
        assert isinstance(inner.attrs, FlipAttrs)
        source, axes = inner.operands[0], axes ^ set(inner.attrs.axes)
    elif len(axes) == len(node.attrs.axes):
        return Reject("it flips axes of more than one element, once")
    return make("flip", source, attrs=FlipAttrs(tuple(sorted(axes)))) if axes else source


RULES: Mapping[str, tuple[Rule, ...]] = {
    "reshape": (_reshape,), "expand": (_expand,), "transpose": (_transpose,), "flip": (_flip,),
}  # fmt: skip


@dataclass(frozen=True)
class ComposeViews(RulePass):
    """Numerics: exact. Refuses: pairs that do not compose; symbolic dimensions that move."""

    name: ClassVar[str] = "compose-views"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
