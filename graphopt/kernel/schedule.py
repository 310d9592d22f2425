"""Schedule primitives: Kernel to Kernel, legality checked first.

A primitive given a loop name acts on every loop of that name: tails made by `split` keep their
names, so that one schedule reaches main loops and tails alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import count

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges, simplify_index
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Block,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Kernel,
    Load,
    LoopKind,
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
from graphopt.kernel.visit import (
    ExprMap,
    map_exprs,
    map_stmts,
    replace_buffer,
    substitute,
    uses_var,
    walk,
)


def _on_loops(k: Kernel, var: str, f: Callable[[For], Stmt]) -> Kernel:
    """Rewrite every loop named `var`. Raises: IRError when there is none."""
    seen = False

    def visit(s: Stmt) -> Stmt:
        nonlocal seen
        if isinstance(s, For) and s.var == var:
            seen = True
            return f(s)
        return s

    body = map_stmts(k.body, visit)
    if not seen:
        names = ", ".join(dict.fromkeys(s.var for s in walk(k.body) if isinstance(s, For)))
        raise IRError(f"{k.name} has no loop {var!r}", hint=f"its loops are {names}")
    return dataclasses.replace(k, body=body)


def loop_names(k: Kernel) -> tuple[str, ...]:
    """Loop names, outermost first, each once."""
    return tuple(dict.fromkeys(s.var for s in walk(k.body) if isinstance(s, For)))


def _widest_ranges(k: Kernel) -> Ranges:
    """The largest extent of each loop name: safe for every loop of that name."""
    out: dict[str, int] = {}
    for s in walk(k.body):
        if isinstance(s, For):
            out[s.var] = max(s.extent, out.get(s.var, 0))
    return out


def has_loop(k: Kernel, var: str) -> bool:
    return var in loop_names(k)


# Restructuring ---------------------------------------------------------------------------------


def split(
    k: Kernel, var: str, factor: int, *, names: tuple[str, str], tail: str = "peel"
) -> Kernel:
    """One loop becomes two.

      for i in 0..50 { S(i) }   →   for io in 0..4 { for ii in 0..12 { S(io*12 + ii) } }
                                    for ii in 0..2 { S(48 + ii) }

    `tail`: "peel" makes a second nest of what is left over, its outer loop gone; "exact" refuses
    a factor that does not divide. Raises: IRError.
    """
    if factor < 1:
        raise IRError(f"split: factor {factor} of loop {var!r} is not positive")
    outer, inner = names

    def visit(loop: For) -> Stmt:
        full, left = divmod(loop.extent, factor)
        if left and tail == "exact":
            raise IRError(
                f"split: {factor} does not divide the {loop.extent} iterations of {var!r}",
                hint='use tail="peel"',
            )
        parts: list[Stmt] = []
        if full:
            at = binary("*", index_var(outer), index_const(factor)) if full > 1 else index_const(0)
            body = substitute(loop.body, {var: binary("+", at, index_var(inner))})
            nest: Stmt = For(inner, factor, body, loop.kind)
            parts.append(For(outer, full, nest, loop.kind) if full > 1 else nest)
        if left:
            at = binary("+", index_var(inner), index_const(full * factor))
            parts.append(For(inner, left, substitute(loop.body, {var: at}), loop.kind))
        return block(*parts)

    return _on_loops(k, var, visit)


def fuse(k: Kernel, outer: str, inner: str, name: str) -> Kernel:
    """Two perfectly nested loops become one.

      for i in 0..4 { for j in 0..8 { S(i, j) } }   →   for f in 0..32 { S(f // 8, f % 8) }

    Raises: IRError when they are not perfectly nested.
    """

    def visit(loop: For) -> Stmt:
        if not isinstance(loop.body, For) or loop.body.var != inner:
            raise IRError(f"fuse: loop {inner!r} is not directly inside {outer!r}")
        child = loop.body
        f, n = index_var(name), index_const(child.extent)
        values = {outer: binary("//", f, n), inner: binary("%", f, n)}
        return For(name, loop.extent * child.extent, substitute(child.body, values), loop.kind)

    return _on_loops(k, outer, visit)


def reorder(k: Kernel, names: Sequence[str]) -> Kernel:
    """Bring perfectly nested loops into the given order; loops not named stay outermost.

      for i { for j { S } }   →   for j { for i { S } }

    Legal for any nest whose iterations are independent or only accumulate: stores inside must not
    overwrite each other along a moved loop. Raises: IRError for one that does.
    """
    rank = {n: r for r, n in enumerate(names)}

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.var not in rank:
            return s
        return _reordered(s, rank)

    return dataclasses.replace(k, body=_top_down(k.body, visit))


def _top_down(s: Stmt, f: Callable[[Stmt], Stmt]) -> Stmt:
    new = f(s)
    if new is not s:
        return new
    match s:
        case Block():
            return block(*(_top_down(c, f) for c in s.body))
        case For():
            return dataclasses.replace(s, body=_top_down(s.body, f))
        case _:
            return s


def _reordered(loop: For, rank: dict[str, int]) -> Stmt:
    """Move loops over each other and over the blocks of a peeled tail: a loop around a block of
    nests is distributed over them when the nests are independent."""
    loops: list[For] = []
    at: Stmt = loop
    while isinstance(at, For) and at.var in rank:
        loops.append(at)
        at = at.body
    if isinstance(at, Block) and all(isinstance(s, For) and s.var in rank for s in at.body):
        parts = []
        for nest in at.body:
            body: Stmt = nest
            for outer in reversed(loops):
                body = dataclasses.replace(outer, body=body)
            assert isinstance(body, For)
            parts.append(_reordered(body, rank))
        return block(*parts)
    _check_independent(at, [x.var for x in loops if x.extent > 1])
    for x in sorted(loops, key=lambda x: -rank[x.var]):
        at = dataclasses.replace(x, body=at)
    return at


def _check_independent(body: Stmt, names: Sequence[str]) -> None:
    local = {s.buffer for s in walk(body) if isinstance(s, Alloc)}
    for s in walk(body):
        if not isinstance(s, Store) or s.reduce or s.buffer in local:
            continue
        missing = [n for n in names if not any(uses_var(i, n) for i in s.index)]
        if missing:
            raise IRError(
                f"reorder: iterations of {missing[0]!r} overwrite {s.buffer.name}",
                hint="make it a reduction, or leave this loop where it is",
            )


def expand_accumulator(k: Kernel, buffer: str, names: Sequence[str]) -> Kernel:
    """Give an accumulator a dimension per loop, the reduction moved outside them: a register tile.

      for i { for j {                      alloc acc[I, J]
        alloc acc; acc = 0                 for i { for j { acc[i, j] = 0 } }
        for k { acc += f(i, j, k) }   →    for k { for i { for j { acc[i, j] += f(i, j, k) } } }
        out[i, j] = g(acc) } }             for i { for j { out[i, j] = g(acc[i, j]) } }

    `names` are innermost perfectly nested loops, outermost first; those absent in a tail are left
    out there. Raises: IRError.
    """
    wanted, copies = set(names), count()

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.var not in wanted:
            return s
        loops: list[For] = []
        at: Stmt = s
        while isinstance(at, For) and at.var in wanted:
            loops.append(at)
            at = at.body
        if not isinstance(at, Block):
            return s
        return _expanded(at, buffer, loops, next(copies))

    body = _top_down(k.body, visit)
    if not next(copies):
        raise IRError(
            f"expand_accumulator: no accumulator {buffer!r} directly inside {list(names)}"
        )
    return dataclasses.replace(k, body=body)


def _expanded(body: Block, name: str, loops: list[For], copy: int) -> Stmt:
    old = next(
        (s.buffer for s in body.body if isinstance(s, Alloc) and s.buffer.name == name), None
    )
    if old is None:
        raise IRError(f"expand_accumulator: {name!r} is not allocated inside {loops[-1].var!r}")
    own = f"{name}{copy}" if copy else name  # tails may share a scope with the main nest
    wide = Buffer.dense(own, old.dtype, [x.extent for x in loops] + list(old.shape), Scope.REGISTER)
    here = tuple(index_var(x.var) for x in loops)
    rest = block(*(s for s in body.body if not (isinstance(s, Alloc) and s.buffer == old)))
    rest = replace_buffer(rest, old, wide, lambda index: (*here, *index))
    parts = rest.body if isinstance(rest, Block) else (rest,)
    return block(Alloc(wide), *(_inside(p, loops) for p in parts))


def _inside(stmt: Stmt, loops: list[For]) -> Stmt:
    """The loops around one statement, sunk below its reduction loops."""
    if isinstance(stmt, For) and all(x.var != stmt.var for x in loops):
        return dataclasses.replace(stmt, body=_inside(stmt.body, loops))
    for x in reversed(loops):
        stmt = dataclasses.replace(x, body=stmt)
    return stmt


# Unrolling and vectors -------------------------------------------------------------------------


def unroll(k: Kernel, var: str) -> Kernel:
    """Write out every iteration. No loop of that name is fine: a tail may have lost it.

    for i in 0..2 { S(i) }   →   S(0) S(1)
    """

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.var != var:
            return s
        return block(*(substitute(s.body, {var: index_const(i)}) for i in range(s.extent)))

    return dataclasses.replace(k, body=map_stmts(k.body, visit))


def vectorize(k: Kernel, var: str) -> Kernel:
    """Each loop of that name becomes one iteration on vectors of its extent.

      for l in 0..16 { y[i, l] = x[i, l] * a[i] }   →   y[i, ramp] = x[i, ramp] * splat(a[i])

    Accesses of stride 1 in `var` are contiguous, others gathers. Raises: IRError when the body
    holds a loop, or accumulates into one element from all lanes (use `vector_reduce`).
    """
    ranges = _widest_ranges(k)

    def visit(loop: For) -> Stmt:
        if loop.extent == 1:
            return substitute(loop.body, {var: index_const(0)})
        return _vectorized(loop, ranges)

    return _on_loops(k, var, visit)


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
    ranges = _widest_ranges(k)
    return _on_loops(k, var, lambda loop: _lanewise(loop, lanes, ranges))


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
    from graphopt.kernel.ir import IDENTITY, Const

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


# Memory and threads ----------------------------------------------------------------------------


def stage(
    k: Kernel, buffer: str, at: str, shape: Sequence[int], name: str, scope: Scope = Scope.STACK
) -> Kernel:
    """Copy the whole of a parameter into a local buffer at the start of each iteration of a loop,
    and read it from there. `shape` is that of the parameter's flat buffer.

    for i { S(x[j]) }   →   for i { alloc xs; for c { xs[c] = x[c] }; S(xs[j]) }

    Raises: IRError for a buffer the kernel writes, or of another size.
    """
    source = next((p for p in k.params if p.name == buffer), None)
    if source is None or buffer in k.outputs:
        raise IRError(f"stage: {buffer!r} is not an input of {k.name}")
    if tuple(shape) != source.shape:
        raise IRError(f"stage: {buffer!r} has shape {source.shape}, not {tuple(shape)}")
    local = Buffer.dense(name, source.dtype, source.shape, scope)

    def visit(loop: For) -> Stmt:
        index = tuple(index_var(f"c{i}") for i in range(len(shape)))
        copy: Stmt = Store(local, index, Load(source.dtype, 1, source, index))
        for i, extent in reversed(list(enumerate(shape))):
            copy = For(f"c{i}", extent, copy)
        body = replace_buffer(loop.body, source, local, lambda i: i)
        return dataclasses.replace(loop, body=block(Alloc(local), copy, body))

    return _on_loops(k, at, visit)


def prefetch(k: Kernel, buffer: str, var: str, distance: int) -> Kernel:
    """Ask for what `var` will read from a parameter `distance` iterations ahead.

    for k { acc += w[k] }   →   for k { prefetch w[k + 8]; acc += w[k] }

    Exact: a prefetch has no meaning. Raises: IRError when the loop does not read the buffer.
    """

    def visit(loop: For) -> Stmt:
        loads = [
            p
            for p in walk(loop.body)
            if isinstance(p, Load)
            and p.buffer.name == buffer
            and any(uses_var(i, var) for i in p.index)
        ]
        if not loads:
            raise IRError(f"prefetch: loop {var!r} does not read {buffer!r}")
        ahead = binary("+", index_var(var), index_const(distance))
        hints = []
        for index in dict.fromkeys(p.index for p in loads):
            hint = substitute(
                Prefetch(loads[0].buffer, tuple(map(_first_lane, index))), {var: ahead}
            )
            hints.append(hint)
        return dataclasses.replace(loop, body=block(*hints, loop.body))

    return _on_loops(k, var, visit)


def _first_lane(i: Expr) -> Expr:
    return i.base if isinstance(i, Ramp) else i


def parallelize(k: Kernel) -> Kernel:
    """Let threads share the outermost loop of every top-level nest with more than one iteration.

    for i { S(i) }   →   parallel i { S(i) }

    Raises: IRError when iterations write the same element.
    """

    def top(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.extent == 1:
            return s
        _check_disjoint(s)
        return dataclasses.replace(s, kind=LoopKind.PARALLEL)

    parts = k.body.body if isinstance(k.body, Block) else (k.body,)
    if any(isinstance(p, Alloc) for p in parts):
        return k  # a kernel of one tile: its top-level loops are steps of one computation
    return dataclasses.replace(k, body=block(*map(top, parts)))


def _check_disjoint(loop: For) -> None:
    local = {s.buffer for s in walk(loop.body) if isinstance(s, Alloc)}
    for s in walk(loop.body):
        if (
            isinstance(s, Store)
            and s.buffer not in local
            and not any(uses_var(i, loop.var) for i in s.index)
        ):
            raise IRError(f"parallelize: iterations of {loop.var!r} write the same {s.buffer.name}")


def simplify(k: Kernel) -> Kernel:
    """Index arithmetic in its smallest form, by the ranges of the loops around it."""

    def visit(s: Stmt, ranges: dict[str, int]) -> Stmt:
        match s:
            case Block():
                return block(*(visit(c, ranges) for c in s.body))
            case For():
                return dataclasses.replace(s, body=visit(s.body, {**ranges, s.var: s.extent}))
            case If():
                other = None if s.otherwise is None else visit(s.otherwise, ranges)
                return If(s.condition, visit(s.then, ranges), other)
            case Store() | Prefetch():
                mapped = map_exprs(s, _IndexMap(ranges))
                assert isinstance(mapped, (Store, Prefetch))
                index = tuple(simplify_index(i, ranges) for i in mapped.index)
                return dataclasses.replace(mapped, index=index)
            case _:
                return map_exprs(s, _IndexMap(ranges))

    return dataclasses.replace(k, body=visit(k.body, {}))


class _IndexMap(ExprMap):
    def __init__(self, ranges: Ranges) -> None:
        super().__init__(lambda e: self._load(e, ranges))
        self.ranges = ranges

    def _load(self, e: Expr, ranges: Ranges) -> Expr:
        if isinstance(e, Load):
            index = tuple(simplify_index(i, ranges) for i in e.index)
            return Load(e.dtype, max((i.lanes for i in index), default=1), e.buffer, index)
        return e
