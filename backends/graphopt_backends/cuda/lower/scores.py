"""Masks of attention's scores."""

from __future__ import annotations

import math

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import Expr, binary, cast, const, index_const, select
from graphopt.lower.access import Access

MASKED = -math.inf
"""The score of a key that a query does not see."""


def masked(access: Access, root: Node, e: Expr, at: tuple[Expr, Expr, Expr, Expr]) -> Expr:
    """The score `e` at (batch, head, query, key) under the root's masks. A query or key past the
    last one reads the mask of the last."""
    low = const(MASKED, e.dtype)
    *_, query, key = at
    if len(root.operands) > 3:
        counts = root.operands[0].type.dims[2], root.operands[1].type.dims[2]
        near = (binary("min", i, index_const(n - 1)) for i, n in zip(at[2:], counts, strict=True))
        mask = access.broadcast_at(root.operands[3], (*at[:2], *near))
        if mask.dtype is DType.BOOL:
            e = select(mask, e, low)
        else:
            e = binary("+", e, cast(mask, e.dtype))
    if root.attrs.causal:  # type: ignore[attr-defined]
        e = select(binary("<=", key, query), e, low)
    return e
