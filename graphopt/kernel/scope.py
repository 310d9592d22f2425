"""What index expressions mean at a place in a kernel, and every access seen from its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graphopt.kernel.affine import Linear, linear, simplify_index
from graphopt.kernel.ir import (
    INDEX,
    Binary,
    Block,
    Broadcast,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Let,
    Load,
    Prefetch,
    Ramp,
    Stmt,
    Store,
    Var,
    binary,
    index_const,
)
from graphopt.kernel.visit import ExprMap, children, uses_var


@dataclass(frozen=True)
class IndexScope:
    """`ranges`: extents of the loop variables in scope. `meaning`: names that stand for another
    expression: a scalar i64 bound by `let`, or a loop variable that shadows one still in use.
    `guards`: scalar conditions that hold, of the `if`s around."""

    ranges: Mapping[str, int] = field(default_factory=dict)
    meaning: Mapping[str, Expr] = field(default_factory=dict)
    guards: tuple[Expr, ...] = ()

    def with_loop(self, var: str, extent: int) -> IndexScope:
        unique = var
        while unique in self.ranges or any(uses_var(e, unique) for e in self.meaning.values()):
            unique += "'"
        meaning = {k: e for k, e in self.meaning.items() if k != var}
        if unique != var:
            meaning[var] = Var(INDEX, 1, unique)
        return IndexScope({**self.ranges, unique: extent}, meaning, self.guards)

    def with_let(self, var: str, value: Expr) -> IndexScope:
        known = value.dtype is INDEX and value.lanes == 1
        meaning = self.resolve(value) if known else Var(value.dtype, value.lanes, f"let {var}")
        return IndexScope(self.ranges, {**self.meaning, var: meaning}, self.guards)

    def with_guard(self, condition: Expr) -> IndexScope:
        """Inside an `if`. A loop variable that is below a number there has no other values; it
        keeps two, since a variable of one is none."""
        holds = self.resolve(condition)
        ranges = dict(self.ranges)
        if isinstance(holds, Binary) and holds.op == "<":
            a, b = holds.a, holds.b
            if isinstance(a, Var) and a.name in ranges and isinstance(b, Const):
                ranges[a.name] = min(ranges[a.name], max(int(b.value), 2))
        return IndexScope(ranges, self.meaning, (*self.guards, holds))

    def resolve(self, e: Expr) -> Expr:
        """An expression in terms of unique loop variables alone, as far as lets allow."""
        if not self.meaning:
            return e
        return ExprMap(lambda x: self.meaning.get(x.name, x) if isinstance(x, Var) else x)(e)

    def unique(self, var: str) -> str:
        """The name under which a loop variable stands in resolved expressions."""
        found = self.meaning.get(var)
        return found.name if isinstance(found, Var) else var


@dataclass(frozen=True)
class Access:
    """One load, store or prefetch: `index` as it stands in the kernel, `scope` what it means there.
    `guarded`: inside an `if`, so that it may never happen."""

    part: Load | Store | Prefetch
    scope: IndexScope
    guarded: bool
    statement: Stmt

    @property
    def buffer(self) -> Buffer:
        return self.part.buffer

    @property
    def is_store(self) -> bool:
        return isinstance(self.part, Store)


@dataclass(frozen=True)
class Span:
    """Elements `form + step * lane` for `lanes` lanes, from the buffer's pointer."""

    form: Linear
    step: int
    lanes: int


def accesses(s: Stmt, scope: IndexScope, guarded: bool = False) -> Iterator[Access]:
    """Every access below a statement, in the order of the text."""
    match s:
        case Block():
            for c in s.body:
                yield from accesses(c, scope, guarded)
                if isinstance(c, Let):
                    scope = scope.with_let(c.var, c.value)
        case For():
            yield from accesses(s.body, scope.with_loop(s.var, s.extent), guarded)
        case If():
            yield from _loads((s.condition,), scope, guarded, s)
            yield from accesses(s.then, scope.with_guard(s.condition), True)
            if s.otherwise is not None:
                yield from accesses(s.otherwise, scope, True)
        case Store():
            yield from _loads((*s.index, s.value), scope, guarded, s)
            yield Access(s, scope, guarded, s)
        case Let():
            yield from _loads((s.value,), scope, guarded, s)
        case Prefetch():
            yield Access(s, scope, guarded, s)
        case _:
            return


def _loads(roots: tuple[Expr, ...], scope: IndexScope, guarded: bool, s: Stmt) -> Iterator[Access]:
    seen: set[int] = set()
    stack = list(reversed(roots))
    while stack:
        e = stack.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, Load):
            yield Access(e, scope, guarded, s)
        stack += children(e)[::-1]


def span(access: Access) -> Span | None:
    """The elements an access touches in an iteration; None when lanes are not evenly spaced."""
    at: Expr = index_const(access.buffer.offset)
    for i, stride in zip(access.part.index, access.buffer.strides, strict=True):
        at = binary("+", at, binary("*", access.scope.resolve(i), index_const(stride)))
    ranges = access.scope.ranges
    if at.lanes == 1:
        return Span(linear(at, ranges), 0, 1)
    at = simplify_index(at, ranges)
    match at:
        case Ramp():
            return Span(linear(at.base, ranges), at.stride, at.lanes)
        case Broadcast():
            return Span(linear(at.a, ranges), 0, at.lanes)
        case Const():
            return Span(Linear((), int(at.value)), 0, at.lanes)
        case Binary() | _:
            return None
