"""Whether the iterations of a loop can run in any order, or at once: no iteration touches an
element that another one writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.kernel.bounds import interval
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    Load,
    Prefetch,
    Stmt,
    Store,
    Var,
)
from graphopt.kernel.scope import Access, IndexScope, accesses, span
from graphopt.kernel.visit import uses_var, walk

_LANE = "lane'"  # no name of a kernel's own
_DIVISORS = 64  # moduli to try


@dataclass(frozen=True)
class Conflict:
    """Iterations of a loop that meet in a buffer. `certain`: they do; else there is no proof that
    they do not."""

    buffer: Buffer
    certain: bool


def conflicts(loop: For, scope: IndexScope) -> list[Conflict]:
    """Buffers declared outside a loop through which its iterations may depend on each other; those
    declared inside are each iteration's own. `scope` is that around the loop."""
    if loop.extent <= 1:
        return []
    inside = scope.with_loop(loop.var, loop.extent)
    local = _local_buffers(loop.body)
    by_buffer: dict[Buffer, list[Access]] = {}
    for access in accesses(loop.body, inside):
        if access.buffer not in local and not isinstance(access.part, Prefetch):
            by_buffer.setdefault(access.buffer, []).append(access)
    var = Var(INDEX, 1, inside.unique(loop.var))
    fixed = {*scope.ranges, *(e.name for e in scope.meaning.values() if isinstance(e, Var))}
    out = []
    for buffer, found in by_buffer.items():
        if any(a.is_store for a in found):
            problem = _conflict(found, var, fixed)
            if problem is not None:
                out.append(Conflict(buffer, problem))
    return out


def _local_buffers(body: Stmt) -> set[Buffer]:
    """Buffers that every iteration allocates before it touches them."""
    local: set[Buffer] = set()
    outer: set[Buffer] = set()
    for s in walk(body):
        if isinstance(s, Alloc):
            local.add(s.buffer)
        elif isinstance(s, (Load, Store, Prefetch)) and s.buffer not in local:
            outer.add(s.buffer)
    return local - outer


def _conflict(found: Sequence[Access], var: Var, fixed: set[str]) -> bool | None:
    """None when iterations are apart; else whether they certainly meet. `fixed` names do not change
    while the loop runs."""
    touches = []
    for access in found:
        touch = _touch(access)
        if touch is None:
            return False
        if access.is_store and not any(uses_var(atom, var.name) for atom in touch.terms):
            return not access.guarded
        touches.append(touch)
    _cancel(touches, fixed)
    digits = {a for t in touches for a in t.terms if uses_var(a, var.name)}
    known = {a for a in digits if _determined(a, touches)}
    return None if _recovered(known, var) else False


@dataclass(frozen=True)
class _Touch:
    """The elements an access touches: a sum of terms, lanes among them, and a constant."""

    terms: dict[Expr, int]
    constant: int
    ranges: Mapping[str, int]


def _touch(access: Access) -> _Touch | None:
    at = span(access)
    if at is None:
        return None
    terms, ranges = dict(at.form.terms), dict(access.scope.ranges)
    if at.step:
        terms[Var(INDEX, 1, _LANE)] = at.step
        ranges[_LANE] = at.lanes
    return _Touch(terms, at.form.constant, ranges)


def _cancel(touches: Sequence[_Touch], fixed: set[str]) -> None:
    """Drop terms that are the same number in every access of every iteration."""
    first = touches[0].terms
    for atom in [a for a in first if _is_fixed(a, fixed)]:
        if all(t.terms.get(atom) == first[atom] for t in touches):
            for t in reversed(touches):
                del t.terms[atom]


def _is_fixed(atom: Expr, names: set[str]) -> bool:
    return not any(
        isinstance(e, Load) or (isinstance(e, Var) and e.name not in names) for e in walk(atom)
    )


def _determined(digit: Expr, touches: Sequence[_Touch]) -> bool:
    """Whether equal addresses mean equal values of `digit`: seen as a mixed-radix number, lower
    terms do not reach its step, and higher ones are multiples of more than its range."""
    steps = {t.terms.get(digit, 0) for t in touches}
    step = abs(steps.pop())
    if steps or step == 0:
        return False
    reach = max(_width(digit, t) for t in touches) * step
    top = step + reach
    lows = [_low_part(t, digit, top) for t in touches]
    if not all(math.isfinite(low + high) for low, high in lows):
        return False
    for radix in _radices(digit, top, touches, lows):
        width = _spread(lows, radix)
        if width < step and (radix == 0 or reach + width < radix):
            return True
    return False


def _width(atom: Expr, t: _Touch) -> float:
    low, high = interval(atom, t.ranges)
    return high - low


def _low_part(t: _Touch, digit: Expr, top: float) -> tuple[float, float]:
    """Interval of the constant and all lower terms."""
    low = high = float(t.constant)
    for atom, c in t.terms.items():
        if atom != digit and abs(c) < top:
            first, last = interval(atom, t.ranges)
            low += min(c * first, c * last)
            high += max(c * first, c * last)
    return low, high


def _radices(
    digit: Expr, top: float, touches: Sequence[_Touch], lows: Sequence[tuple[float, float]]
) -> Iterator[int]:
    """Numbers of which all higher terms are multiples, and which constants of unrolled loops may
    be, too; 0 stands for no modulus."""
    high = [abs(c) for t in touches for a, c in t.terms.items() if a != digit and abs(c) >= top]
    common = math.gcd(*high)
    if common:
        yield from (common // n for n in range(1, _DIVISORS) if common % n == 0)
        return
    yield 0
    yield from sorted({int(abs(low - lows[0][0])) for low, _ in lows} - {0})[:_DIVISORS]


def _spread(lows: Sequence[tuple[float, float]], radix: int) -> float:
    """Width of what the low parts cover together, modulo the radix."""
    start = lows[0][0]
    first = last = 0.0
    for low, high in lows:
        at = low - start
        if radix:
            at = (at + radix // 2) % radix - radix // 2
        first, last = min(first, at), max(last, at + high - low)
    return last - first


def _recovered(known: set[Expr], var: Var) -> bool:
    """Whether determined digits give the variable: x // d and x % d give x."""
    grown = True
    while grown and var not in known:
        grown = False
        for low in list(known):
            if not isinstance(low, Binary) or low.op != "%" or low.a in known:
                continue
            if _quotient(low) in known:
                known.add(low.a)
                grown = True
    return var in known


def _quotient(low: Binary) -> Expr | None:
    """x // d of x % d; (x // a) // d is written x // (a*d)."""
    if not isinstance(low.b, Const):
        return None
    d, x = int(low.b.value), low.a
    if isinstance(x, Binary) and x.op == "//" and isinstance(x.b, Const):
        return Binary(INDEX, 1, "//", x.a, Const(INDEX, 1, int(x.b.value) * d))
    return Binary(INDEX, 1, "//", x, low.b)
