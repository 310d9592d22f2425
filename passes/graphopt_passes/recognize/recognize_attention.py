"""recognize-attention: scaled dot-product attention, spelled out, becomes `attention`.

%s = matmul %q, %kt
%d = div %s, 8.0
%m = add %d, %mask                   →   %k = transpose %kt {perm=[0,1,3,2]}
%p = softmax %m {axis=3}                 %y = attention %q, %k, %v, %mask {scale=0.125}
%y = matmul %p, %v

The scores are never written to memory then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.ops import AttentionAttrs, ReshapeAttrs, SoftmaxAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import (
    Make,
    Recipe,
    Rule,
    RulePass,
    full,
    is_known,
    make,
    producer,
    splat,
    type_of,
)

_NEVER = -1e30
"""What is added to a score that is not to count. It leaves nothing of the score itself."""


Dims = tuple[int, ...]


@dataclass(frozen=True)
class _Scores:
    """What a softmax is taken of: `scale` * (`factor` * q) k^T, plus all of `masks`; where one is
    boolean, only the keys that it keeps."""

    product: Node
    scale: float = 1.0
    factor: Recipe | None = None
    masks: tuple[Recipe, ...] = ()


def _attention(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    weights, v = node.operands
    view = producer(weights, "reshape")
    if view is not None and rw.has_one_use(weights) and _keeps_scores(view):
        (weights,) = view.operands
    softmax = producer(weights, "softmax")
    if softmax is None:
        return None
    assert isinstance(softmax.attrs, SoftmaxAttrs)
    if softmax.attrs.axis % weights.type.rank != weights.type.rank - 1:
        return Reject("its softmax is not over the last axis")
    if not rw.has_one_use(weights):
        return Reject("its weights are read by others, too")
    scores = _scores(softmax.operands[0], rw)
    if isinstance(scores, Reject):
        return scores
    made = _made(scores, v, weights, rw)
    if isinstance(made, Reject) or type_of(made).dims == node.result.type.dims:
        return made
    return make("reshape", made, attrs=ReshapeAttrs(node.result.type.dims))


def _scores(value: Value, rw: Rewriter) -> _Scores | Reject:
    """A product under scales, factors and masks, each read once."""
    node = value.producer
    if node is None or not value.type.is_static or not rw.has_one_use(value):
        return Reject("its scores are read by others, too")
    if node.op.name == "matmul":
        return _Scores(node)
    peel = _PEELS.get(node.op.name)
    if peel is None:
        return Reject(f"its scores come from {node.op.name}, not from a product")
    nearest = Reject("its scores come from no product")
    for inner, wrap in peel(node, rw):
        found = _scores(inner, rw)
        if isinstance(found, Reject):
            nearest = found
        else:
            return wrap(found)
    return nearest


Wrap = Callable[[_Scores], "_Scores | Reject"]
Peeled = Iterable[tuple[Value, Wrap]]
"""Operands that may be scores, and what the node makes of them."""


def _mul(node: Node, rw: Rewriter) -> Peeled:
    for inner, other in _either(node):
        number = splat(rw, other)
        if number is not None:
            yield inner, partial(_scaled, number)
        elif other.type.rank and other.type.dims[-1] == 1:
            yield inner, partial(_multiplied, other)


def _div(node: Node, rw: Rewriter) -> Peeled:
    inner, other = node.operands
    number = splat(rw, other)
    if number and inner.type.shape == node.result.type.shape:
        yield inner, partial(_scaled, 1 / number)


def _add(node: Node, rw: Rewriter) -> Peeled:
    del rw
    for inner, other in _either(node):
        yield inner, partial(_masked, other)


def _where(node: Node, rw: Rewriter) -> Peeled:
    """Scores that a condition replaces by a number that leaves nothing of them."""
    condition, then, otherwise = node.operands
    for inner, other, kept in ((then, otherwise, True), (otherwise, then, False)):
        fill = splat(rw, other)
        if fill is None or fill > _NEVER or inner.type.shape != node.result.type.shape:
            continue
        keeps: Recipe = condition if kept else make("logical_not", condition)
        mask = keeps if math.isinf(fill) else _added(keeps, fill, other.type.dtype)
        yield inner, partial(_masked, mask)


def _reshape(node: Node, rw: Rewriter) -> Peeled:
    del rw
    (inner,) = node.operands
    if _keeps_scores(node):
        yield inner, partial(_reshaped, inner.type.dims[:-2], node.result.type.dims[:-2])


def _keeps_scores(reshape: Node) -> bool:
    """Whether the last two axes stay, and those in front of them are joined or split."""
    x, y = reshape.operands[0].type, reshape.result.type
    return x.is_static and min(x.rank, y.rank) >= 2 and x.dims[-2:] == y.dims[-2:]


def _either(node: Node) -> Iterator[tuple[Value, Value]]:
    """An operand of the result's shape, and the other one."""
    x, y = node.operands
    for inner, other in ((x, y), (y, x)):
        if inner.type.shape == node.result.type.shape:
            yield inner, other


_PEELS: Mapping[str, Callable[[Node, Rewriter], Peeled]] = {
    "mul": _mul, "div": _div, "add": _add, "where": _where, "reshape": _reshape,
}  # fmt: skip


def _scaled(number: float, scores: _Scores) -> _Scores | Reject:
    if scores.masks:
        return Reject("a mask is scaled, too")
    return replace(scores, scale=scores.scale * number)


def _multiplied(factor: Recipe, scores: _Scores) -> _Scores | Reject:
    if scores.masks or scores.factor is not None:
        return Reject("a mask is scaled, too")
    return replace(scores, factor=factor)


def _masked(mask: Recipe, scores: _Scores) -> _Scores:
    return replace(scores, masks=(*scores.masks, mask))


def _added(keeps: Recipe, fill: float, dtype: DType) -> Recipe:
    """A boolean mask as numbers to add."""
    return make("where", keeps, full(0.0, (), dtype), full(fill, (), dtype))


def _reshaped(before: Dims, after: Dims, scores: _Scores) -> _Scores | Reject:
    """Masks and the factor follow the axes in front of the last two of their scores."""
    masks = [_moved(m, before, after) for m in scores.masks]
    factor = None if scores.factor is None else _moved(scores.factor, before, after)
    kept = [m for m in masks if m is not None]
    if len(kept) < len(masks) or (factor is None and scores.factor is not None):
        return Reject("axes that a mask is broadcast along are joined or split")
    return replace(scores, factor=factor, masks=tuple(kept))


def _moved(x: Recipe, before: Dims, after: Dims) -> Recipe | None:
    """What broadcasts to scores whose axes in front of the last two change: where that is the same
    for all of them, or where only axes of one element come or go."""
    dims = type_of(x).dims
    wide = (*(1,) * (len(before) + 2 - len(dims)), *dims)
    if math.prod(wide[:-2]) == 1:
        lead: Dims = (1,) * len(after)
    elif [d for d in before if d != 1] == [d for d in after if d != 1]:
        kept = iter([d for d, scored in zip(wide, before, strict=False) if scored != 1])
        lead = tuple(1 if scored == 1 else next(kept) for scored in after)
    else:
        return None
    return make("reshape", x, attrs=ReshapeAttrs((*lead, *wide[-2:])))


def _made(scores: _Scores, v: Value, weights: Value, rw: Rewriter) -> Recipe | Reject:
    """Attention over [batch, heads, sequence, features]; what lies before the last two axes of the
    weights are batches and heads."""
    q, turned = scores.product.operands
    lead, factors = weights.type.dims[:-2], (q, turned, v)
    if not all(
        x.type.is_static and math.prod(x.type.dims[:-2]) == math.prod(lead) for x in factors
    ):
        return Reject("its factors are broadcast, or a dimension is symbolic")
    if len(lead) > 2 and (scores.masks or scores.factor is not None):
        return Reject("it has a mask or a factor, and more than one axis of batches")
    heads = lead if len(lead) == 2 else (1, math.prod(lead))
    rank = turned.type.rank
    k = make("transpose", turned, attrs=TransposeAttrs((*range(rank - 2), rank - 1, rank - 2)))
    inputs = [_by_heads(x, heads) for x in (q, k, v)]
    if scores.factor is not None:
        inputs[0] = make("mul", inputs[0], scores.factor)
    if any(_is_computed(m, rw) and type_of(m).numel >= weights.type.numel for m in scores.masks):
        return Reject("its mask is as large as its scores, and computed at run time")
    mask = _joined(scores.masks, weights.type.dtype)
    masks = [] if mask is None else [mask]
    return make("attention", *inputs, *masks, attrs=AttentionAttrs(scores.scale))


def _is_computed(mask: Recipe, rw: Rewriter) -> bool:
    if isinstance(mask, Make):
        return any(_is_computed(o, rw) for o in mask.operands)
    return not is_known(rw, mask)


def _by_heads(x: Recipe, heads: Dims) -> Recipe:
    dims = (*heads, *type_of(x).dims[-2:])
    return x if type_of(x).dims == dims else make("reshape", x, attrs=ReshapeAttrs(dims))


def _joined(masks: tuple[Recipe, ...], dtype: DType) -> Recipe | None:
    """One mask: a lone boolean one as it is, several as numbers that add up."""
    if len(masks) <= 1:
        return masks[0] if masks else None
    first, *others = (
        m if type_of(m).dtype is dtype else _added(m, -math.inf, dtype) for m in masks
    )
    for other in others:
        first = make("add", first, other)
    return first


RULES: Mapping[str, tuple[Rule, ...]] = {"matmul": (_attention,)}


@dataclass(frozen=True)
class RecognizeAttention(RulePass):
    """Numerics: reassociates: the scale is a factor, and rows are normalized after the second
    product; a query whose keys are all masked by -inf gets zeros, not nan. Refuses: softmaxes over
    another axis; scores or weights that others read; masks that are scaled, that leave something of
    a score, or that are computed and as large as the scores; factors that are broadcast.
    """

    name: ClassVar[str] = "recognize-attention"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
