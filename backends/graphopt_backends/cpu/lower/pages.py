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
    For,
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
    """Rows of a region, where lanes run across them."""

    def __init__(self, region: Region) -> None:
        super().__init__(region)
        self.lane: Expr = index_const(0)

    def streams(self) -> bool:
        """Whether rows are long and come from beyond the level 2 cache, and leave sums alone."""
        d = self.domain
        if any(self._worth_keeping(n) for n in range(len(self.reductions))):
            return False
        long = d.dims[d.vector] >= 2 * TOGETHER[0] * self.lanes
        far = _WORD * math.prod(d.dims) > self.region.target.l2_bytes
        return long and far and all(map(self._is_of_row, self.region.body.outputs))

    def _across(self) -> Stmt:
        d, nests = self.domain, []
        for start, width, count in chunks(d.dims[d.vector], self._page()):
            page = self.region.loop("page", count)
            first = binary("+", binary("*", page, index_const(width)), index_const(start))
            self._reset()
            sums = [self._sum_of_page(n, r, first, width) for n, r in enumerate(self.reductions)]
            body = block(*sums, self._over_page(first, width, self._results))
            nests.append(For("page", count, body) if count > 1 else body)
        return block(*nests)

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
        rows = {a: self.region.loop(f"r{a}", self.domain.dims[a]) for a in self.domain.reduced}

        def begin(lane: Expr) -> Stmt:
            return Store(acc, (lane,), const(identity(op, dtype), dtype, lane.lanes))

        def add(lane: Expr) -> Stmt:
            element = self.access.at(x, self._full_index(rows))
            return Store(acc, (lane,), broadcast(element, lane.lanes), reduce=op)

        def sum_of(index: Index) -> Expr:
            row_only(node, index, self._result_index(node.result))
            return load(acc, self.lane)

        body = self._over_page(first, page, add)
        for a in reversed(self.domain.reduced):
            body = For(f"r{a}", self.domain.dims[a], body) if self.domain.dims[a] > 1 else body
        self._keep(node.result, sum_of)
        return block(Alloc(acc), self._over_page(first, page, begin), body)

    def _over_page(self, first: Expr, page: int, of: Callable[[Expr], Stmt]) -> Stmt:
        """What there is to do for every vector of a page, from `first` on."""
        nests = []
        for start, width, count in chunks(page, self.lanes):
            x = self.region.loop("x", count)
            at = binary("+", binary("*", x, index_const(width)), index_const(start))
            self.lane = contiguous(at, width)
            whole = self.access.simplify(binary("+", first, at))
            self.kept_index[self.domain.vector] = contiguous(whole, width)
            body = of(self.lane)
            nests.append(For("x", count, body) if count > 1 else body)
        return block(*nests)

    def _results(self, _: Expr) -> Stmt:
        return block(*(self._result(n, r) for n, r in enumerate(self.region.body.outputs)))
