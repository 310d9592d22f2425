"""simplify-attention: masks that are known, and heads that are repeated.

attention(q, k, v, all true)                →  attention(q, k, v)
attention(q, k, v, lower triangle)          →  attention(q, k, v) {causal=true}
attention(q, k, v, a band about diagonal)   →  attention(q, k, v) {window=64}
attention(q, k, v, and(lower triangle, m))  →  attention(q, k, v, m) {causal=true}
attention(q, repeat(k, 2), repeat(v, 2))    →  attention(q, k, v)    each read by two query heads
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import Dim
from graphopt.ops import AttentionAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, known, make, producer, with_known

Dims = tuple[int, ...]


def _mask(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    assert isinstance(node.attrs, AttentionAttrs)
    if len(node.operands) < 4:
        return None
    *inputs, mask = node.operands
    left: tuple[Value, ...] = ()
    both = producer(mask, "and")
    parts = with_known(rw, both) if both is not None else None
    if parts is not None:
        left, mask = parts[:1], parts[1]
    array = known(rw, mask)
    if array is None:
        return Reject("its mask is computed at run time")
    keeps = _kept(array)
    if keeps is None:
        return Reject("its mask adds numbers to the scores")
    if keeps.all():
        return make("attention", *inputs, *left, attrs=node.attrs)
    said = _said(keeps, (node.operands[0].type.shape[2], node.operands[1].type.shape[2]))
    if said is None:
        return Reject("its mask is neither full nor causal nor a band")
    return make("attention", *inputs, *left, attrs=_with(node.attrs, *said))


def _said(keeps: np.ndarray, scores: tuple[Dim, Dim]) -> tuple[bool, int] | None:
    """`causal` and `window` that keep the same keys."""
    if keeps.shape[-2:] != scores or not keeps.size:
        return None
    queries, keys = keeps.shape[-2:]
    first = keeps.reshape(-1, queries, keys)[0]
    ahead, behind = int(first[0].sum()), int(first[:, 0].sum())
    behind = behind if behind < queries else 0
    for causal, window in ((True, behind), (False, ahead if ahead < keys else behind)):
        if (keeps == AttentionAttrs(1.0, causal, window).seen(queries, keys)).all():
            return causal, window
    return None


def _with(attrs: AttentionAttrs, causal: bool, window: int) -> AttentionAttrs:
    """What keeps the keys that both keep."""
    narrowest = min((w for w in (attrs.window, window) if w), default=0)
    return dataclasses.replace(attrs, causal=attrs.causal or causal, window=narrowest)


def _kept(mask: np.ndarray) -> np.ndarray | None:
    """Which keys a mask keeps; None for one that does more than that."""
    if mask.dtype == np.bool_:
        return mask
    keeps = mask == 0
    return keeps if (keeps | np.isneginf(mask)).all() else None


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
