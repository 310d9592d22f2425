"""What the primitives share: finding loops by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from graphopt.errors import IRError
from graphopt.kernel.affine import Ranges
from graphopt.kernel.dependence import conflicts
from graphopt.kernel.ir import INDEX, Block, For, If, Kernel, Let, Stmt, Var, block
from graphopt.kernel.scope import IndexScope
from graphopt.kernel.visit import map_stmts, walk


def on_loops(k: Kernel, var: str, f: Callable[[For], Stmt]) -> Kernel:
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


def top_down(s: Stmt, f: Callable[[Stmt], Stmt]) -> Stmt:
    new = f(s)
    if new is not s:
        return new
    match s:
        case Block():
            return block(*(top_down(c, f) for c in s.body))
        case For():
            return dataclasses.replace(s, body=top_down(s.body, f))
        case If():
            other = None if s.otherwise is None else top_down(s.otherwise, f)
            return If(s.condition, top_down(s.then, f), other)
        case _:
            return s


def loop_names(k: Kernel) -> tuple[str, ...]:
    """Loop names, outermost first, each once."""
    return tuple(dict.fromkeys(s.var for s in walk(k.body) if isinstance(s, For)))


def has_loop(k: Kernel, var: str) -> bool:
    return var in loop_names(k)


def widest_ranges(k: Kernel) -> Ranges:
    """The largest extent of each loop name: safe for every loop of that name."""
    out: dict[str, int] = {}
    for s in walk(k.body):
        if isinstance(s, For):
            out[s.var] = max(s.extent, out.get(s.var, 0))
    return out


def carried(loop: For, ranges: Ranges) -> list[str]:
    """Buffers through which iterations of a loop may depend on each other. `ranges` are those of
    all loops of the kernel; the ones around, and lets around, stand still meanwhile."""
    inside = {s.var for s in walk(loop.body) if isinstance(s, (For, Let))}
    names = {s.name for s in walk(loop.body) if isinstance(s, Var)} - inside - {loop.var}
    around = {n: ranges[n] for n in names if n in ranges}
    lets = {n: Var(INDEX, 1, n) for n in names if n not in ranges}
    return [c.buffer.name for c in conflicts(loop, IndexScope(around, lets))]
