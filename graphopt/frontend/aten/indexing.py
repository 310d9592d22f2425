"""ATen's gathers and scatters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.frontend.aten.masking import inside, masked_put
from graphopt.frontend.builder import (
    Builder,
    DataDependentError,
    Mapping,
    Number,
    axis_of,
)
from graphopt.ir.graph import Value
from graphopt.ir.types import DType, broadcast_shapes
from graphopt.ops import ScatterAlongAttrs, ScatterNdAttrs, TakeAlongAttrs

Indices = Sequence[Value | None]


def embedding(b: Builder, weight: Value, indices: Value, *_: object) -> Value:
    return b.gather(weight, indices, 0)


def index_select(b: Builder, x: Value, axis: int, indices: Value) -> Value:
    y = b.gather(x, indices, axis_of(axis, x.type.rank)) if x.type.rank else x
    return b.reshape(y, b.type.dims)


def take_along(b: Builder, x: Value, axis: int, indices: Value, **_: object) -> Value:
    if x.type.rank == 0:
        return b.expand(x, b.type.dims)
    return b.emit("take_along", x, indices, attrs=TakeAlongAttrs(axis_of(axis, x.type.rank)))


def take(b: Builder, x: Value, indices: Value) -> Value:
    return b.gather(b.reshape(x, (x.type.numel,)), indices, 0)


# x[i, :, j] ------------------------------------------------------------------------------------


def index(b: Builder, x: Value, indices: Indices) -> Value:
    """numpy's advanced indexing with integer tensors; None takes a whole axis."""
    axes = [a for a, i in enumerate(indices) if i is not None]
    tensors = _positions(indices)
    if len(axes) == 1:
        return b.gather(x, tensors[0], axes[0])
    shape = _shape(tensors)
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    if together and _is_grid(tensors, shape):
        return _take_grid(b, x, tensors, axes)
    rest = [a for a in range(x.type.rank) if a not in axes]
    front = b.transpose(x, axes + rest)
    indexed, others = front.type.dims[: len(axes)], front.type.dims[len(axes) :]
    rows = b.reshape(front, (math.prod(indexed), *others))
    y = b.gather(rows, b.expand(_flat(b, tensors, indexed), shape), 0)
    if not together:
        return y
    return _block_at(b, y, len(shape), axes[0])


def _positions(indices: Indices) -> list[Value]:
    tensors = [i for i in indices if i is not None]
    if any(t.type.dtype is DType.BOOL for t in tensors):
        raise DataDependentError(
            "indexing with a bool tensor gives a shape that depends on its values"
        )
    return tensors


def _shape(tensors: Sequence[Value]) -> tuple[int, ...]:
    return broadcast_shapes(*(t.type.shape for t in tensors))  # type: ignore[return-value]


def _is_grid(tensors: Sequence[Value], shape: tuple[int, ...]) -> bool:
    """Whether each index steps along axes of its own, in order: one gather per axis will do."""
    seen = -1
    for t in tensors:
        lead = len(shape) - t.type.rank
        own = [lead + i for i, n in enumerate(t.type.dims) if n != 1]
        if own and own[0] <= seen:
            return False
        seen = own[-1] if own else seen
    return True


def _take_grid(b: Builder, x: Value, tensors: Sequence[Value], axes: Sequence[int]) -> Value:
    for t, axis in reversed(list(zip(tensors, axes, strict=True))):
        x = b.gather(x, b.reshape(t, [n for n in t.type.dims if n != 1]), axis)
    return b.reshape(x, b.type.dims)


def _stacked(b: Builder, tensors: Sequence[Value], shape: tuple[int, ...]) -> Value:
    """[*shape, r]: the positions of one element in the last axis."""
    wide = [b.expand(b.cast(t, DType.I64), shape) for t in tensors]
    return b.concat([b.unsqueeze(t, len(shape)) for t in wide], len(shape))


def _flat(b: Builder, tensors: Sequence[Value], extents: Sequence[int]) -> Value:
    """Positions in several axes as those in the one that they make together."""
    at: Value | None = None
    for t, extent in zip(tensors, extents, strict=True):
        t = b.cast(t, DType.I64)
        t = b.where(b.emit("lt", t, b.full(0, DType.I64)), b.add(t, extent), t, DType.I64)
        at = t if at is None else b.add(b.mul(at, extent), t)
    assert at is not None
    return at


def _block_at(b: Builder, y: Value, size: int, target: int) -> Value:
    """The first `size` axes moved to stand at axis `target`."""
    block, rest = list(range(size)), list(range(size, y.type.rank))
    return b.transpose(y, rest[:target] + block + rest[target:])


def index_put(
    b: Builder, x: Value, indices: Indices, values: Value, accumulate: bool = False, *_: object
) -> Value:
    """x[i, :, j] = values (or +=); one bool mask may stand for all of the indices."""
    axes = [a for a, i in enumerate(indices) if i is not None]
    first = indices[axes[0]]
    if len(axes) == 1 and first is not None and first.type.dtype is DType.BOOL:
        return masked_put(b, x, first, axes[0], values, accumulate)
    tensors = _positions(indices)
    rest = [a for a in range(x.type.rank) if a not in axes]
    perm = axes + rest
    front, shape = b.transpose(x, perm), _shape(tensors)
    updates = _updates(b, front, values, axes, shape)
    positions = _stacked(b, tensors, shape)
    y = b.emit("scatter_nd", front, positions, updates, attrs=ScatterNdAttrs(accumulate))
    return b.transpose(y, [perm.index(i) for i in range(len(perm))])


def _updates(
    b: Builder, front: Value, values: Value, axes: Sequence[int], shape: tuple[int, ...]
) -> Value:
    """Values of x[i, :, j] with the indexed block first, broadcast as assignment does."""
    others = front.type.dims[len(axes) :]
    together = list(axes) == list(range(axes[0], axes[0] + len(axes)))
    target = axes[0] if together else 0
    full = (*others[:target], *shape, *others[target:])
    wide = b.expand(b.cast(values, front.type.dtype), full)
    block = list(range(target, target + len(shape)))
    return b.transpose(wide, block + [i for i in range(len(full)) if i not in block])


def masked_index(b: Builder, x: Value, mask: Value, indices: Indices, fill: Number) -> Value:
    """where(mask, x[indices], fill); positions under a false mask may lie outside."""
    near = [None if i is None else inside(b, i, x.type.dims[a]) for a, i in enumerate(indices)]
    return b.where(mask, index(b, x, near), fill, x.type.dtype)


# Scatter along an axis -------------------------------------------------------------------------


def scatter(
    b: Builder, x: Value, axis: int, indices: Value, source: Value | Number,
    combine: str | None = None,
) -> Value:  # fmt: skip
    """torch.scatter and scatter_add; a longer source is cut to the indices. `combine`: what is done
    with elements that meet, instead of overwriting."""
    if isinstance(source, Value):
        starts = b.cast(source, x.type.dtype)
        for i, n in enumerate(indices.type.dims):
            starts = b.slice(starts, i, 0, n)
    else:
        starts = b.full(source, x.type.dtype, indices.type.dims)
    axis = axis_of(axis, x.type.rank)
    attrs = ScatterAlongAttrs(axis, True, combine) if combine else ScatterAlongAttrs(axis)
    return b.emit("scatter_along", x, indices, starts, attrs=attrs)


def index_add(
    b: Builder, x: Value, axis: int, indices: Value, source: Value, *, alpha: Number = 1
) -> Value:
    return index_write(b, x, axis, indices, source if alpha == 1 else b.mul(source, alpha), "add")


def index_copy(b: Builder, x: Value, axis: int, indices: Value, source: Value) -> Value:
    return index_write(b, x, axis, indices, source)


def index_fill(b: Builder, x: Value, axis: int, indices: Value, value: Number | Value) -> Value:
    shape = list(x.type.dims)
    shape[axis_of(axis, x.type.rank)] = indices.type.numel
    source = b.expand(b.operand(value, x.type.dtype), shape)
    return index_write(b, x, axis, indices, source)


def index_write(
    b: Builder, x: Value, axis: int, indices: Value, source: Value, combine: str | None = None
) -> Value:
    """Rows of `source` along the axis go to positions `indices` (a vector); `combine` as for
    `scatter`."""
    axis = axis_of(axis, x.type.rank)
    positions = b.reshape(indices, (indices.type.numel, 1))
    front, rows = b.move_axis(x, axis, 0), b.move_axis(source, axis, 0)
    attrs = ScatterNdAttrs(True, combine) if combine else ScatterNdAttrs()
    return b.move_axis(b.emit("scatter_nd", front, positions, rows, attrs=attrs), 0, axis)


def one_hot(b: Builder, x: Value, classes: int = -1) -> Value:
    extent = b.type.dims[-1]
    wide = b.unsqueeze(x, x.type.rank)
    return b.cast(b.emit("eq", wide, b.iota(0, 1, extent, x.type.dtype)), b.type.dtype)


def im2col(
    b: Builder, x: Value, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    stride: Sequence[int],
) -> Value:  # fmt: skip
    """F.unfold: x [n, c, h, w] to [n, c * kh * kw, windows]."""
    from graphopt.frontend.aten.movement import pad

    batched = x if x.type.rank == 4 else b.unsqueeze(x, 0)
    y = pad(b, batched, (padding[1], padding[1], padding[0], padding[0]))
    spatial = y.type.dims[2:]
    for i in (1, 0):
        reach = dilation[i] * (kernel[i] - 1) + 1
        count = (spatial[i] - reach) // stride[i] + 1
        at = np.arange(kernel[i])[:, None] * dilation[i] + np.arange(count) * stride[i]
        y = b.gather(y, b.indices(at), 2 + i)  # [n, c, kh, oh, kw, ow] in the end
    return b.reshape(b.transpose(y, (0, 1, 2, 4, 3, 5)), b.type.dims)


INDEXING: dict[str, Mapping] = {
    "aten.embedding.default": embedding,
    "aten.index_select.default": index_select,
    "aten.gather.default": take_along,
    "aten.take.default": take,
    "aten.index.Tensor": index,
    "aten._unsafe_index.Tensor": index,
    "aten._unsafe_masked_index.default": masked_index,
    "aten.index_put.default": index_put,
    "aten._unsafe_index_put.default": index_put,
    "aten.scatter.src": scatter,
    "aten.scatter.value": scatter,
    "aten.scatter_add.default": lambda b, x, axis, i, s: scatter(b, x, axis, i, s, "add"),
    "aten.index_add.default": index_add,
    "aten.index_copy.default": index_copy,
    "aten.index_fill.int_Scalar": index_fill,
    "aten.index_fill.int_Tensor": index_fill,
    "aten.one_hot.default": one_hot,
    "aten.im2col.default": im2col,
}
