"""Index arithmetic."""

from __future__ import annotations

import dataclasses

from graphopt.kernel.affine import Ranges, simplify_index
from graphopt.kernel.ir import (
    Block,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Prefetch,
    Stmt,
    Store,
    block,
)
from graphopt.kernel.visit import ExprMap, map_exprs


def simplify(k: Kernel) -> Kernel:
    """Index arithmetic in its smallest form, by the ranges of the loops around it. A kernel that
    has it already is returned as it is."""
    body = _simplified(k.body, _IndexMap({}))
    return k if body is k.body else dataclasses.replace(k, body=body)


def _simplified(s: Stmt, mapper: _IndexMap) -> Stmt:
    match s:
        case Block():
            parts = [_simplified(c, mapper) for c in s.body]
            same = all(x is y for x, y in zip(parts, s.body, strict=True))
            return s if same else block(*parts)
        case For():
            body = _simplified(s.body, _IndexMap({**mapper.ranges, s.var: s.extent}))
            return s if body is s.body else dataclasses.replace(s, body=body)
        case If():
            return _simplified_if(s, mapper)
        case Store() | Prefetch():
            mapped = map_exprs(s, mapper)
            assert isinstance(mapped, (Store, Prefetch))
            index = mapper.smaller(mapped.index)
            return mapped if index is mapped.index else dataclasses.replace(mapped, index=index)
        case _:
            return map_exprs(s, mapper)


def _simplified_if(s: If, mapper: _IndexMap) -> Stmt:
    condition, then = mapper(s.condition), _simplified(s.then, mapper)
    other = None if s.otherwise is None else _simplified(s.otherwise, mapper)
    same = condition is s.condition and then is s.then and other is s.otherwise
    return s if same else If(condition, then, other)


class _IndexMap(ExprMap):
    """Simplifies the indices of loads inside loops of these ranges."""

    def __init__(self, ranges: Ranges) -> None:
        super().__init__(self._load)
        self.ranges = ranges

    def smaller(self, index: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """The simplified indices; the very same object when nothing changes."""
        new = tuple(simplify_index(i, self.ranges) for i in index)
        return index if new == index else new

    def _load(self, e: Expr) -> Expr:
        if not isinstance(e, Load):
            return e
        index = self.smaller(e.index)
        if index is e.index:
            return e
        return Load(e.dtype, max((i.lanes for i in index), default=1), e.buffer, index)
