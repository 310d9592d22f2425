"""ATen's writes under a bool mask. How many values go where depends on the mask, shapes do not: a
place takes the value whose number is how many places under the mask came before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.frontend.builder import Builder, Mapping
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import CumsumAttrs, ExpandAttrs


def masked_scatter(b: Builder, x: Value, mask: Value, source: Value) -> Value:
    """`x` with elements of `source`, in order, where `mask` is true; the three broadcast as torch
    has it. Where there are fewer of them than the mask takes, which torch refuses when it runs, the
    last comes again.

    A mask of whole rows, as for embeddings of images among those of text, moves rows.
    """
    dims = b.type.dims
    mask = _before_expanding(mask)
    own = (1,) * (len(dims) - mask.type.rank) + mask.type.dims
    rank = max((a + 1 for a, n in enumerate(own) if n != 1), default=0)
    lead, width = dims[:rank], math.prod(dims[rank:])
    count = source.type.numel // max(width, 1)
    x = b.expand(x, dims)
    if not count:
        return x
    flat = b.slice(b.reshape(source, (source.type.numel,)), 0, 0, count * width)
    rows = b.reshape(b.cast(flat, x.type.dtype), (count, *dims[rank:]))
    mask = b.expand(b.reshape(mask, own[:rank]), lead)
    return _where(b, mask, _in_order(b, mask, rows), x)


def masked_put(
    b: Builder, x: Value, mask: Value, at: int, values: Value, accumulate: bool
) -> Value:
    """x[mask] = values, or +=, with a mask over the axes of `x` from `at` on; `values` broadcast to
    as many rows as the mask takes, or are that many."""
    axes = range(at, at + mask.type.rank)
    others = [a for a in range(x.type.rank) if a not in axes]
    perm = [*axes, *others]
    front = b.transpose(x, perm)
    rows = _rows(b, b.cast(values, x.type.dtype), [x.type.dims[a] for a in others], at)
    if not rows.type.dims[0]:
        return x
    wide = rows if rows.type.dims[0] == 1 else _in_order(b, mask, rows)
    y = _where(b, mask, b.add(wide, front) if accumulate else wide, front)
    return b.transpose(y, [perm.index(a) for a in range(x.type.rank)])


def _rows(b: Builder, values: Value, others: Sequence[int], at: int) -> Value:
    """[n, *others]: what x[:, mask] is assigned, with the axis of the mask's rows first; before it
    stand `at` others in `values`."""
    behind = len(others) - at
    dims = values.type.dims
    count = dims[-behind - 1] if len(dims) > behind else 1
    full = (*others[:at], count, *others[at:])
    values = b.reshape(values, dims[max(len(dims) - len(full), 0) :])  # ones may lead
    return b.move_axis(b.expand(values, full), at, 0)


def _before_expanding(mask: Value) -> Value:
    """A mask as it was before the model expanded it: what is 1 wide there says it all."""
    node = mask.producer
    if node is None or not isinstance(node.attrs, ExpandAttrs):
        return mask
    return node.operands[0]


def _in_order(b: Builder, mask: Value, rows: Value) -> Value:
    """[*mask, *row]: at the i-th true place of the mask, row-major, rows[i]. rows: [n, *row]."""
    flat = b.cast(b.reshape(mask, (mask.type.numel,)), DType.I64)
    before = b.sub(b.emit("cumsum", flat, attrs=CumsumAttrs(0)), 1)
    return b.gather(rows, b.reshape(inside(b, before, rows.type.dims[0]), mask.type.dims), 0)


def inside(b: Builder, at: Value, extent: int) -> Value:
    """Positions, or the nearest ones in [0, extent)."""
    dtype = at.type.dtype
    below = b.emit("maximum", at, b.full(0, dtype))
    return b.emit("minimum", below, b.full(extent - 1, dtype))


def _where(b: Builder, mask: Value, values: Value, x: Value) -> Value:
    """`mask` over the leading axes of x."""
    wide = b.reshape(mask, (*mask.type.dims, *(1,) * (x.type.rank - mask.type.rank)))
    return b.where(wide, values, x, x.type.dtype)


MASKING: dict[str, Mapping] = {
    "aten.masked_scatter.default": masked_scatter,
}
