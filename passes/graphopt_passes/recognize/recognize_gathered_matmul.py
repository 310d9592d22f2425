"""recognize-gathered-matmul: products by weights that were copied row by row out of a table.

  %c = gather %w, %i {axis=0}    w: f32[8,k,n]   →   ... %p: %i, counted from the start ...
  %y = matmul %x, %c             x: f32[2,1,k]       %y = gathered_matmul %x, %w, %p

Each row's weights are read where they lie, once. Also with the copies on the left of columns, and
with copies that are transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ops import GatherAttrs, ReshapeAttrs, TransposeAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, full, make, producer

_TURNED = (0, 2, 1)


def _rows(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    """x @ w[i]."""
    x, chosen = node.operands
    found = _table(chosen, rw)
    if found is None or isinstance(found, Reject):
        return found
    table, index, turned = found
    if x.type.rank != 3 or x.type.dims[0] != chosen.type.dims[0]:
        return Reject("its rows are not in blocks, one for each copy")
    return _product(x, table, index, turned)


def _columns(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    """w[i] @ x of one column each: its transpose is a product of rows."""
    chosen, x = node.operands
    found = _table(chosen, rw)
    if found is None or isinstance(found, Reject):
        return found
    table, index, turned = found
    if x.type.rank != 3 or x.type.dims[0] != chosen.type.dims[0] or x.type.dims[2] != 1:
        return Reject("its copies are multiplied by more than a column each")
    row = make("reshape", x, attrs=ReshapeAttrs((x.type.dims[0], 1, x.type.dims[1])))
    y = _product(row, table, index, not turned)
    return make("reshape", y, attrs=ReshapeAttrs(node.result.type.dims))


def _table(chosen: Value, rw: Rewriter) -> tuple[Value, Value, bool] | Reject | None:
    """The weights and the indices that a factor is copied by, and whether it is transposed."""
    transpose = producer(chosen, "transpose")
    turned = transpose is not None and transpose.attrs == TransposeAttrs(_TURNED)
    gather = producer(transpose.operands[0] if transpose and turned else chosen, "gather")
    if gather is None:
        return None
    table, index = gather.operands
    if gather.attrs != GatherAttrs(0) or table.type.rank != 3 or index.type.rank != 1:
        return Reject("what it copies is not a matrix for each index")
    if rw.array(table) is None:
        return Reject("its weights are computed at run time")
    return table, index, turned


def _product(x: Recipe, table: Value, index: Value, turned: bool) -> Recipe:
    """A gather's negative indices count from the end; those of a gathered_matmul do not."""
    count, dtype = table.type.dims[0], index.type.dtype
    negative = make("lt", index, full(0, (), dtype))
    place = make("where", negative, make("add", index, full(count, (), dtype)), index)
    weights = make("transpose", table, attrs=TransposeAttrs(_TURNED)) if turned else table
    return make("gathered_matmul", x, weights, place)


RULES: Mapping[str, tuple[Rule, ...]] = {"matmul": (_rows, _columns)}


@dataclass(frozen=True)
class RecognizeGatheredMatmul(RulePass):
    """Numerics: reassociates. Refuses: weights computed at run time, copies along another axis,
    blocks that are not one for each copy.
    """

    name: ClassVar[str] = "recognize-gathered-matmul"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
