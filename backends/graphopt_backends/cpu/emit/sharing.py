"""Names for subexpressions that a statement uses more than once.

Lowerings share expression objects freely; printed as a tree, a chain of twenty ops that each use
their operand twice would be a million terms.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from graphopt.kernel.sharing import Dag


def share(roots: Sequence[Expr], first: int = 0) -> tuple[list[tuple[str, Expr]], list[Expr]]:
    """(name, value) bindings in order, named from t`first` on, and the expressions in terms of
    them."""
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


def _is_cheap(e: Expr) -> bool:
    """Printed again wherever it is used: what C says in a word, and loop arithmetic, whose
    simplification needs to see the loop variables."""
    if isinstance(e, (Var, Const, Broadcast, Ramp)):
        return True
    if isinstance(e, Load):
        return e.buffer.scope is Scope.REGISTER
    return isinstance(e, Binary) and e.dtype is INDEX
