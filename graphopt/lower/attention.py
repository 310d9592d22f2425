"""Which scores of attention count: its mask, and the keys that causal attention and windows leave a
query."""

from __future__ import annotations

import math
from functools import partial, reduce

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.affine import Ranges
from graphopt.kernel.bounds import interval
from graphopt.kernel.ir import (
    Binary,
    Const,
    Expr,
    If,
    Stmt,
    binary,
    cast,
    const,
    index_const,
    select,
)
from graphopt.lower.access import Access
from graphopt.ops import AttentionAttrs

MASKED = -math.inf
"""The score of a key that a query does not see."""

Span = tuple[Expr, Expr]
"""The first and the last of neighbouring queries or keys."""


def masked(access: Access, root: Node, e: Expr, at: tuple[Expr, Expr, Expr, Expr]) -> Expr:
    """The score `e` at (batch, head, query, key) under the root's masks. A query or key past the
    last one reads the mask of the last."""
    assert isinstance(root.attrs, AttentionAttrs)
    low = const(MASKED, e.dtype)
    *_, query, key = at
    if len(root.operands) > 3:
        counts = root.operands[0].type.dims[2], root.operands[1].type.dims[2]
        near = (binary("min", i, index_const(n - 1)) for i, n in zip(at[2:], counts, strict=True))
        mask = access.broadcast_at(root.operands[3], (*at[:2], *map(access.simplify, near)))
        if mask.dtype is DType.BOOL:
            e = select(mask, e, low)
        else:
            e = binary("+", e, cast(mask, e.dtype))
    ahead = cast(binary("-", key, query), DType.I32)  # as many lanes as a vector of scores
    for sees in _near(root.attrs, ahead):
        e = select(sees, e, low)
    return e


def _near(attrs: AttentionAttrs, ahead: Expr) -> list[Expr]:
    """What must hold for a key to be seen that lies `ahead` of the query."""
    out = []
    if attrs.causal or attrs.window:
        most = 0 if attrs.causal else attrs.window - 1
        out.append(binary("<=", ahead, const(most, DType.I32)))
    if attrs.window:
        out.append(binary(">", ahead, const(-attrs.window, DType.I32)))
    return out


def where_seen(access: Access, root: Node, queries: Span, keys: Span, body: Stmt) -> Stmt:
    """`body` under the condition that one of those queries sees one of those keys, by what causal
    attention and windows say; as it is where that is sure."""
    assert isinstance(root.attrs, AttentionAttrs)
    conditions = _between(root.attrs, queries, keys)
    sees = [c for c in conditions if not _always(c, access.ranges)]
    return If(reduce(partial(binary, "and"), sees), body) if sees else body


def _between(attrs: AttentionAttrs, queries: Span, keys: Span) -> list[Expr]:
    """What must hold for a key of one span to be seen from the other."""
    (first_query, last_query), (first_key, last_key) = queries, keys
    out = []
    if attrs.causal or attrs.window:
        after = 1 if attrs.causal else attrs.window
        out.append(binary("<", first_key, binary("+", last_query, index_const(after))))
    if attrs.window:
        out.append(binary("<", first_query, binary("+", last_key, index_const(attrs.window))))
    return out


def _always(condition: Expr, ranges: Ranges) -> bool:
    """Whether a < b holds for all values of the loop variables."""
    if not isinstance(condition, Binary):
        return isinstance(condition, Const) and bool(condition.value)
    _, most = interval(binary("-", condition.a, condition.b), ranges)
    return most < 0
