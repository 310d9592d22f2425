"""Which values an index takes, and whether an access stays inside its buffer."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping

import numpy as np

from graphopt.kernel.affine import Linear, linear, simplify_index
from graphopt.kernel.ir import (
    INDEX,
    Binary,
    Broadcast,
    Cast,
    Const,
    Expr,
    Load,
    Ramp,
    Select,
    Var,
    binary,
    index_const,
)
from graphopt.kernel.scope import Access, IndexScope

Interval = tuple[float, float]
"""Smallest and largest value; infinite where unknown."""

ANYTHING: Interval = (-math.inf, math.inf)


class Fit(enum.Enum):
    """`OUTSIDE`: some iteration certainly leaves the buffer. `UNKNOWN`: no proof either way."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"


def fit(access: Access, axis: int) -> tuple[Fit, Interval]:
    """How an access's index lies in its buffer's bounds on one axis, and the values it takes."""
    e = simplify_index(access.scope.resolve(access.part.index[axis]), access.scope.ranges)
    low, high = access.buffer.bounds(axis)
    values = interval(e, access.scope.ranges)
    if not (values[0] >= low and values[1] < high) and access.scope.guards:
        values = tightened(e, values, access.scope)
    if values[0] >= low and values[1] < high:
        return Fit.INSIDE, values
    reaches = _attained(e, access.scope.ranges)
    misses = values[1] < low or values[0] >= high
    if (reaches or misses) and not access.guarded:
        return Fit.OUTSIDE, values
    return Fit.UNKNOWN, values


def tightened(e: Expr, values: Interval, scope: IndexScope) -> Interval:
    """Tighter bounds by the conditions around: where g <= 0 holds, e <= e - n*g for n > 0."""
    base, reach = (e.base, e.stride * (e.lanes - 1)) if isinstance(e, Ramp) else (e, 0)
    if base.lanes > 1:
        return values
    low, high = values
    below = above = linear(base, scope.ranges)
    for guard in (g for condition in scope.guards for g in _not_positive(condition, scope)):
        for tighter in _less(above, guard, 1):
            top = interval(tighter.expr(), scope.ranges)[1] + max(reach, 0)
            if top < high:
                above, high = tighter, top
        for tighter in _less(below, guard, -1):
            bottom = interval(tighter.expr(), scope.ranges)[0] + min(reach, 0)
            if bottom > low:
                below, low = tighter, bottom
    return low, high


def _not_positive(condition: Expr, scope: IndexScope) -> Iterator[Linear]:
    """Linear forms that are 0 or less where a condition holds: a < b gives a - b + 1."""
    if not isinstance(condition, Binary):
        return
    if condition.op == "and":
        yield from _not_positive(condition.a, scope)
        yield from _not_positive(condition.b, scope)
    if condition.a.dtype is not INDEX:
        return
    a, b = condition.a, condition.b
    pairs = {"<": ((a, b),), "<=": ((a, b),), ">": ((b, a),), ">=": ((b, a),),
             "==": ((a, b), (b, a))}.get(condition.op, ())  # fmt: skip
    for smaller, larger in pairs:
        strict = condition.op in ("<", ">")
        difference = binary("-", smaller, larger)
        yield linear(binary("+", difference, index_const(int(strict))), scope.ranges)


def _less(form: Linear, guard: Linear, sign: int) -> Iterator[Linear]:
    """form - n*guard, with each n of that sign which cancels one of the guard's terms."""
    coefficients = dict(form.terms)
    for factor in dict.fromkeys(divmod(coefficients.get(a, 0), c) for a, c in guard.terms):
        n, rest = factor
        if rest or n * sign <= 0:
            continue
        terms = dict(coefficients)
        for a, k in guard.terms:
            terms[a] = terms.get(a, 0) - n * k
        kept = tuple((a, k) for a, k in terms.items() if k)
        yield Linear(kept, form.constant - n * guard.constant)


def interval(e: Expr, ranges: Mapping[str, int]) -> Interval:
    """Bounds of an integer expression over all iterations of the loops around it."""
    match e:
        case Const():
            return float(e.value), float(e.value)
        case Var():
            return (0, ranges[e.name] - 1) if e.name in ranges else ANYTHING
        case Broadcast():
            return interval(e.a, ranges)
        case Ramp():
            low, high = interval(e.base, ranges)
            reach = e.stride * (e.lanes - 1)
            return low + min(0, reach), high + max(0, reach)
        case Binary() if e.op in ("+", "-", "*") and e.lanes == 1 and e.dtype is INDEX:
            return _affine(e, ranges)
        case Binary():
            return _binary(e.op, interval(e.a, ranges), interval(e.b, ranges))
        case Select():
            a, b = interval(e.then, ranges), interval(e.otherwise, ranges)
            return min(a[0], b[0]), max(a[1], b[1])
        case Cast() if e.a.dtype.is_integer and not isinstance(e.a, Load):
            return interval(e.a, ranges)
        case Cast() | Load():
            return _of_dtype(e.a if isinstance(e, Cast) else e)
        case _:
            return ANYTHING


def _of_dtype(e: Expr) -> Interval:
    if not e.dtype.is_integer:
        return ANYTHING
    info = np.iinfo(e.dtype.numpy)
    return float(info.min), float(info.max)


def _affine(e: Expr, ranges: Mapping[str, int]) -> Interval:
    """Like terms joined first: i*8 + j - i*8 is j."""
    form = linear(e, ranges)
    low = high = float(form.constant)
    for atom, c in form.terms:
        span = (
            _binary("*", interval(atom.a, ranges), interval(atom.b, ranges))
            if isinstance(atom, Binary) and atom.op == "*"
            else interval(atom, ranges)
        )
        ends = _times(c, span[0]), _times(c, span[1])
        low, high = low + min(ends), high + max(ends)
    return low, high


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _binary(op: str, a: Interval, b: Interval) -> Interval:
    match op:
        case "+":
            return a[0] + b[0], a[1] + b[1]
        case "-":
            return a[0] - b[1], a[1] - b[0]
        case "*":
            corners = [_times(x, y) for x in a for y in b]
            return min(corners), max(corners)
        case "min" | "max":
            pick = min if op == "min" else max
            return pick(a[0], b[0]), pick(a[1], b[1])
        case "//" if b[0] == b[1] > 0:
            return _floor(a[0], b[0]), _floor(a[1], b[0])
        case "%" if b[0] == b[1] > 0:
            inside = math.isfinite(a[0] + a[1]) and a[0] // b[0] == a[1] // b[0]
            return (a[0] % b[0], a[1] % b[0]) if inside else (0, b[0] - 1)
        case "and" if min(a[0], b[0]) >= 0:
            return 0, min(a[1], b[1])
        case _:
            return ANYTHING


def _floor(x: float, d: float) -> float:
    return x // d if math.isfinite(x) else x


def _attained(e: Expr, ranges: Mapping[str, int]) -> bool:
    """Whether an index takes the ends of its interval: it is a sum over different loop variables,
    each alone or divided by a constant."""
    if isinstance(e, Ramp):
        e = e.base
    elif isinstance(e, Broadcast):
        e = e.a
    if e.lanes > 1 and not isinstance(e, Const):
        return False
    names: list[str] = []
    for atom, _ in linear(e, ranges).terms:
        if isinstance(atom, Binary) and atom.op in ("//", "%") and isinstance(atom.b, Const):
            atom = atom.a
        if not isinstance(atom, Var) or atom.name not in ranges:
            return False
        names.append(atom.name)
    return len(set(names)) == len(names)
