"""ATen's views, splits, joins and rearrangements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.frontend.builder import Builder, Mapping, Number, UnsupportedFormError, axis_of
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import FlipAttrs, PadAttrs, SliceAttrs

# Views -----------------------------------------------------------------------------------------


def view(b: Builder, x: Value, *_: object, **__: object) -> Value:
    """view, reshape, squeeze, unsqueeze, flatten, ...: torch recorded the shape."""
    return b.reshape(x, b.type.dims)


def view_dtype(b: Builder, x: Value, dtype: object) -> Value:
    if b.type != x.type:
        raise UnsupportedFormError("view as another dtype")
    return x


def permute(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    return b.transpose(x, [axis_of(a, x.type.rank) for a in axes])


def swap(b: Builder, x: Value, first: int = 0, second: int = 1) -> Value:
    """transpose.int, and t(), which leaves vectors alone."""
    perm = list(range(x.type.rank))
    if len(perm) > 1:
        i, j = axis_of(first, len(perm)), axis_of(second, len(perm))
        perm[i], perm[j] = perm[j], perm[i]
    return b.transpose(x, perm)


def expand(b: Builder, x: Value, *_: object, **__: object) -> Value:
    return b.expand(x, b.type.dims)


def as_strided(
    b: Builder, x: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Value:
    """Elements at offset + index · stride of the memory of x: a permuted view, else a gather."""
    x, start, places = _in_memory_order(b, x)
    offset = start if offset is None else offset
    if places is None and offset == 0 and math.prod(size) == x.type.numel:
        order = _memory_order(size, stride)
        if order is not None:
            outer = b.reshape(x, [size[i] for i in order])
            return b.transpose(outer, [order.index(i) for i in range(len(size))])
    at = _positions(size, stride, offset)
    if places is not None:
        inside = (at >= 0) & (at < places.size)
        at = np.where(inside, places[np.where(inside, at, 0)], -1)
    if at.size and (at.min() < 0 or at.max() >= x.type.numel):
        raise UnsupportedFormError("as_strided of what lies outside of its tensor")
    return b.take_flat(x, at)


def _in_memory_order(b: Builder, x: Value) -> tuple[Value, int, np.ndarray | None]:
    """x, transposed so that it lies in memory as its elements follow each other, and its offset.
    Where no transpose does that: x, its offset, and for each place in memory the number of the
    element of x there, -1 for none."""
    if b.first is None:
        return x, 0, None
    strides, offset = b.first.stride(), b.first.storage_offset()
    order = _memory_order(x.type.dims, strides)
    if order is not None and offset == 0:
        return b.transpose(x, order), 0, None
    lie = _positions(x.type.dims, strides, offset)
    places = np.full(lie.max(initial=-1) + 1, -1)
    places[lie] = np.arange(lie.size).reshape(lie.shape)
    return x, offset, places


def _memory_order(size: Sequence[int], stride: Sequence[int]) -> list[int] | None:
    """The axes from the outermost in memory to the innermost; None where they leave gaps or
    overlap."""
    order = sorted(range(len(size)), key=lambda i: -stride[i])
    step = 1
    for i in reversed(order):
        if size[i] != 1 and stride[i] != step:
            return None
        step *= size[i]
    return order


def _positions(size: Sequence[int], stride: Sequence[int], offset: int) -> np.ndarray:
    at = np.full((), offset)
    for n, s in zip(size, stride, strict=True):
        at = at[..., None] + np.arange(n) * s
    return at


def diagonal(b: Builder, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    at = np.arange(x.type.numel).reshape(x.type.dims)
    return b.take_flat(x, np.diagonal(at, offset, dim1, dim2))


def unfold(b: Builder, x: Value, axis: int, size: int, step: int) -> Value:
    """Windows along an axis; their elements become the last axis."""
    axis = axis_of(axis, x.type.rank)
    count = (x.type.dims[axis] - size) // step + 1
    at = np.arange(count)[:, None] * step + np.arange(size)
    windows = b.gather(x, b.indices(at), axis)
    return b.move_axis(windows, axis + 1, windows.type.rank - 1)


# Parts -----------------------------------------------------------------------------------------


def slice_axis(
    b: Builder, x: Value, axis: int = 0, start: int | None = None, stop: int | None = None,
    step: int = 1,
) -> Value:  # fmt: skip
    axis = axis_of(axis, x.type.rank)
    end = x.type.dims[axis] if stop is None else stop
    return b.slice(x, axis, start or 0, end, step)


def select(b: Builder, x: Value, axis: int, index: int) -> Value:
    return b.select(x, axis_of(axis, x.type.rank), index)


def narrow(b: Builder, x: Value, axis: int, start: int, length: int) -> Value:
    axis = axis_of(axis, x.type.rank)
    start += x.type.dims[axis] if start < 0 else 0
    return b.slice(x, axis, start, start + length)


def split(b: Builder, x: Value, sizes: int | Sequence[int], axis: int = 0) -> tuple[Value, ...]:
    """Into pieces of one size (the last may be smaller), or of the given sizes."""
    axis = axis_of(axis, x.type.rank)
    extent = x.type.dims[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, extent - i) for i in range(0, max(extent, 1), max(sizes, 1))]
    starts = np.cumsum([0, *sizes])
    return tuple(
        b.slice(x, axis, int(s), int(s) + n) for s, n in zip(starts[:-1], sizes, strict=True)
    )


def split_as_recorded(b: Builder, x: Value, _: object, axis: int = 0) -> tuple[Value, ...]:
    """chunk, tensor_split: torch recorded the pieces."""
    axis = axis_of(axis, x.type.rank)
    return split(b, x, [t.dims[axis] for t in b.types], axis)


def unbind(b: Builder, x: Value, axis: int = 0) -> tuple[Value, ...]:
    axis = axis_of(axis, x.type.rank)
    return tuple(b.select(x, axis, i) for i in range(x.type.dims[axis]))


# Joins -----------------------------------------------------------------------------------------


def cat(b: Builder, xs: Sequence[Value], axis: int = 0) -> Value:
    """Empty vectors count for nothing, whatever the others' rank."""
    rank = b.type.rank
    kept = [b.cast(x, b.type.dtype) for x in xs if x.type.shape != (0,) or rank == 1]
    return b.concat(kept, axis_of(axis, rank))


def stack(b: Builder, xs: Sequence[Value], axis: int = 0) -> Value:
    axis = axis_of(axis, b.type.rank)
    return b.concat([b.unsqueeze(b.cast(x, b.type.dtype), axis) for x in xs], axis)


def slice_scatter(
    b: Builder, x: Value, source: Value, axis: int = 0, start: int | None = None,
    stop: int | None = None, step: int = 1,
) -> Value:  # fmt: skip
    axis = axis_of(axis, x.type.rank)
    extent = x.type.dims[axis]
    first, last, _ = slice(start, stop).indices(extent)
    source = b.cast(source, x.type.dtype)
    if first >= last:
        return x
    if step == 1:
        source = b.expand(source, _with_extent(x, axis, last - first))
        pieces = [b.slice(x, axis, 0, first), source, b.slice(x, axis, last, extent)]
        return b.concat([p for p in pieces if p.type.dims[axis]], axis)
    where = np.zeros(extent, np.int64)
    chosen = np.zeros(extent, np.bool_)
    where[first:last:step], chosen[first:last:step] = np.arange(len(range(first, last, step))), True
    spread = b.gather(source, b.indices(where), axis)
    mask = b.constant(chosen.reshape(-1, *(1,) * (x.type.rank - axis - 1)), "mask")
    return b.where(mask, spread, x, x.type.dtype)


def select_scatter(b: Builder, x: Value, source: Value, axis: int, index: int) -> Value:
    axis = axis_of(axis, x.type.rank)
    index += x.type.dims[axis] if index < 0 else 0
    piece = b.unsqueeze(b.expand(source, _without(x, axis)), axis)
    return slice_scatter(b, x, piece, axis, index, index + 1)


def _with_extent(x: Value, axis: int, extent: int) -> tuple[int, ...]:
    dims = x.type.dims
    return (*dims[:axis], extent, *dims[axis + 1 :])


def _without(x: Value, axis: int) -> tuple[int, ...]:
    return x.type.dims[:axis] + x.type.dims[axis + 1 :]


# Copies ----------------------------------------------------------------------------------------


def repeat(b: Builder, x: Value, counts: Sequence[int]) -> Value:
    """Whole-tensor tiling: every axis becomes (repeat, extent), then one again."""
    dims = (*(1,) * (len(counts) - x.type.rank), *x.type.dims)
    if all(r == 1 or d == 1 for r, d in zip(counts, dims, strict=True)):
        return b.expand(b.reshape(x, dims), b.type.dims)
    inner = b.reshape(x, [n for d in dims for n in (1, d)])
    wide = b.expand(inner, [n for r, d in zip(counts, dims, strict=True) for n in (r, d)])
    return b.reshape(wide, b.type.dims)


def repeat_interleave(
    b: Builder, x: Value, count: int, axis: int | None = None, **_: object
) -> Value:
    """Each element `count` times in a row."""
    if axis is None:
        x, axis = b.reshape(x, (x.type.numel,)), 0
    axis = axis_of(axis, x.type.rank)
    inner = b.unsqueeze(x, axis + 1)
    wide = b.expand(inner, _with_extent(inner, axis + 1, count))
    return b.reshape(wide, b.type.dims)


def roll(
    b: Builder, x: Value, shifts: int | Sequence[int], axes: int | Sequence[int] = ()
) -> Value:
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [axes] if isinstance(axes, int) else list(axes)
    dims = x.type.dims
    if not axes:
        return b.reshape(roll(b, b.reshape(x, (x.type.numel,)), shifts, [0]), dims)
    for shift, axis in zip(shifts, axes, strict=True):
        axis = axis_of(axis, len(dims))
        cut = -shift % dims[axis] if dims[axis] else 0
        if cut:
            x = b.concat([b.slice(x, axis, cut, dims[axis]), b.slice(x, axis, 0, cut)], axis)
    return x


def flip(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    which = tuple(sorted(axis_of(a, x.type.rank) for a in axes))
    return b.emit("flip", x, attrs=FlipAttrs(which)) if which and x.type.rank else x


def pixel_shuffle(b: Builder, x: Value, factor: int) -> Value:
    *lead, c, h, w = x.type.dims
    n = len(lead)
    y = b.reshape(x, (*lead, c // factor**2, factor, factor, h, w))
    y = b.transpose(y, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return b.reshape(y, b.type.dims)


def pixel_unshuffle(b: Builder, x: Value, factor: int) -> Value:
    *lead, c, h, w = x.type.dims
    n = len(lead)
    y = b.reshape(x, (*lead, c, h // factor, factor, w // factor, factor))
    y = b.transpose(y, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return b.reshape(y, b.type.dims)


def channel_shuffle(b: Builder, x: Value, groups: int) -> Value:
    n, c, *rest = x.type.dims
    y = b.reshape(x, (n, groups, c // groups, *rest))
    return b.reshape(b.transpose(y, (0, 2, 1, *range(3, y.type.rank))), x.type.dims)


def triangle(op: str) -> Mapping:
    """tril (column - row <= diagonal) and triu (>=): the rest is 0."""

    def run(b: Builder, x: Value, diagonal: int = 0) -> Value:
        rows, columns = x.type.dims[-2:]
        row = b.reshape(b.iota(diagonal, 1, rows, DType.I64), (rows, 1))
        keep = b.emit(op, b.iota(0, 1, columns, DType.I64), row)
        return b.where(keep, x, 0, x.type.dtype)

    return run


# Padding ---------------------------------------------------------------------------------------


def pad(
    b: Builder, x: Value, amounts: Sequence[int], mode: str = "constant",
    value: Number | None = None,
) -> Value:  # fmt: skip
    """torch's order: (before, after) of the last axis, then of the one before it, and so on.
    A negative amount crops."""
    rank = x.type.rank
    before, after = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    if min((*before, *after), default=0) < 0:
        starts = tuple(max(0, -n) for n in before)
        stops = tuple(d - max(0, -n) for d, n in zip(x.type.dims, after, strict=True))
        x = b.emit("slice", x, attrs=SliceAttrs(starts, stops, (1,) * rank))
        before, after = [max(0, n) for n in before], [max(0, n) for n in after]
    if mode == "circular":
        return _wrap(b, x, before, after)
    if not any((*before, *after)):
        return x
    attrs = PadAttrs(tuple(before), tuple(after), float(value or 0), mode)
    return b.emit("pad", x, attrs=attrs)


def _wrap(b: Builder, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    for axis, (p, q) in enumerate(zip(before, after, strict=True)):
        extent = x.type.dims[axis]
        pieces = [x]
        if p:
            pieces.insert(0, b.slice(x, axis, extent - p, extent))
        if q:
            pieces.append(b.slice(x, axis, 0, q))
        x = b.concat(pieces, axis)
    return x


def constant_pad(b: Builder, x: Value, amounts: Sequence[int], value: Number = 0) -> Value:
    return pad(b, x, amounts, "constant", value)


def pad_mode(mode: str) -> Mapping:
    return lambda b, x, amounts: pad(b, x, amounts, mode)


_VIEWS = """
view.default _unsafe_view.default reshape.default view_copy.default squeeze.default squeeze.dim
squeeze.dims unsqueeze.default flatten.using_ints unflatten.int view_as.default reshape_as.default
_reshape_alias.default ravel.default
"""

MOVEMENT: dict[str, Mapping] = {
    **{f"aten.{name}": view for name in _VIEWS.split()},
    "aten.view.dtype": view_dtype,
    "aten.permute.default": permute,
    "aten.transpose.int": swap,
    "aten.t.default": swap,
    "aten.numpy_T.default": lambda b, x: b.transpose(x, range(x.type.rank)[::-1]),
    "aten.expand.default": expand,
    "aten.expand_as.default": expand,
    "aten.broadcast_to.default": expand,
    "aten.as_strided.default": as_strided,
    "aten.diagonal.default": diagonal,
    "aten.unfold.default": unfold,
    "aten.slice.Tensor": slice_axis,
    "aten.select.int": select,
    "aten.narrow.default": narrow,
    "aten.split.Tensor": split,
    "aten.split.sizes": split,
    "aten.split_with_sizes.default": split,
    "aten.unsafe_split.Tensor": split,
    "aten.unsafe_split_with_sizes.default": split,
    "aten.chunk.default": split_as_recorded,
    "aten.unsafe_chunk.default": split_as_recorded,
    "aten.tensor_split.sections": split_as_recorded,
    "aten.tensor_split.indices": split_as_recorded,
    "aten.unbind.int": unbind,
    "aten.cat.default": cat,
    "aten.concat.default": cat,
    "aten.stack.default": stack,
    "aten.slice_scatter.default": slice_scatter,
    "aten.select_scatter.default": select_scatter,
    "aten.repeat.default": repeat,
    "aten.tile.default": lambda b, x, counts: repeat(
        b, x, (*(1,) * (x.type.rank - len(counts)), *counts)
    ),
    "aten.repeat_interleave.self_int": repeat_interleave,
    "aten.roll.default": roll,
    "aten.flip.default": flip,
    "aten.pixel_shuffle.default": pixel_shuffle,
    "aten.pixel_unshuffle.default": pixel_unshuffle,
    "aten.channel_shuffle.default": channel_shuffle,
    "aten.native_channel_shuffle.default": channel_shuffle,
    "aten.tril.default": triangle("le"),
    "aten.triu.default": triangle("ge"),
    "aten.pad.default": pad,
    "aten.constant_pad_nd.default": constant_pad,
    **{f"aten.reflection_pad{n}d.default": pad_mode("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d.default": pad_mode("replicate") for n in (1, 2, 3)},
}
