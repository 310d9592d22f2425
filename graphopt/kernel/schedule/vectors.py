"""Vectors: a loop becomes one iteration on vectors, a reduction one accumulator per lane."""

from __future__ import annotations

import dataclasses

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges, simplify_index
from graphopt.kernel.ir import (
    IDENTITY,
    INDEX,
    Alloc,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    Kernel,
    Load,
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
from graphopt.kernel.schedule.common import on_loops, widest_ranges
from graphopt.kernel.visit import ExprMap, map_exprs, map_stmts, substitute


def vectorize(k: Kernel, var: str) -> Kernel:
    """Each loop of that name becomes one iteration on vectors of its extent.

      for l in 0..16 { y[i, l] = x[i, l] * a[i] }   →   y[i, ramp] = x[i, ramp] * splat(a[i])

    Accesses of stride 1 in `var` are contiguous, others gathers. Raises: IRError when the body
    holds a loop, or accumulates into one element from all lanes (use `vector_reduce`).
    """
    ranges = widest_ranges(k)

    def visit(loop: For) -> Stmt:
        if loop.extent == 1:
            return substitute(loop.body, {var: index_const(0)})
        return _vectorized(loop, ranges)

    return on_loops(k, var, visit)


def _vectorized(loop: For, ranges: Ranges) -> Stmt:
    lanes = loop.extent
    ramp = Ramp(INDEX, lanes, index_const(0), 1)

    def expr(e: Expr) -> Expr:
        if isinstance(e, Var) and e.name == loop.var:
            return ramp
        if isinstance(e, Load) and e.lanes > 1:
            index = tuple(simplify_index(i, ranges) for i in e.index)
            return Load(e.dtype, max(i.lanes for i in index), e.buffer, index)
        return e

    mapper = ExprMap(expr)

    def stmt(s: Stmt) -> Stmt:
        if isinstance(s, For):
            raise IRError(f"vectorize: loop {s.var!r} is inside {loop.var!r}", hint="reorder first")
        if isinstance(s, Store):
            return _vector_store(s, loop.var, lanes, ranges)
        return s

    return map_stmts(map_exprs(loop.body, mapper), stmt)


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
    ):
        raise IRError(f"vector_reduce: loop {loop.var!r} is not one accumulation into a register")
    full, left = divmod(loop.extent, lanes)
    if not full or lanes == 1:
        return loop
    wide = Buffer.dense(f"{s.buffer.name}_lanes", s.buffer.dtype, (lanes,), Scope.REGISTER)
    ramp = Ramp(INDEX, lanes, index_const(0), 1)
    at = binary("+", binary("*", index_var(loop.var), index_const(lanes)), index_var("lane"))
    element = Store(wide, (index_var("lane"),), s.value, s.reduce)
    inner = _vectorized(For("lane", lanes, substitute(element, {loop.var: at})), ranges)
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
