"""simplify-attention: masks that are known, and heads that are repeated.

attention(q, k, v, all true)                →  attention(q, k, v)
attention(q, k, v, lower triangle)          →  attention(q, k, v) {causal=true}
attention(q, k, v, a band about diagonal)   →  attention(q, k, v) {window=64}
attention(q, k, v, and(lower triangle, m))  →  attention(q, k, v, m) {causal=true}
attention(q, repeat(k, 2), repeat(v, 2))    →  attention(q, k, v)    each read by two query heads
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import Dim, DType
from graphopt.ops import AttentionAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import (
    Recipe,
    Rule,
    RulePass,
    evaluated,
    laid_out,
    make,
    producer,
    written_out,
)

Dims = tuple[int, ...]

_MOST_NODES = 100
_MOST_SCORES = 1 << 26
"""Of a mask that is evaluated to see what it keeps."""


def _mask(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    attrs = node.attrs
    assert isinstance(attrs, AttentionAttrs)
    if len(node.operands) < 4:
        return None
    *inputs, mask = node.operands
    parts = {part: _keeps(part, rw) for part in _parts(mask)}
    arrays = {part: keeps for part, keeps in parts.items() if isinstance(keeps, np.ndarray)}
    scores = inputs[0].type.shape[2], inputs[1].type.shape[2]
    rest = set(parts)
    for group in (list(arrays), *([part] for part in arrays)):
        said = _said([arrays[part] for part in group], attrs, scores)
        if said is not None and rest.intersection(group):
            attrs, rest = said, rest.difference(group)
    if len(rest) == len(parts):
        reasons = [keeps for keeps in parts.values() if isinstance(keeps, str)]
        return Reject((*reasons, "its mask is neither full nor causal nor a band")[0])
    left: list[Recipe] = [part for part in parts if part in rest]
    masks = [reduce(lambda a, b: make("and", a, b), left)] if left else []
    return make("attention", *inputs, *masks, attrs=attrs)


def _parts(mask: Value) -> list[Value]:
    """What a mask keeps all have to keep."""
    node = producer(mask, "and", "expand")
    if node is None or mask.type.dtype is not DType.BOOL:
        return [mask]
    return [part for operand in node.operands for part in _parts(operand)]


def _keeps(mask: Value, rw: Rewriter) -> np.ndarray | str:
    """Which keys a mask keeps, or why that cannot be said."""
    array = _evaluated(mask, rw)
    if array is None:
        return "its mask is computed at run time"
    if array.dtype == np.bool_:
        return array
    keeps: np.ndarray = array == 0
    adds = not (keeps | np.isneginf(array)).all()
    return "its mask adds numbers to the scores" if adds else keeps


def _evaluated(mask: Value, rw: Rewriter) -> np.ndarray | None:
    """A mask that depends on no input: known, or made of positions by a few nodes, which
    fold-constants leaves because their value is larger than what they are made of."""
    if mask.type.dtype is not DType.BOOL:
        return written_out(rw, mask)
    nodes = _below(mask, rw)
    if not nodes:
        return rw.array(mask)
    values: dict[Value, np.ndarray] = {}
    for node in nodes:
        arrays = [values[o] if o in values else rw.array(o) for o in node.operands]
        made = evaluated(node, [a for a in arrays if a is not None])
        values.update(zip(node.results, made, strict=True))
    return values[mask]


def _below(mask: Value, rw: Rewriter) -> list[Node] | None:
    """What a value that is no constant is made by, in order; None if that takes an input, or too
    much."""
    order: dict[Node, None] = {}
    waiting = [mask.producer] if rw.array(mask) is None else []
    while waiting:
        node = waiting[-1]
        if node is None or len(waiting) + len(order) > _MOST_NODES or not _is_cheap(node):
            return None
        makers = [o.producer for o in node.operands if rw.array(o) is None]
        missing = [m for m in makers if m is None or m not in order]
        if not missing:
            order[node] = None
            waiting.pop()
        waiting += missing
    return list(order)


def _is_cheap(node: Node) -> bool:
    """To evaluate here."""
    types = [r.type for r in node.results]
    small = all(t.is_static and math.prod(t.dims) <= _MOST_SCORES for t in types)
    return small and node.body is None and not laid_out(node)


def _said(
    masks: Sequence[np.ndarray], attrs: AttentionAttrs, scores: tuple[Dim, Dim]
) -> AttentionAttrs | None:
    """The attributes that keep the same keys as these and all masks; None if there are none."""
    queries, keys = scores
    if all(mask.all() for mask in masks):
        return attrs
    if not isinstance(queries, int) or not isinstance(keys, int) or not queries * keys:
        return None
    kept = reduce(np.logical_and, masks, attrs.seen(queries, keys))
    one = kept.reshape(-1, queries, keys)[0]
    ahead, behind = int(one[0].sum()), int(one[:, 0].sum())
    behind = behind if behind < queries else 0
    for causal, window in ((True, behind), (False, ahead if ahead < keys else behind)):
        wanted = dataclasses.replace(attrs, causal=causal, window=window)
        if (kept == wanted.seen(queries, keys)).all():
            return wanted
    return None


def _heads(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    q, k, v, *mask = node.operands
    keys, values = _unrepeated(k), _unrepeated(v)
    if keys is None or values is None:
        return None
    if keys.type.shape[1] != values.type.shape[1]:
        return Reject("its keys and values repeat different numbers of heads")
    return make("attention", q, keys, values, *mask, attrs=node.attrs)


def _unrepeated(x: Value) -> Value | None:
    """What `x` repeats head by head: reshape(expand(reshape(y, [b,h,1,s,d]), [b,h,r,s,d]))."""
    joined = producer(x, "reshape")
    expand = producer(joined.operands[0], "expand") if joined is not None else None
    split = producer(expand.operands[0], "reshape") if expand is not None else None
    if split is None or expand is None:
        return None
    (y,) = split.operands
    steps = tuple(v.type for v in (y, split.result, expand.result, x))
    return y if all(t.is_static for t in steps) and _repeats(*(t.dims for t in steps)) else None


def _repeats(y: Dims, split: Dims, wide: Dims, x: Dims) -> bool:
    """Whether these shapes repeat each head of `y` in place, and nothing else."""
    if len(y) != 4 or len(wide) != 5:
        return False
    b, h, s, d = y
    times = wide[2]
    return split == (b, h, 1, s, d) and wide == (b, h, times, s, d) and x == (b, h * times, s, d)


RULES: Mapping[str, tuple[Rule, ...]] = {"attention": (_mask, _heads)}


@dataclass(frozen=True)
class SimplifyAttention(RulePass):
    """Numerics: exact: a masked key has weight 0. Refuses: masks computed at run time, or that keep
    neither every key, nor those up to the query's position, nor those near it.
    """

    name: ClassVar[str] = "simplify-attention"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
