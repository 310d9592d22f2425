"""Names for subexpressions that a statement uses more than once.

Lowerings share expression objects freely; printed as a tree, a chain of twenty ops that each use
their operand twice would be a million terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from graphopt.kernel.ir import (
    INDEX,
    Binary,
    Broadcast,
    Const,
    Expr,
    Load,
    Ramp,
    Scope,
    Var,
)


def share(roots: Sequence[Expr], first: int = 0) -> tuple[list[tuple[str, Expr]], list[Expr]]:
    """(name, value) bindings in order, named from t`first` on, and the expressions in terms of
    them."""
    dag = _Dag()
    tops = [dag.intern(e) for e in roots]
    uses = dag.uses(tops)
    bindings: list[tuple[str, Expr]] = []
    done: dict[int, Expr] = {}
    for n, e in enumerate(dag.nodes):  # children come first
        rebuilt = dag.rebuilt(n, done)
        if uses[n] > 1 and not _is_cheap(e):
            name = f"t{first + len(bindings)}"
            bindings.append((name, rebuilt))
            rebuilt = Var(e.dtype, e.lanes, name)
        done[n] = rebuilt
    return bindings, [done[n] for n in tops]


def _is_cheap(e: Expr) -> bool:
    """Printed again wherever it is used: what C says in a word, and loop arithmetic, whose
    simplification needs to see the loop variables."""
    if isinstance(e, (Var, Const, Broadcast, Ramp)):
        return True
    if isinstance(e, Load):
        return e.buffer.scope is Scope.REGISTER
    return isinstance(e, Binary) and e.dtype is INDEX


class _Dag:
    """Equal expressions as one node. Hashing whole trees would take time exponential in depth."""

    def __init__(self) -> None:
        self.nodes: list[Expr] = []
        self.children: list[list[int]] = []
        self._known: dict[int, int] = {}
        self._equal: dict[tuple[object, ...], int] = {}
        self._alive: list[Expr] = []  # ids stay valid while their objects live

    def intern(self, e: Expr) -> int:
        """The number of an expression's node."""
        if id(e) in self._known:
            return self._known[id(e)]
        children: list[int] = []
        key: list[object] = [type(e)]
        for field in dataclasses.fields(e):
            key.append(self._key(getattr(e, field.name), children))
        n = self._equal.setdefault(tuple(key), len(self.nodes))
        if n == len(self.nodes):
            self.nodes.append(e)
            self.children.append(children)
        self._known[id(e)] = n
        self._alive.append(e)
        return n

    def _key(self, value: object, children: list[int]) -> object:
        if isinstance(value, Expr):
            children.append(self.intern(value))
            return ("node", children[-1])
        if isinstance(value, tuple):
            return tuple(self._key(v, children) for v in value)
        # 0.0 == -0.0 and True == 1: constants differ by their text
        return repr(value) if isinstance(value, (float, bool)) else value

    def uses(self, tops: Sequence[int]) -> list[int]:
        """How often each node would be printed, given that named ones are printed once."""
        out = [0] * len(self.nodes)
        for n in tops:
            out[n] += 1
        for n in reversed(range(len(self.nodes))):
            times = out[n] if _is_cheap(self.nodes[n]) else min(out[n], 1)
            for child in self.children[n]:
                out[child] += times
        return out

    def rebuilt(self, n: int, done: dict[int, Expr]) -> Expr:
        """A node over rewritten children; itself where none changed."""
        e = self.nodes[n]
        if all(done[c] is self.nodes[c] for c in self.children[n]):
            return e
        changes: dict[str, Any] = {
            f.name: self._swap(getattr(e, f.name), done) for f in dataclasses.fields(e)
        }
        return dataclasses.replace(e, **changes)

    def _swap(self, value: object, done: dict[int, Expr]) -> object:
        if isinstance(value, Expr):
            return done[self._known[id(value)]]
        if isinstance(value, tuple):
            return tuple(self._swap(v, done) for v in value)
        return value
