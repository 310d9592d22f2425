"""Index arithmetic: linear forms, bounds, and the simplification of // and % by loop ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from graphopt.kernel.ir import (
    INDEX,
    Binary,
    Broadcast,
    Const,
    Expr,
    Ramp,
    Var,
    binary,
    index_const,
)

Ranges = Mapping[str, int]
"""Loop variable → extent; the variable lies in [0, extent)."""


@dataclass(frozen=True)
class Linear:
    """`sum(coefficient * atom) + constant`. An atom is a Var, or an expression that is not linear
    in its variables (//, %, min, a loaded index, ...)."""

    terms: tuple[tuple[Expr, int], ...]
    constant: int

    def coefficient(self, name: str) -> int:
        return next((c for a, c in self.terms if isinstance(a, Var) and a.name == name), 0)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def expr(self) -> Expr:
        out: Expr | None = None
        for atom, c in self.terms:
            term = binary("*", atom, index_const(c))
            out = term if out is None else binary("+", out, term)
        if out is None:
            return index_const(self.constant)
        if self.constant < 0:
            return binary("-", out, index_const(-self.constant))
        return binary("+", out, index_const(self.constant))


def linear(e: Expr, ranges: Ranges) -> Linear:
    """The simplified linear form of a scalar index expression."""
    terms: dict[Expr, int] = {}
    constant = _collect(e, 1, terms, ranges)
    _recombine(terms)
    ordered = sorted(((a, c) for a, c in terms.items() if c), key=lambda t: -abs(t[1]))
    return Linear(tuple(ordered), constant)


def simplify_index(e: Expr, ranges: Ranges) -> Expr:
    """An equal, usually smaller expression: like terms joined, // and % resolved where the ranges
    of the loop variables allow, `(x//8)*8 + x%8` recombined to `x`."""
    if isinstance(e, (Var, Const)):
        return e
    if isinstance(e, Ramp):
        return Ramp(INDEX, e.lanes, simplify_index(e.base, ranges), e.stride)
    if isinstance(e, Broadcast):
        return Broadcast(INDEX, e.lanes, simplify_index(e.a, ranges))
    if e.lanes > 1:
        return _simplify_vector(e, ranges)
    return linear(e, ranges).expr()


def bounds(e: Expr, ranges: Ranges) -> tuple[int, int] | None:
    """Smallest and largest value of an index expression, or None when unknown."""
    if isinstance(e, Const):
        return int(e.value), int(e.value)
    if isinstance(e, Var):
        return (0, ranges[e.name] - 1) if e.name in ranges else None
    if isinstance(e, Broadcast):
        return bounds(e.a, ranges)
    if isinstance(e, Ramp):
        base = bounds(e.base, ranges)
        span = e.stride * (e.lanes - 1)
        return None if base is None else (base[0] + min(0, span), base[1] + max(0, span))
    if isinstance(e, Binary):
        a, b = bounds(e.a, ranges), bounds(e.b, ranges)
        if e.op == "%" and b is not None and b[0] == b[1] > 0:
            if a is not None and a[0] // b[0] == a[1] // b[0]:
                return a[0] % b[0], a[1] % b[0]
            return 0, b[0] - 1
        return None if a is None or b is None else _interval(e.op, a, b)
    return None


def _interval(op: str, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int] | None:
    if op == "+":
        return a[0] + b[0], a[1] + b[1]
    if op == "-":
        return a[0] - b[1], a[1] - b[0]
    if op == "*":
        corners = [x * y for x in a for y in b]
        return min(corners), max(corners)
    if op == "//" and b[0] == b[1] > 0:
        return a[0] // b[0], a[1] // b[0]
    if op in ("min", "max"):
        pick = min if op == "min" else max
        return pick(a[0], b[0]), pick(a[1], b[1])
    return None


def _bounds_of(form: Linear, ranges: Ranges) -> tuple[int, int] | None:
    low = high = form.constant
    for atom, c in form.terms:
        span = bounds(atom, ranges)
        if span is None:
            return None
        low += min(c * span[0], c * span[1])
        high += max(c * span[0], c * span[1])
    return low, high


def _collect(e: Expr, scale: int, terms: dict[Expr, int], ranges: Ranges) -> int:
    """Add `scale * e` to `terms`; returns the constant part."""
    if isinstance(e, Const):
        return scale * int(e.value)
    if isinstance(e, Var):
        if ranges.get(e.name) == 1:
            return 0
        terms[e] = terms.get(e, 0) + scale
        return 0
    if isinstance(e, Binary):
        if e.op == "+":
            return _collect(e.a, scale, terms, ranges) + _collect(e.b, scale, terms, ranges)
        if e.op == "-":
            return _collect(e.a, scale, terms, ranges) + _collect(e.b, -scale, terms, ranges)
        if e.op == "*":
            for x, y in ((e.a, e.b), (e.b, e.a)):
                factor = linear(y, ranges)
                if factor.is_constant:
                    return _collect(x, scale * factor.constant, terms, ranges)
        if e.op in ("//", "%") and isinstance(e.b, Const):
            return _collect_division(e, scale, terms, ranges)
        if e.op in ("min", "max"):
            return _collect_min_max(e, scale, terms, ranges)
    terms[e] = terms.get(e, 0) + scale
    return 0


def _collect_min_max(e: Binary, scale: int, terms: dict[Expr, int], ranges: Ranges) -> int:
    """min(a, b) is a where a never exceeds b."""
    a, b = linear(e.a, ranges), linear(e.b, ranges)
    difference = linear(binary("-", a.expr(), b.expr()), ranges)
    span = _bounds_of(difference, ranges)
    if span is not None:
        if span[1] <= 0:
            return _collect(a.expr() if e.op == "min" else b.expr(), scale, terms, ranges)
        if span[0] >= 0:
            return _collect(b.expr() if e.op == "min" else a.expr(), scale, terms, ranges)
    atom = binary(e.op, a.expr(), b.expr())
    terms[atom] = terms.get(atom, 0) + scale
    return 0


def _collect_division(e: Binary, scale: int, terms: dict[Expr, int], ranges: Ranges) -> int:
    """(q*d + r) // d is q + r//d, and % is r % d; r vanishes where its range allows."""
    assert isinstance(e.b, Const)
    d, form = int(e.b.value), linear(e.a, ranges)
    multiple = [(a, c // d) for a, c in form.terms if c % d == 0]
    rest = Linear(tuple((a, c) for a, c in form.terms if c % d), form.constant % d)
    quotient = form.constant // d
    span = _bounds_of(rest, ranges)
    if span is not None and span[0] // d == span[1] // d:
        settled = span[0] // d
        if e.op == "//":
            for a, c in multiple:
                terms[a] = terms.get(a, 0) + scale * c
            return scale * (quotient + settled)
        for a, c in rest.terms:
            terms[a] = terms.get(a, 0) + scale * c
        return scale * (rest.constant - settled * d)
    if e.op == "//":
        for a, c in multiple:
            terms[a] = terms.get(a, 0) + scale * c
        atom = _divided(rest.expr(), d)
        terms[atom] = terms.get(atom, 0) + scale
        return scale * quotient
    atom = binary("%", rest.expr(), index_const(d))
    terms[atom] = terms.get(atom, 0) + scale
    return 0


def _divided(x: Expr, d: int) -> Expr:
    """x // d with (y // a) // d written y // (a*d)."""
    if isinstance(x, Binary) and x.op == "//" and isinstance(x.b, Const):
        return binary("//", x.a, index_const(int(x.b.value) * d))
    return binary("//", x, index_const(d))


def _recombine(terms: dict[Expr, int]) -> None:
    """c*d*(x//d) + c*(x%d) is c*x;  c*d*((x//d)%e) + c*(x%d) is c*(x%(d*e)). In place."""
    changed = True
    while changed:
        changed = False
        for low in [a for a in terms if isinstance(a, Binary) and a.op == "%"]:
            c = terms.get(low, 0)
            if c and _join(terms, low, c):
                changed = True
                break


def _join(terms: dict[Expr, int], low: Expr, c: int) -> bool:
    if not (isinstance(low, Binary) and isinstance(low.b, Const)):
        return False  # a modulus known only at run time
    x, d = low.a, int(low.b.value)
    above = _divided(x, d)
    if terms.get(above, 0) == c * d:
        del terms[above], terms[low]
        _add(terms, x, c)
        return True
    for high in [a for a in terms if isinstance(a, Binary) and a.op == "%" and a.a == above]:
        if terms[high] == c * d and isinstance(high, Binary) and isinstance(high.b, Const):
            del terms[high], terms[low]
            _add(terms, binary("%", x, index_const(d * int(high.b.value))), c)
            return True
    return False


def _add(terms: dict[Expr, int], x: Expr, c: int) -> None:
    """Add c*x, where x is a linear expression without a constant part."""
    if isinstance(x, Binary) and x.op in ("+", "-") and not isinstance(x.b, Const):
        _add(terms, x.a, c)
        _add(terms, x.b, c if x.op == "+" else -c)
    elif isinstance(x, Binary) and x.op == "*" and isinstance(x.b, Const):
        terms[x.a] = terms.get(x.a, 0) + c * int(x.b.value)
    else:
        terms[x] = terms.get(x, 0) + c


def _simplify_vector(e: Expr, ranges: Ranges) -> Expr:
    """A vector index that is affine in one Ramp becomes one Ramp; others stay as they are."""
    form = _as_ramp(e, ranges)
    if form is None:
        return e
    base, stride = form
    if stride == 0:
        return Broadcast(INDEX, e.lanes, simplify_index(base, ranges))
    return Ramp(INDEX, e.lanes, simplify_index(base, ranges), stride)


def _as_ramp(e: Expr, ranges: Ranges) -> tuple[Expr, int] | None:
    if isinstance(e, Ramp):
        return e.base, e.stride
    if isinstance(e, Broadcast):
        return e.a, 0
    if isinstance(e, Const):
        return index_const(int(e.value)), 0
    if not isinstance(e, Binary):
        return None
    a, b = _as_ramp(e.a, ranges), _as_ramp(e.b, ranges)
    if a is None or b is None:
        return None
    if e.op in ("+", "-"):
        return binary(e.op, a[0], b[0]), (a[1] + b[1] if e.op == "+" else a[1] - b[1])
    if e.op == "*":
        for x, y in ((a, b), (b, a)):
            if y[1] == 0 and isinstance(y[0], Const):
                return binary("*", x[0], y[0]), x[1] * int(y[0].value)
    if e.op in ("//", "%") and b[1] == 0 and isinstance(b[0], Const):
        return _divide_ramp(e.op, a, int(b[0].value), e.lanes, ranges)
    return None


def _divide_ramp(
    op: str, ramp: tuple[Expr, int], d: int, lanes: int, ranges: Ranges
) -> tuple[Expr, int] | None:
    """Lanes that never cross a multiple of d divide and wrap together; a stride that is a multiple
    of d passes through //."""
    base, stride = ramp
    if stride % d == 0:
        divided = binary(op, base, index_const(d))
        return (divided, stride // d) if op == "//" else (divided, 0)
    if stride < 0:
        return None
    form, reach = linear(base, ranges), stride * (lanes - 1)
    step = gcd(d, *(c for _, c in form.terms))
    rest = _bounds_of(linear(binary("%", base, index_const(d)), ranges), ranges)
    if form.constant % step + reach < step or (rest is not None and rest[1] + reach < d):
        divided = binary(op, base, index_const(d))
        return (divided, 0) if op == "//" else (divided, stride)
    return None
