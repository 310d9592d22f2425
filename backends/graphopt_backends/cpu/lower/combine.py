"""Small constant matrices times vectors of expressions, with as few operations as their symmetry
allows."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.kernel.ir import Expr, Let, Stmt, Var, binary, broadcast, const

Row = tuple[float, ...]


def transformed(
    matrix: Sequence[Row], values: Sequence[Expr], prefix: str
) -> tuple[list[Stmt], list[Expr]]:
    """`matrix @ values`: bindings, whose names begin with `prefix`, and the result's elements.

    Two rows that differ in the sign of some columns alone share the sums over either kind of
    column: (a + b, a - b) costs two additions after both sums instead of twice their products.
    """
    lets: list[Stmt] = []
    out: list[Expr | None] = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if out[i] is not None:
            continue
        partner = next(
            (j for j in range(i + 1, len(matrix)) if out[j] is None and _differ(row, matrix[j])),
            None,
        )
        if partner is None:
            out[i] = _sum(row, values)
            continue
        kept = tuple(a if a == b else 0.0 for a, b in zip(row, matrix[partner], strict=True))
        turned = tuple(a if a != b else 0.0 for a, b in zip(row, matrix[partner], strict=True))
        a, b = _sum(kept, values), _sum(turned, values)
        names = f"{prefix}_{i}a", f"{prefix}_{i}b"
        lets += [Let(names[0], a), Let(names[1], b)]
        x, y = Var(a.dtype, a.lanes, names[0]), Var(b.dtype, b.lanes, names[1])
        out[i], out[partner] = binary("+", x, y), binary("-", x, y)
    return lets, [e for e in out if e is not None]


def _differ(a: Row, b: Row) -> bool:
    """Equal but for signs, in some column kept and in some column turned."""
    kept = [x for x, y in zip(a, b, strict=True) if x == y and x]
    turned = [x for x, y in zip(a, b, strict=True) if x == -y and x]
    return bool(kept and turned) and all(x in (y, -y) for x, y in zip(a, b, strict=True))


def _sum(row: Row, values: Sequence[Expr]) -> Expr:
    """The terms of one row, multiplications by one left out, a positive term first."""
    terms = sorted(
        ((c, v) for c, v in zip(row, values, strict=True) if c), key=lambda term: term[0] < 0
    )
    total: Expr | None = None
    for c, v in terms:
        scaled = v if abs(c) == 1 else binary("*", v, _like(abs(c), v))
        if total is None:
            total = scaled if c > 0 else binary("-", _like(0.0, v), scaled)
        else:
            total = binary("+" if c > 0 else "-", total, scaled)
    assert total is not None
    return total


def _like(value: float, e: Expr) -> Expr:
    return broadcast(const(value, e.dtype), e.lanes)
