"""What registers of a thread hold: whole vectors, or halves on their way."""

from __future__ import annotations

from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Const,
    Expr,
    If,
    Let,
    Load,
    Ramp,
    Scope,
    Stmt,
    Store,
    index_const,
)
from graphopt.kernel.visit import walk
from graphopt_backends.cuda.emit.ctypes import HALF


def vector_registers(s: Stmt) -> frozenset[Buffer]:
    """Registers that are read and written a whole last axis at a time."""
    whole: set[Buffer] = set()
    parts: set[Buffer] = set()
    for e in walk(s):
        if isinstance(e, (Load, Store)) and e.buffer.scope is Scope.REGISTER and e.index:
            lanes = e.buffer.shape[-1]
            ramp = Ramp(INDEX, lanes, index_const(0), 1)
            (whole if lanes > 1 and e.index[-1] == ramp else parts).add(e.buffer)
    return frozenset(whole - parts)


def moved_halves(s: Stmt) -> frozenset[Buffer]:
    """Registers of halves that come from memory and go to memory as they are."""
    halves: set[Buffer] = set()
    computed: set[Buffer] = set()
    for part in walk(s):
        roots: tuple[Stmt | Expr, ...] = ()
        if isinstance(part, Store):
            plain = _is_move(part)
            roots = part.index if plain else (*part.index, part.value)
            if part.buffer.scope is Scope.REGISTER and part.buffer.dtype in HALF:
                (halves if plain else computed).add(part.buffer)
        elif isinstance(part, Let):
            roots = (part.value,)
        elif isinstance(part, If):
            roots = (part.condition,)
        computed |= {e.buffer for root in roots for e in walk(root) if isinstance(e, Load)}
    return frozenset(halves - computed)


def _is_move(s: Store) -> bool:
    """Whether what is stored goes to or comes from memory as it is."""
    if s.reduce or not isinstance(s.value, (Load, Const)):
        return False
    scopes = {s.buffer.scope}
    if isinstance(s.value, Load):
        scopes.add(s.value.buffer.scope)
    return isinstance(s.value, Const) or scopes != {Scope.REGISTER}
