"""Equal expressions as one node, and names for those that are used more than once. Lowerings share
expression objects freely: as a tree, twenty operations that each use their operand twice are a
million terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from graphopt.kernel.ir import INDEX, Binary, Broadcast, Const, Expr, Load, Ramp, Scope, Var
from graphopt.kernel.visit import children


def tree_size(e: Expr, known: dict[int, int]) -> int:
    """How many expressions a tree holds when nothing is shared. `known` remembers objects by id,
    which must outlive it."""
    size = known.get(id(e))
    if size is None:
        size = 1 + sum(tree_size(c, known) for c in children(e))
        known[id(e)] = size
    return size


class Dag:
    """Numbers expressions, equal ones alike, parts before wholes. Hashing whole trees instead would
    take time exponential in their depth."""

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
        parts: list[int] = []
        key: list[object] = [type(e)]
        key += [self._key(getattr(e, name), parts) for name in e.__dataclass_fields__]
        n = self._equal.setdefault(tuple(key), len(self.nodes))
        if n == len(self.nodes):
            self.nodes.append(e)
            self.children.append(parts)
        self._known[id(e)] = n
        self._alive.append(e)
        return n

    def _key(self, value: object, parts: list[int]) -> object:
        if isinstance(value, Expr):
            parts.append(self.intern(value))
            return ("node", parts[-1])
        if isinstance(value, tuple):
            return tuple(self._key(v, parts) for v in value)
        # 0.0 == -0.0 and True == 1: constants differ by their text
        return repr(value) if isinstance(value, (float, bool)) else value

    def uses(self, tops: Sequence[int], is_cheap: Callable[[Expr], bool]) -> list[int]:
        """How often each node is written, given that those used more than once get a name and are
        written once; cheap ones get none."""
        out = [0] * len(self.nodes)
        for n in tops:
            out[n] += 1
        for n in reversed(range(len(self.nodes))):
            times = out[n] if is_cheap(self.nodes[n]) else min(out[n], 1)
            for child in self.children[n]:
                out[child] += times
        return out

    def rebuilt(self, n: int, done: dict[int, Expr]) -> Expr:
        """A node over rewritten children; itself where none changed."""
        e = self.nodes[n]
        if all(done[c] is self.nodes[c] for c in self.children[n]):
            return e
        changes: dict[str, Any] = {
            name: self._swap(getattr(e, name), done) for name in e.__dataclass_fields__
        }
        return dataclasses.replace(e, **changes)

    def _swap(self, value: object, done: dict[int, Expr]) -> object:
        if isinstance(value, Expr):
            return done[self._known[id(value)]]
        if isinstance(value, tuple):
            return tuple(self._swap(v, done) for v in value)
        return value


def share(roots: Sequence[Expr], first: int = 0) -> tuple[list[tuple[str, Expr]], list[Expr]]:
    """(name, value) bindings in order, named from t`first` on, and the expressions in terms of
    them."""
    if not _may_repeat(roots):
        return [], list(roots)
    dag = Dag()
    tops = [dag.intern(e) for e in roots]
    uses = dag.uses(tops, _is_cheap)
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


def _may_repeat(roots: Sequence[Expr]) -> bool:
    """Whether an expression that is not cheap may come twice: not where no two are even of a kind,
    as in most of what an unrolled loop stores."""
    seen: set[object] = set()
    stack = list(roots)
    while stack:
        e = stack.pop()
        parts = children(e)
        if parts:
            kind = id(e) if _is_cheap(e) else _kind(e)
            if kind in seen:
                return True
            seen.add(kind)
            stack += parts
    return False


def _kind(e: Expr) -> tuple[object, ...]:
    """Equal expressions are of one kind."""
    return (type(e), *(getattr(e, name, None) for name in ("op", "name", "buffer")))


def _is_cheap(e: Expr) -> bool:
    """Printed again wherever it is used: what C says in a word, and loop arithmetic, whose
    simplification needs to see the loop variables."""
    if isinstance(e, (Var, Const, Broadcast, Ramp)):
        return True
    if isinstance(e, Load):
        return e.buffer.scope is Scope.REGISTER
    return isinstance(e, Binary) and e.dtype is INDEX
