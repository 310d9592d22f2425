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


def masked(
    access: Access, root: Node, e: Expr, at: tuple[Expr, Expr, Expr, Expr], *, beyond: bool = False
) -> Expr:
    """The score `e` at (batch, head, query, key) under the root's masks. Where tiles reach `beyond`
    the last query or key, what is there reads the mask of the last."""
    assert isinstance(root.attrs, AttentionAttrs)
    low = const(MASKED, e.dtype)
    *outer, query, key = at
    if len(root.operands) > 3:
        near = [query, key]
        if beyond:
            counts = root.operands[0].type.dims[2], root.operands[1].type.dims[2]
            near = [binary("min", i, index_const(n - 1)) for i, n in zip(near, counts, strict=True)]
        mask = access.broadcast_at(root.operands[3], (*outer, *near))
        if mask.dtype is DType.BOOL:
            e = select(mask, e, low)
        else:
            e = binary("+", e, cast(mask, e.dtype))
    for sees in _between(root.attrs, (query, query), (key, key)):
        e = select(sees, e, low)
    return e


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
        ahead = 0 if attrs.causal else attrs.window - 1
        out.append(binary("<=", first_key, binary("+", last_query, index_const(ahead))))
    if attrs.window:
        behind = index_const(attrs.window - 1)
        out.append(binary("<=", first_query, binary("+", last_key, behind)))
    return out


def _always(condition: Expr, ranges: Ranges) -> bool:
    """Whether a <= b holds for all values of the loop variables."""
    if not isinstance(condition, Binary):
        return isinstance(condition, Const) and bool(condition.value)
    _, most = interval(binary("-", condition.a, condition.b), ranges)
    return most <= 0
