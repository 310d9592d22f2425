"""Walking and rebuilding the frozen trees. Rebuilding shares every subtree that does not change."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Binary,
    Block,
    Broadcast,
    Buffer,
    Call,
    Cast,
    Expr,
    For,
    If,
    Let,
    Load,
    Prefetch,
    Ramp,
    Select,
    Stmt,
    Store,
    Var,
    binary,
    block,
    broadcast,
)


def walk(tree: Stmt | Expr) -> Iterator[Stmt | Expr]:
    """Every statement and expression of a tree, parents first; an expression that several places
    share comes once."""
    stack: list[Stmt | Expr] = [tree]
    seen: set[int] = set()
    while stack:
        at = stack.pop()
        if isinstance(at, Expr):
            if id(at) in seen:
                continue
            seen.add(id(at))
        yield at
        stack += children(at)[::-1]


def children(at: Stmt | Expr) -> tuple[Any, ...]:
    """Direct parts of a statement or expression, in evaluation order; an expression's are
    expressions."""
    parts = _PARTS.get(type(at))
    return () if parts is None else parts(at)


_PARTS: Mapping[type, Callable[[Any], tuple[Any, ...]]] = {
    Block: lambda s: s.body,
    For: lambda s: (s.body,),
    Store: lambda s: (*s.index, s.value),
    Let: lambda s: (s.value,),
    If: lambda s: (s.condition, s.then, *(() if s.otherwise is None else (s.otherwise,))),
    Prefetch: lambda s: s.index,
    Load: lambda e: e.index,
    Binary: lambda e: (e.a, e.b),
    Call: lambda e: e.args,
    Select: lambda e: (e.condition, e.then, e.otherwise),
    Cast: lambda e: (e.a,),
    Broadcast: lambda e: (e.a,),
    Ramp: lambda e: (e.base,),
}
"""By type: asking one type after the other is what compiling would spend its time on."""


def rebuild(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """`e` with `f` applied to its direct parts; lanes and dtypes follow the new parts."""
    match e:
        case Binary():
            a, b = f(e.a), f(e.b)
            return e if a is e.a and b is e.b else binary(e.op, a, b)
        case Load():
            index = tuple(map(f, e.index))
            if _same(index, e.index):
                return e
            lanes = max((i.lanes for i in index), default=1)
            return Load(e.dtype, lanes, e.buffer, index)
        case Call():
            return _rebuild_call(e, tuple(map(f, e.args)))
        case Select():
            parts = f(e.condition), f(e.then), f(e.otherwise)
            if _same(parts, (e.condition, e.then, e.otherwise)):
                return e
            lanes = max(p.lanes for p in parts)
            c, t, o = (broadcast(p, lanes) for p in parts)
            return Select(t.dtype, lanes, c, t, o)
        case Cast():
            a = f(e.a)
            return e if a is e.a else Cast(e.dtype, a.lanes, a)
        case Broadcast():
            a = f(e.a)
            if a is e.a:
                return e
            return broadcast(a, e.lanes) if a.lanes == 1 else a
        case Ramp():
            base = f(e.base)
            return e if base is e.base else Ramp(INDEX, e.lanes, base, e.stride)
        case _:
            return e


def _same(new: Sequence[object], old: Sequence[object]) -> bool:
    return all(map(operator.is_, new, old))


def _rebuild_call(e: Call, args: tuple[Expr, ...]) -> Expr:
    if _same(args, e.args):
        return e
    if e.lanes == 1 and any(a.lanes > 1 for a in e.args):  # a horizontal reduction
        return Call(e.dtype, 1, e.name, args)
    lanes = max(a.lanes for a in args)
    return Call(e.dtype, lanes, e.name, tuple(broadcast(a, lanes) for a in args))


class ExprMap:
    """Applies a bottom-up rewrite to expressions, each distinct one once."""

    def __init__(self, rewrite: Callable[[Expr], Expr]) -> None:
        self.rewrite = rewrite
        self._memo: dict[int, tuple[Expr, Expr]] = {}

    def __call__(self, e: Expr) -> Expr:
        known = self._memo.get(id(e))
        if known is not None:
            return known[1]
        out = self.rewrite(rebuild(e, self))
        self._memo[id(e)] = (e, out)  # the key keeps `e` alive, so its id stays its own
        return out


def map_exprs(stmt: Stmt, f: Callable[[Expr], Expr]) -> Stmt:
    """A statement with `f` applied to each whole expression in it."""
    match stmt:
        case Block():
            parts = [map_exprs(s, f) for s in stmt.body]
            return stmt if _same(parts, stmt.body) else block(*parts)
        case For():
            body = map_exprs(stmt.body, f)
            return stmt if body is stmt.body else dataclasses.replace(stmt, body=body)
        case Store():
            index, value = tuple(map(f, stmt.index)), f(stmt.value)
            same = value is stmt.value and _same(index, stmt.index)
            return stmt if same else dataclasses.replace(stmt, index=index, value=value)
        case Let():
            value = f(stmt.value)
            return stmt if value is stmt.value else Let(stmt.var, value)
        case If():
            condition, then = f(stmt.condition), map_exprs(stmt.then, f)
            other = None if stmt.otherwise is None else map_exprs(stmt.otherwise, f)
            same = _same((condition, then, other), (stmt.condition, stmt.then, stmt.otherwise))
            return stmt if same else If(condition, then, other)
        case Prefetch():
            index = tuple(map(f, stmt.index))
            same = _same(index, stmt.index)
            return stmt if same else dataclasses.replace(stmt, index=index)
        case _:
            return stmt


def map_stmts(stmt: Stmt, f: Callable[[Stmt], Stmt]) -> Stmt:
    """Bottom-up: `f` applied to every statement whose parts are done already."""
    match stmt:
        case Block():
            parts = [map_stmts(s, f) for s in stmt.body]
            return f(stmt if _same(parts, stmt.body) else block(*parts))
        case For():
            body = map_stmts(stmt.body, f)
            return f(stmt if body is stmt.body else dataclasses.replace(stmt, body=body))
        case If():
            then = map_stmts(stmt.then, f)
            other = None if stmt.otherwise is None else map_stmts(stmt.otherwise, f)
            same = then is stmt.then and other is stmt.otherwise
            return f(stmt if same else If(stmt.condition, then, other))
        case _:
            return f(stmt)


def substitute(stmt: Stmt, values: Mapping[str, Expr]) -> Stmt:
    """Replace variables by expressions. Loops that bind a name of their own shadow it."""
    mapper = ExprMap(lambda e: values.get(e.name, e) if isinstance(e, Var) else e)
    return _substitute(stmt, values, mapper)


def _substitute(stmt: Stmt, values: Mapping[str, Expr], mapper: ExprMap) -> Stmt:
    match stmt:
        case Block():
            return block(*(_substitute(s, values, mapper) for s in stmt.body))
        case For() if stmt.var in values:
            return substitute(stmt, {k: v for k, v in values.items() if k != stmt.var})
        case For():
            return dataclasses.replace(stmt, body=_substitute(stmt.body, values, mapper))
        case If():
            other = None if stmt.otherwise is None else _substitute(stmt.otherwise, values, mapper)
            return If(mapper(stmt.condition), _substitute(stmt.then, values, mapper), other)
        case _:
            return map_exprs(stmt, mapper)


def replace_buffer(
    stmt: Stmt, old: Buffer, new: Buffer, index: Callable[[tuple[Expr, ...]], tuple[Expr, ...]]
) -> Stmt:
    """Let every access of `old` go to `new` at `index(old index)`; its Alloc becomes new's."""

    def expr(e: Expr) -> Expr:
        if isinstance(e, Load) and e.buffer == old:
            at = index(e.index)
            return Load(e.dtype, max((i.lanes for i in at), default=1), new, at)
        return e

    mapper = ExprMap(expr)

    def visit(s: Stmt) -> Stmt:
        if isinstance(s, Alloc) and s.buffer == old:
            return Alloc(new)
        if isinstance(s, Store) and s.buffer == old:
            return dataclasses.replace(s, buffer=new, index=index(s.index))
        if isinstance(s, Prefetch) and s.buffer == old:
            return dataclasses.replace(s, buffer=new, index=index(s.index))
        return s

    return map_stmts(map_exprs(stmt, mapper), visit)


def uses_buffer(tree: Stmt | Expr, buffer: Buffer) -> bool:
    return any(isinstance(p, (Load, Store, Prefetch)) and p.buffer == buffer for p in walk(tree))


def uses_var(tree: Stmt | Expr, name: str) -> bool:
    return any(isinstance(p, Var) and p.name == name for p in walk(tree))
