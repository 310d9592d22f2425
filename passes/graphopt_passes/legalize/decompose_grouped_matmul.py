"""decompose-grouped-matmul: consecutive groups of rows, each with weights of its own, in blocks.

  %y = grouped_matmul %x, %w, %ends        x: f32[256,k], w: f32[8,k,n], ends: i32[8]
  →   ... which group each block belongs to, which row of x each of its rows is ...
      %b = gather %x, %source              f32[39,8,k]
      %p = gathered_matmul %b, %w, %group  f32[39,8,n]
      %y = gather %p, %place               f32[256,n]

Every group is filled up to whole blocks. However the rows are spread, that makes at most as many
blocks as are there; those left over have no group, and no weights are read for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ir.types import DType
from graphopt.ops import (
    CastAttrs,
    ConcatAttrs,
    CumsumAttrs,
    FullAttrs,
    GatherAttrs,
    IotaAttrs,
    ReshapeAttrs,
    SliceAttrs,
    SumAttrs,
)
from graphopt.ops.base import Attrs
from graphopt.passbase import EXACT, Numerics, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt_passes.recipes import LAID_OUT, laid_out

_INDEX = DType.I32


@dataclass(frozen=True)
class DecomposeGroupedMatmul(RewritePass):
    """A block has `rows`, 0 for the power of 2 up to `most` of least estimated time: a block takes
    as long as its rows, filled up or not, and `overhead` more of them, to read its weights again.

    The weights come from memory once whatever the blocks are: those of a group follow each other
    for every panel of them. So what counts is a core's own time, or a multiprocessor's. On one core
    with AVX-512, 4 rows were best for 8 to 64 experts of 4 to 128 rows each (8 took 3 to 30 % more
    time, 2 up to 29 %), and 2 where most experts had one row.

    Numerics: exact. Refuses: nothing.
    """

    name: ClassVar[str] = "decompose-grouped-matmul"
    numerics: ClassVar[Numerics] = EXACT
    root: ClassVar[str] = "grouped_matmul"
    rows: int = 0
    most: int = 4
    overhead: int = 2

    def plan(self, node: Node) -> Plan | Reject:
        return Reject(LAID_OUT) if laid_out(node) else Plan(node)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        x, w, _ = plan.node.operands
        type = plan.node.result.type
        if not type.numel:
            nothing = FullAttrs(0.0, type.dims, type.dtype)
            rw.replace(plan.node.result, rw.emit("full", attrs=nothing, loc=plan.node.loc))
            return
        size = self.rows or self._choose(x.type.dims[0], w.type.dims[0])
        rw.replace(plan.node.result, _Blocks(rw, plan.node, size).result())

    def _choose(self, rows: int, groups: int) -> int:
        sizes = [1 << i for i in range(self.most.bit_length())]
        return min(sizes, key=lambda size: _blocks(rows, groups, size) * (size + self.overhead))


def _blocks(rows: int, groups: int, size: int) -> float:
    """How many blocks of `size` rows are to be expected, each row being of any group alike."""
    used = groups * (1 - math.exp(-rows / groups))
    return max(used, rows / size + used * (1 - 1 / size) / 2)


class _Blocks:
    """Emits one product by blocks of `size` rows. Positions are [rows], [groups], or [blocks]."""

    def __init__(self, rw: Rewriter, node: Node, size: int) -> None:
        self.rw, self.node, self.size = rw, node, size
        self.x, self.w, ends = node.operands
        self.rows, self.groups = self.x.type.dims[0], self.w.type.dims[0]
        filled = (size - 1) * min(self.groups, self.rows)
        self.blocks = min(self.rows, (self.rows + filled) // size)
        self.ends = self._cast(ends)

    def result(self) -> Value:
        row = self._iota(self.rows)
        group = self._group(row, self.ends)
        if self.size == 1:
            return self._shaped(self._product(self._shaped(self.x, (self.rows, 1, -1)), group))
        last, shift = self._shift()
        block = self._iota(self.blocks)
        group_of_block = self._group(block, last)
        source = self._emit("add", self._times(block, self.size), self._of(shift, group_of_block))
        within = self._iota(self.size)
        source = self._emit("add", self._column(source), within)
        chosen = self._gather(self.x, self._emit("minimum", source, self._full(self.rows - 1)))
        y = self._shaped(self._product(chosen, group_of_block))
        place = self._emit("sub", row, self._of(shift, group))
        place = self._emit("minimum", place, self._full(self.blocks * self.size - 1))
        inside = self._column(self._emit("lt", group, self._full(self.groups)))
        zero = self._emit("full", attrs=FullAttrs(0.0, (), y.type.dtype))
        return self._emit("where", inside, self._gather(y, place), zero)

    def _shift(self) -> tuple[Value, Value]:
        """Of each group, the block that its blocks end before, and how far its rows in x lie behind
        those in blocks."""
        starts = self._full(0, 1)
        if self.groups > 1:
            before = SliceAttrs((0,), (self.groups - 1,), (1,))
            starts = self._emit(
                "concat", starts, self._emit("slice", self.ends, attrs=before), attrs=ConcatAttrs(0)
            )
        count = self._emit("sub", self.ends, starts)
        count = self._emit("add", count, self._full(self.size - 1))
        count = self._emit("floor_div", count, self._full(self.size))
        last = self._cast(self._emit("cumsum", count, attrs=CumsumAttrs(0)))
        first = self._times(self._emit("sub", last, count), self.size)
        return last, self._emit("sub", starts, first)

    def _group(self, position: Value, ends: Value) -> Value:
        """How many groups end at or before a position: the number of its own; past all of them,
        how many there are."""
        past = self._emit("ge", self._column(position), ends)
        return self._cast(self._emit("sum", self._cast(past), attrs=SumAttrs((1,), False)))

    def _product(self, blocks: Value, group: Value) -> Value:
        return self._emit("gathered_matmul", blocks, self.w, group)

    # Emission ----------------------------------------------------------------------------------

    def _emit(self, op: str, *operands: Value, attrs: Attrs | None = None) -> Value:
        return self.rw.emit(op, *operands, attrs=attrs, loc=self.node.loc)

    def _full(self, value: int, *shape: int) -> Value:
        return self._emit("full", attrs=FullAttrs(float(value), shape, _INDEX))

    def _iota(self, size: int) -> Value:
        return self._emit("iota", attrs=IotaAttrs(0.0, 1.0, size, _INDEX))

    def _cast(self, x: Value) -> Value:
        return x if x.type.dtype is _INDEX else self._emit("cast", x, attrs=CastAttrs(_INDEX))

    def _times(self, x: Value, factor: int) -> Value:
        return self._emit("mul", x, self._full(factor))

    def _gather(self, x: Value, index: Value) -> Value:
        return self._emit("gather", x, index, attrs=GatherAttrs(0))

    def _of(self, table: Value, group: Value) -> Value:
        """A group's entry; the last one's where there is no group."""
        return self._gather(table, self._emit("minimum", group, self._full(self.groups - 1)))

    def _column(self, x: Value) -> Value:
        return self._emit("reshape", x, attrs=ReshapeAttrs((x.type.dims[0], 1)))

    def _shaped(self, x: Value, shape: tuple[int, ...] = ()) -> Value:
        """[blocks, size, n] as rows; or in another shape, of which -1 is the last axis."""
        *outer, last = x.type.dims
        return self._emit("reshape", x, attrs=ReshapeAttrs(
            (*shape[:-1], last) if shape else (math.prod(outer), last)))  # fmt: skip
