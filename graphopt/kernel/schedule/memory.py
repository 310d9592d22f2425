"""Memory: copies nearer to the core, and prefetches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges, linear
from graphopt.kernel.footprint import LINE_BYTES
from graphopt.kernel.ir import (
    Alloc,
    Block,
    Buffer,
    Expr,
    For,
    Kernel,
    Load,
    Prefetch,
    Ramp,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    index_const,
    index_var,
)
from graphopt.kernel.schedule.common import on_loops, widest_ranges
from graphopt.kernel.visit import map_stmts, replace_buffer, substitute, uses_var, walk


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

    return on_loops(k, at, visit)


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

    return on_loops(k, var, visit)


def prefetch_next(
    k: Kernel, buffer: str, within: str, var: str, *, level: int = 1, streams: int = 1
) -> Kernel:
    """While an iteration of `within` reads its part of a parameter, ask for the next one's. Each
    run of `var`, which goes through the part, or each of its rows, once, asks for an equal share,
    a little per step. With several `streams` neighbouring steps ask in as many pieces of the part,
    side by side: a core that runs ahead of what it sees asked for runs ahead in each of them.

    for e { for t in 0..2 { for k in 0..8 { S(w[e * 128 + k * 16]) } } }   →   for e { for t in 0..2
    { for k in 0..8 { prefetch w[e * 128 + 128 + t * 64 + k * 8]; S(w[e * 128 + k * 16]) } } }

    That hides memory whose bandwidth one run could not wait for. `level`: of the cache that they
    should come to. Exact: a prefetch has no meaning.
    Raises: IRError where parts are not one stream.
    """
    ranges = widest_ranges(k)

    def visit(loop: For) -> Stmt:
        part = _part_of(loop, buffer, var, ranges)
        runs = _runs(loop.body, var)

        def ask(s: Stmt, run: Expr) -> Stmt:
            """With prefetches in every `var` of `s`, whose first one is number `run`."""
            if isinstance(s, Block):
                out = []
                for child in s.body:
                    out.append(ask(child, run))
                    run = binary("+", run, index_const(_runs(child, var)))
                return block(*out)
            if not isinstance(s, For):
                return s
            if s.var != var:
                each = binary("*", index_var(s.var), index_const(_runs(s.body, var)))
                return dataclasses.replace(s, body=ask(s.body, binary("+", run, each)))
            asked = part.asked(s, run, runs, min(streams, s.extent))
            hints = (Prefetch(part.buffer, (i,), level) for i in asked)
            return dataclasses.replace(s, body=block(*hints, s.body))

        return dataclasses.replace(loop, body=ask(loop.body, index_const(0)))

    return on_loops(k, within, visit)


@dataclass(frozen=True)
class _Part:
    """What an iteration of a loop reads: `size` elements; `next`: where its successor's begin."""

    buffer: Buffer
    next: Expr
    size: int

    @property
    def line(self) -> int:
        """Elements of a cache line."""
        return LINE_BYTES // self.buffer.dtype.size_bytes

    def asked(self, loop: For, run: Expr, runs: int, streams: int) -> list[Expr]:
        """The lines of the next part that an iteration of `loop` asks for, in the run of that
        number; all `runs` together ask for all of it, in so many streams."""
        turn: Expr = index_var(loop.var)
        lines = -(-self.size // (streams * self.line))
        stream = self.size if streams == 1 else lines * self.line
        share = -(-stream // runs)
        step = -(-share // -(-loop.extent // streams))
        first = binary("+", self.next, binary("*", run, index_const(share)))
        if streams > 1:
            which = binary("%", turn, index_const(streams))
            first = binary("+", first, binary("*", which, index_const(stream)))
            turn = binary("//", turn, index_const(streams))
        first = binary("+", first, binary("*", turn, index_const(step)))
        return [binary("+", first, index_const(i)) for i in range(0, step, self.line)]


def _part_of(loop: For, buffer: str, var: str, ranges: Ranges) -> _Part:
    inner = [p for p in walk(loop.body) if isinstance(p, For) and p.var == var]
    loads = [
        p for f in inner for p in walk(f.body) if isinstance(p, Load) and p.buffer.name == buffer
    ]
    if not loads:
        raise IRError(f"prefetch_next: no loop {var!r} in {loop.var!r} reads {buffer!r}")
    several = {**ranges, var: inner[0].extent + 1, loop.var: loop.extent + 1}  # as if there were
    reads = [linear(_first_lane(p.index[-1]), several) for p in loads]
    at = min(reads, key=lambda i: i.constant)
    run = at.coefficient(var) * inner[0].extent
    size = run * (1 + max(i.constant - at.constant for i in reads) // run) if run > 0 else run
    apart = loop.extent > 1 and at.coefficient(loop.var) != size
    if len(loads[0].buffer.shape) > 1 or size <= 0 or apart:
        raise IRError(f"prefetch_next: what iterations of {loop.var!r} read is not one stream")
    following = {var: index_const(size // at.coefficient(var))}
    start = substitute(Prefetch(loads[0].buffer, (at.expr(),)), following)
    assert isinstance(start, Prefetch)
    return _Part(start.buffer, start.index[0], size)


def prefetch_epilogue(k: Kernel, accumulator: str, beyond: int) -> Kernel:
    """Ask for what the results of a register tile are made with before its sum begins, of inputs
    that are larger than `beyond` bytes.

    for k { acc += f(k) }; y[i] = acc + r[i]   →   prefetch r[i]; for k { acc += f(k) }; ...

    Exact: a prefetch has no meaning. The kernel is as it was where nothing is read so.
    """
    inputs = {
        p.name for p in k.params
        if p.name not in k.outputs and p.dtype.size_bytes * math.prod(p.shape) > beyond
    }  # fmt: skip

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, Block):
            return s
        own = [p.buffer for p in s.body if isinstance(p, Alloc)]
        own = [b for b in own if b.name.startswith(accumulator)]
        sums = [i for i, part in enumerate(s.body) if _sums_into(part, own)]
        if not sums:
            return s
        first, last = sums[0], sums[-1]
        hints = [h for part in s.body[last + 1 :] if (h := _hints(part, inputs)) is not None]
        return block(*s.body[:first], *hints, *s.body[first:])

    return dataclasses.replace(k, body=map_stmts(k.body, visit))


def _sums_into(s: Stmt, tiles: Sequence[Buffer]) -> bool:
    """Whether it reduces into one of these register tiles."""
    return any(isinstance(p, Store) and p.reduce and p.buffer in tiles for p in walk(s))


def _hints(s: Stmt, inputs: Collection[str]) -> Stmt | None:
    """What asks for all that a nest reads of `inputs`, if it reads any."""
    if isinstance(s, For):
        body = _hints(s.body, inputs)
        return None if body is None else dataclasses.replace(s, body=body)
    if isinstance(s, Block):
        parts = [h for part in s.body if (h := _hints(part, inputs)) is not None]
        return block(*parts) if parts else None
    if not isinstance(s, Store):
        return None
    loads = [p for p in walk(s.value) if isinstance(p, Load) and p.buffer.name in inputs]
    hints = (Prefetch(p.buffer, tuple(map(_first_lane, p.index))) for p in loads)
    parts = list(dict.fromkeys(hints))
    return block(*parts) if parts else None


def _runs(s: Stmt, var: str) -> int:
    """How often `var` is run through."""
    if isinstance(s, Block):
        return sum(_runs(child, var) for child in s.body)
    if isinstance(s, For):
        return 1 if s.var == var else s.extent * _runs(s.body, var)
    return 0


def _first_lane(i: Expr) -> Expr:
    return i.base if isinstance(i, Ramp) else i
