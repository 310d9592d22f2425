"""Unrolling."""

from __future__ import annotations

import dataclasses

from graphopt.kernel.ir import For, Kernel, Stmt, block, index_const
from graphopt.kernel.visit import map_stmts, substitute


def unroll(k: Kernel, var: str) -> Kernel:
    """Write out every iteration. No loop of that name is fine: a tail may have lost it.

    for i in 0..2 { S(i) }   →   S(0) S(1)
    """

    def visit(s: Stmt) -> Stmt:
        if not isinstance(s, For) or s.var != var:
            return s
        return block(*(substitute(s.body, {var: index_const(i)}) for i in range(s.extent)))

    return dataclasses.replace(k, body=map_stmts(k.body, visit))
