"""Index arithmetic."""

from __future__ import annotations

import dataclasses

from graphopt.kernel.affine import Ranges, simplify_index
from graphopt.kernel.ir import Block, Expr, For, If, Kernel, Load, Prefetch, Stmt, Store, block
from graphopt.kernel.visit import ExprMap, map_exprs


def simplify(k: Kernel) -> Kernel:
    """Index arithmetic in its smallest form, by the ranges of the loops around it."""

    def visit(s: Stmt, ranges: dict[str, int]) -> Stmt:
        match s:
            case Block():
                return block(*(visit(c, ranges) for c in s.body))
            case For():
                return dataclasses.replace(s, body=visit(s.body, {**ranges, s.var: s.extent}))
            case If():
                other = None if s.otherwise is None else visit(s.otherwise, ranges)
                return If(s.condition, visit(s.then, ranges), other)
            case Store() | Prefetch():
                mapped = map_exprs(s, _IndexMap(ranges))
                assert isinstance(mapped, (Store, Prefetch))
                index = tuple(simplify_index(i, ranges) for i in mapped.index)
                return dataclasses.replace(mapped, index=index)
            case _:
                return map_exprs(s, _IndexMap(ranges))

    return dataclasses.replace(k, body=visit(k.body, {}))


class _IndexMap(ExprMap):
    def __init__(self, ranges: Ranges) -> None:
        super().__init__(lambda e: self._load(e, ranges))
        self.ranges = ranges

    def _load(self, e: Expr, ranges: Ranges) -> Expr:
        if isinstance(e, Load):
            index = tuple(simplify_index(i, ranges) for i in e.index)
            return Load(e.dtype, max((i.lanes for i in index), default=1), e.buffer, index)
        return e
