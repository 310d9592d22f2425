"""Vectors: a loop becomes one iteration on vectors, a reduction one accumulator per lane."""

from __future__ import annotations

import dataclasses

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges, simplify_index
from graphopt.kernel.ir import (
    IDENTITY,
    INDEX,
    Alloc,
    Block,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Load,
    Prefetch,
    Ramp,
    Scope,
    Stmt,
    Store,
    Var,
    binary,
    block,
    broadcast,
    index_const,
    index_var,
)
from graphopt.kernel.schedule.common import carried, on_loops, widest_ranges
from graphopt.kernel.visit import ExprMap, map_exprs, substitute, uses_buffer, uses_var, walk


def vectorize(k: Kernel, var: str) -> Kernel:
    """Each loop of that name becomes one iteration on vectors of its extent.

      for l in 0..16 { y[i, l] = x[i, l] * a[i] }   →   y[i, ramp] = x[i, ramp] * splat(a[i])

    Accesses of stride 1 in `var` are contiguous, others gathers. Raises: IRError when the body
    holds a loop or a vector, when lanes may depend on each other, or when all of them accumulate
    into one element (use `vector_reduce`).
    """
    ranges = widest_ranges(k)

    def visit(loop: For) -> Stmt:
        if loop.extent == 1:
            return substitute(loop.body, {var: index_const(0)})
        _check_lanes(loop, ranges)
        return vectorized(loop, ranges)

    return on_loops(k, var, visit)


def _check_lanes(loop: For, ranges: Ranges) -> None:
    """Lanes must be apart, except in a buffer that one store alone touches: its lanes are written
    in order."""
    for name in carried(loop, ranges):
        touching = [p for p in walk(loop.body) if isinstance(p, (Load, Store))]
        if sum(p.buffer.name == name for p in touching) > 1:
            raise IRError(
                f"vectorize: lanes of {loop.var!r} may depend on each other through {name!r}",
                hint="vectorize a loop whose iterations are independent",
            )


def vectorized(loop: For, ranges: Ranges) -> Stmt:
    """The body of a loop on vectors of its extent; no check but of its form. `ranges` are those of
    the loops around."""
    if holds_vectors(loop.body):
        raise IRError(
            f"vectorize: the body of {loop.var!r} is on vectors already",
            hint="vectorize before what brings vectors in, as vector_reduce does",
        )
    return _Vectorizer(loop, ranges).stmt(loop.body)


def holds_vectors(s: Stmt) -> bool:
    """Whether any part is a vector, also one that a scalar hides, as in `reduce_add(x[ramp])`:
    lanes of a loop would run into its own."""
    return any(isinstance(part, Expr) and part.lanes > 1 for part in walk(s))


class _Vectorizer:
    """Rewrites statements in order: a `let` of a vector makes its name one from there on."""

    def __init__(self, loop: For, ranges: Ranges) -> None:
        self.loop, self.lanes, self.ranges = loop, loop.extent, ranges
        self.wide: dict[str, Expr] = {loop.var: Ramp(INDEX, self.lanes, index_const(0), 1)}
        self.mapper = ExprMap(self._expr)

    def _expr(self, e: Expr) -> Expr:
        if isinstance(e, Var):
            return self.wide.get(e.name, e)
        if isinstance(e, Load) and e.lanes > 1:
            index = tuple(simplify_index(i, self.ranges) for i in e.index)
            return Load(e.dtype, max(i.lanes for i in index), e.buffer, index)
        return e

    def stmt(self, s: Stmt) -> Stmt:
        match s:
            case Block():
                return block(*[self.stmt(c) for c in s.body])
            case Let():
                return self._let(s)
            case If():
                return self._if(s)
            case Store():
                mapped = map_exprs(s, self.mapper)
                assert isinstance(mapped, Store)
                return _vector_store(mapped, self.loop.var, self.lanes, self.ranges)
            case Prefetch():
                return map_exprs(s, self.mapper)
            case For():
                what = f"loop {s.var!r} is inside {self.loop.var!r}"
                raise IRError(f"vectorize: {what}", hint="reorder first")
            case _:
                what = f"a buffer is allocated inside {self.loop.var!r}"
                raise IRError(f"vectorize: {what}", hint="expand_accumulator first")

    def _let(self, s: Let) -> Stmt:
        value = self.mapper(s.value)
        if value.lanes > 1:
            self.wide[s.var] = Var(value.dtype, value.lanes, s.var)
        else:
            self.wide.pop(s.var, None)
        self.mapper = ExprMap(self._expr)  # the name means something else from here on
        return Let(s.var, value)

    def _if(self, s: If) -> Stmt:
        condition = self.mapper(s.condition)
        if condition.lanes > 1:
            what = f"the condition of an if differs between lanes of {self.loop.var!r}"
            raise IRError(f"vectorize: {what}", hint="use select")
        other = None if s.otherwise is None else self.stmt(s.otherwise)
        return If(condition, self.stmt(s.then), other)


def _vector_store(s: Store, var: str, lanes: int, ranges: Ranges) -> Stmt:
    index = tuple(simplify_index(i, ranges) for i in s.index)
    if max((i.lanes for i in index), default=1) == 1:
        if s.value.lanes == 1 and not s.reduce:
            return dataclasses.replace(s, index=index)
        raise IRError(
            f"vectorize: all lanes of {var!r} write one element of {s.buffer.name}",
            hint="use vector_reduce",
        )
    return dataclasses.replace(s, index=index, value=broadcast(s.value, lanes))


_HORIZONTAL = {"+": "reduce_add", "max": "reduce_max", "min": "reduce_min"}


def vector_reduce(k: Kernel, var: str, lanes: int) -> Kernel:
    """Reduce with one accumulator per lane, and across the lanes once at the end.

      alloc acc; acc = 0                alloc acc, lanes[L]; lanes[ramp] = 0
      for r in 0..R { acc += f(r) } →   for r in 0..R/L { lanes[ramp] += f(ramp(r*L)) }
                                        acc = reduce_add(lanes[ramp])
                                        for r in 0..R%L { acc += f(tail) }

    `acc` must be a scalar register accumulated by this loop alone. Reassociates. Raises: IRError.
    """
    ranges = widest_ranges(k)
    return on_loops(k, var, lambda loop: _lanewise(loop, lanes, ranges))


def _lanewise(loop: For, lanes: int, ranges: Ranges) -> Stmt:
    s = loop.body
    if (
        not isinstance(s, Store)
        or s.reduce not in _HORIZONTAL
        or s.buffer.scope is not Scope.REGISTER
        or any(uses_var(i, loop.var) for i in s.index)
        or uses_buffer(s.value, s.buffer)
    ):
        raise IRError(
            f"vector_reduce: loop {loop.var!r} is not one accumulation into a register",
            hint="its body must be `acc[..] += value`, the value not reading acc",
        )
    full, left = divmod(loop.extent, lanes)
    if not full or lanes == 1:
        return loop
    wide = Buffer.dense(f"{s.buffer.name}_lanes", s.buffer.dtype, (lanes,), Scope.REGISTER)
    ramp = Ramp(INDEX, lanes, index_const(0), 1)
    at = binary("+", binary("*", index_var(loop.var), index_const(lanes)), index_var("lane"))
    element = Store(wide, (index_var("lane"),), s.value, s.reduce)
    inner = vectorized(For("lane", lanes, substitute(element, {loop.var: at})), ranges)
    first = Store(wide, (ramp,), Const(wide.dtype, lanes, IDENTITY[s.reduce]))
    total = Call(wide.dtype, 1, _HORIZONTAL[s.reduce], (Load(wide.dtype, lanes, wide, (ramp,)),))
    out: list[Stmt] = [Alloc(wide), first]
    out.append(
        For(loop.var, full, inner) if full > 1 else substitute(inner, {loop.var: index_const(0)})
    )
    out.append(dataclasses.replace(s, value=total))
    if left:
        start = binary("+", index_var(loop.var), index_const(full * lanes))
        out.append(For(loop.var, left, substitute(s, {loop.var: start})))
    return block(*out)
