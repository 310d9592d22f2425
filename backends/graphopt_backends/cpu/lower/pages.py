"""Sums across long rows that come from beyond the level 2 cache: rows are read one after the other,
a page of memory of each, which the processor fetches ahead.

  for page { for x { sum[x] = 0 }
             for row { for x { sum[x] += in[row, page, x] } }
             for x { out[page, x] = f(sum[x]) } }

The sums are too many for registers and stay in the level 1 cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.ir.graph import Node
from graphopt.kernel.ir import (
    Alloc,
    Buffer,
    Expr,
    Scope,
    Stmt,
    Store,
    binary,
    block,
    broadcast,
    const,
    contiguous,
    index_const,
    load,
)
from graphopt.lower.access import Index
from graphopt.lower.loops import chunks
from graphopt.lower.region import Region
from graphopt.lower.rows import REDUCTIONS, identity, row_only
from graphopt_backends.cpu.lower.rows import TOGETHER, Rows

_WORD = 4
_PAGE = 1024
"""Elements. 16 MB that a product has just left in [4, 1024, 1024] take 0.55 ms by as many, 0.9 by
512 and 1.2 by 128, in registers."""


class Pages(Rows):
    """Rows of which those that stream are read by pages. `lane` is where the nest is in one."""

    def __init__(self, region: Region) -> None:
        super().__init__(region)
        self.lane: Expr = index_const(0)

    def _streams(self) -> bool:
        """Whether rows are long and come from beyond the level 2 cache, and leave sums alone."""
        d = self.domain
        if any(self._worth_keeping(n) for n in range(len(self.reductions))):
            return False
        long = d.dims[d.vector] >= 2 * TOGETHER[0] * self.lanes
        far = _WORD * math.prod(d.dims) > self.region.target.l2_bytes
        return long and far and all(map(self._is_of_row, self.region.body.outputs))

    def _across(self) -> Stmt:
        if not self._streams():
            return super()._across()

        def of(first: Expr, page: int) -> Stmt:
            self._reset()
            sums = [self._sum_of_page(n, r, first, page) for n, r in enumerate(self.reductions)]
            return block(*sums, self._over_page(first, page, self._results))

        return self._each("page", chunks(self.domain.dims[self.domain.vector], self._page()), of)

    def _page(self) -> int:
        """Of all rows where there are several pages or groups of rows for threads to share; else
        half of them."""
        d = self.domain
        groups, extent = math.prod(d.dims[a] for a in d.kept if a != d.vector), d.dims[d.vector]
        if groups > 1 or extent > _PAGE:
            return _PAGE
        return -(-extent // (2 * self.lanes)) * self.lanes

    def _sum_of_page(self, n: int, node: Node, first: Expr, page: int) -> Stmt:
        op, (x,), dtype = REDUCTIONS[node.op.name], node.operands, node.result.type.dtype
        acc = Buffer.dense(f"{node.op.name}{n}_{page}", dtype, (page,), Scope.SCRATCH)

        def begin() -> Stmt:
            return Store(acc, (self.lane,), const(identity(op, dtype), dtype, self.lane.lanes))

        def add() -> Stmt:
            element = self.access.at(x, self._full_index(self._other_loops()))
            return Store(acc, (self.lane,), broadcast(element, self.lane.lanes), reduce=op)

        def sum_of(index: Index) -> Expr:
            row_only(node, index, self._result_index(node.result))
            return load(acc, self.lane)

        body = self._around_others(self._over_page(first, page, add))
        self._keep(node.result, sum_of)
        return block(Alloc(acc), self._over_page(first, page, begin), body)

    def _over_page(self, first: Expr, page: int, of: Callable[[], Stmt]) -> Stmt:
        """What there is to do for every vector of a page, from `first` on."""

        def vector(at: Expr, width: int) -> Stmt:
            self.lane = contiguous(at, width)
            whole = self.access.simplify(binary("+", first, at))
            self.kept_index[self.domain.vector] = contiguous(whole, width)
            return of()

        return self._each("x", chunks(page, self.lanes), vector)
