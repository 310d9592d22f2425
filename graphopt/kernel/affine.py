"""Index arithmetic: linear forms, bounds, and the simplification of // and % by loop ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    broadcast,
    index_const,
)
from graphopt.kernel.visit import walk

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
    if isinstance(e, Const):
        return Linear((), int(e.value))
    terms: dict[Expr, int] = {}
    constant = _collect(e, 1, terms, ranges)
    constant += _recombine(terms, ranges)
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
        return broadcast(simplify_index(e.a, ranges), e.lanes)
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
        if e.op in ("//", "%") and isinstance(e.b, Const) and e.b.value > 0:
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
    rest = Linear(tuple((a, c) for a, c in form.terms if c % d), form.constant % d)
    constant = 0
    if e.op == "//":
        constant = scale * (form.constant // d)
        _collect_terms(((a, c // d) for a, c in form.terms if c % d == 0), scale, terms)
    span = _bounds_of(rest, ranges)
    if span is not None and span[0] // d == span[1] // d:
        settled = span[0] // d
        if e.op == "//":
            return constant + scale * settled
        _collect_terms(rest.terms, scale, terms)
        return scale * (rest.constant - settled * d)
    split = _coarse_and_fine(rest, d, ranges)
    if split is not None:
        coarse, step, fine = split
        inner = binary(e.op, coarse.expr(), index_const(d // step))
        if e.op == "//":
            return constant + _collect(inner, scale, terms, ranges)
        _collect_terms(fine.terms, scale, terms)
        return scale * fine.constant + _collect(inner, scale * step, terms, ranges)
    atom = _divided(rest.expr(), d) if e.op == "//" else binary("%", rest.expr(), index_const(d))
    terms[atom] = terms.get(atom, 0) + scale
    return constant


def _collect_terms(new: Iterable[tuple[Expr, int]], scale: int, terms: dict[Expr, int]) -> None:
    for a, c in new:
        terms[a] = terms.get(a, 0) + scale * c


def _coarse_and_fine(rest: Linear, d: int, ranges: Ranges) -> tuple[Linear, int, Linear] | None:
    """rest = step * coarse + fine where step divides d and fine lies in [0, step): rest // d is
    coarse // (d/step), and rest % d is step * (coarse % (d/step)) + fine."""
    for n in range(len(rest.terms), 0, -1):
        step = gcd(d, *(c for _, c in rest.terms[:n]))
        fine = Linear(rest.terms[n:], rest.constant % step)
        span = _bounds_of(fine, ranges) if step > 1 else None
        if span is not None and span[0] >= 0 and span[1] < step:
            coarse = tuple((a, c // step) for a, c in rest.terms[:n])
            return Linear(coarse, rest.constant // step), step, fine
    return None


def _divided(x: Expr, d: int) -> Expr:
    """x // d with (y // a) // d written y // (a*d)."""
    if isinstance(x, Binary) and x.op == "//" and isinstance(x.b, Const):
        return binary("//", x.a, index_const(int(x.b.value) * d))
    return binary("//", x, index_const(d))


def _recombine(terms: dict[Expr, int], ranges: Ranges) -> int:
    """c*d*(x//d) + c*(x%d) is c*x;  c*d*((x//d)%e) + c*(x%d) is c*(x%(d*e));  c*x - c*(x%d) is
    c*d*(x//d). In place; returns what to add to the constant."""
    constant = 0
    changed = True
    while changed:
        changed = False
        for low in [a for a in terms if isinstance(a, Binary) and a.op == "%"]:
            c = terms.get(low, 0)
            joined = _join(terms, low, c, ranges) if c else None
            if joined is not None:
                constant += joined
                changed = True
                break
    return constant


def _join(terms: dict[Expr, int], low: Expr, c: int, ranges: Ranges) -> int | None:
    if not (isinstance(low, Binary) and isinstance(low.b, Const)):
        return None  # a modulus known only at run time
    x, d = low.a, int(low.b.value)
    above = _divided(x, d)
    if terms.get(above, 0) == c * d:
        del terms[above], terms[low]
        return _add(terms, x, c)
    for high in [a for a in terms if isinstance(a, Binary) and a.op == "%" and a.a == above]:
        if terms[high] == c * d and isinstance(high, Binary) and isinstance(high.b, Const):
            del terms[high], terms[low]
            whole = binary("%", x, index_const(d * int(high.b.value)))
            return _collect(whole, c, terms, ranges)  # which may come apart in another way
    if terms.get(x, 0) == -c:
        del terms[x], terms[low]
        return _collect(above, -c * d, terms, ranges)
    return None


def _add(terms: dict[Expr, int], x: Expr, c: int) -> int:
    """Add c*x for a linear expression x; returns the constant part."""
    if isinstance(x, Const):
        return c * int(x.value)
    if isinstance(x, Binary) and x.op in ("+", "-"):
        return _add(terms, x.a, c) + _add(terms, x.b, c if x.op == "+" else -c)
    if isinstance(x, Binary) and x.op == "*" and isinstance(x.b, Const):
        terms[x.a] = terms.get(x.a, 0) + c * int(x.b.value)
    else:
        terms[x] = terms.get(x, 0) + c
    return 0


def _simplify_vector(e: Expr, ranges: Ranges) -> Expr:
    """A vector index that is affine in its lane becomes a Ramp; others stay as they are."""
    form = _by_lane(e, ranges) or _by_ramp(e, ranges)
    if form is None:
        return e
    base, stride = form
    if stride == 0:
        return broadcast(simplify_index(base, ranges), e.lanes)
    return Ramp(INDEX, e.lanes, simplify_index(base, ranges), stride)


_LANE = "lane'"  # no name of a kernel's own


def _by_lane(e: Expr, ranges: Ranges) -> tuple[Expr, int] | None:
    """A vector as a scalar expression of its lane: (r // 8) * 8 + r % 8 of a ramp r is r."""
    return _affine_in_lane(_scalar(e, _lane_of), {**ranges, _LANE: e.lanes})


def _by_ramp(e: Expr, ranges: Ranges) -> tuple[Expr, int] | None:
    """The same where // and % come apart over the parts of a ramp and no longer meet: of its one
    ramp, taken as a variable of its own."""
    ramps = {r for r in walk(e) if isinstance(r, Ramp)}
    if len(ramps) != 1:
        return None
    (ramp,) = ramps
    limits, reach = bounds(ramp.base, ranges), (e.lanes - 1) * ramp.stride
    if limits is None or limits[0] + min(reach, 0) < 0:
        return None
    extent = limits[1] + max(reach, 0) + 1
    form = _affine_in_lane(_scalar(e, lambda r: _LANE_VAR), {**ranges, _LANE: extent})
    if form is None:
        return None
    rest, scale = form
    base = binary("+", binary("*", ramp.base, index_const(scale)), rest)
    return base, scale * ramp.stride


def _affine_in_lane(scalar: Expr | None, ranges: Ranges) -> tuple[Expr, int] | None:
    """(what is added, factor of the lane), or None when it is not affine in it."""
    if scalar is None:
        return None
    form = linear(scalar, ranges)
    rest = Linear(tuple((a, c) for a, c in form.terms if a != _LANE_VAR), form.constant)
    if any(_mentions_lane(a) for a, _ in rest.terms):
        return None
    return rest.expr(), form.coefficient(_LANE)


_LANE_VAR = Var(INDEX, 1, _LANE)


def _lane_of(ramp: Ramp) -> Expr:
    return binary("+", ramp.base, binary("*", _LANE_VAR, index_const(ramp.stride)))


def _scalar(e: Expr, of_ramp: Callable[[Ramp], Expr]) -> Expr | None:
    """One lane of a vector; None when it depends on memory."""
    if isinstance(e, Ramp):
        return of_ramp(e)
    if isinstance(e, Broadcast):
        return e.a
    if isinstance(e, Const):
        return index_const(int(e.value))
    if not isinstance(e, Binary) or e.dtype is not INDEX:
        return None
    a, b = _scalar(e.a, of_ramp), _scalar(e.b, of_ramp)
    return None if a is None or b is None else binary(e.op, a, b)


def _mentions_lane(e: Expr) -> bool:
    if isinstance(e, Binary):
        return _mentions_lane(e.a) or _mentions_lane(e.b)
    return isinstance(e, Var) and e.name == _LANE
