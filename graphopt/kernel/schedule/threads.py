"""Threads."""

from __future__ import annotations

import dataclasses

from graphopt.errors import IRError
from graphopt.kernel.ir import Alloc, Block, For, Kernel, LoopKind, Stmt, Store, block
from graphopt.kernel.visit import uses_var, walk


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
