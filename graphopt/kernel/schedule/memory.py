"""Memory: copies nearer to the core, and prefetches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from graphopt.errors import IRError
from graphopt.kernel.ir import (
    Alloc,
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
from graphopt.kernel.schedule.common import on_loops
from graphopt.kernel.visit import replace_buffer, substitute, uses_var, walk


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


def _first_lane(i: Expr) -> Expr:
    return i.base if isinstance(i, Ramp) else i
