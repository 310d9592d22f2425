"""ATen's pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphopt.frontend.builder import Builder, Mapping, per_axis
from graphopt.ir.graph import Value
from graphopt.ops import (
    AdaptiveAvgPoolAttrs,
    AvgPoolAttrs,
    MaxAttrs,
    MaxPoolAttrs,
    MeanAttrs,
    PadAttrs,
)

Ints = int | Sequence[int]
Around = tuple[tuple[int, int], ...]


def _batched(rank: int) -> Callable[[Mapping], Mapping]:
    """For pools over `rank` axes: x [n, c, ...] or without the batch axis."""

    def wrap(pool: Mapping) -> Mapping:
        def run(b: Builder, x: Value, *args: Any, **kwargs: Any) -> Value:
            inner = x if x.type.rank == rank + 2 else b.unsqueeze(x, 0)
            return b.reshape(pool(b, inner, rank, *args, **kwargs), b.type.dims)

        return run

    return wrap


def _around(
    x: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool,
) -> Around:  # fmt: skip
    """(before, after) per axis; ceil_mode is as much more after as its last window needs."""
    out = []
    spatial = x.type.dims[2:]
    for size, k, s, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True):
        after, reach = p, d * (k - 1) + 1
        if ceil_mode:
            count = -(-(size + 2 * p - reach) // s) + 1
            if (count - 1) * s >= size + p:  # a window must start inside the input or before it
                count -= 1
            after = max(p, (count - 1) * s + reach - size - p)
        out.append((p, after))
    return tuple(out)


def max_pool(
    b: Builder, x: Value, rank: int, kernel: Ints, stride: Ints = (), padding: Ints = 0,
    dilation: Ints = 1, ceil_mode: bool = False,
) -> Value:  # fmt: skip
    k = per_axis(kernel, rank)
    s = per_axis(stride, rank) or k
    p, d = per_axis(padding, rank), per_axis(dilation, rank)
    attrs = MaxPoolAttrs(k, s, _around(x, k, s, p, d, ceil_mode), d)
    return b.emit("max_pool", x, attrs=attrs)


def avg_pool(
    b: Builder, x: Value, rank: int, kernel: Ints, stride: Ints = (), padding: Ints = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor: int | None = None,
) -> Value:  # fmt: skip
    k = per_axis(kernel, rank)
    s = per_axis(stride, rank) or k
    p = per_axis(padding, rank)
    around = _around(x, k, s, p, (1,) * rank, ceil_mode)
    if (
        divisor is None
        and count_include_pad
        and any(a > q for (_, a), q in zip(around, p, strict=True))
    ):
        # torch counts its own padding but not what ceil_mode adds: pad first, then count elements.
        if any(p):
            edge = (0, 0, *p)
            x = b.emit("pad", x, attrs=PadAttrs(edge, edge))
        around = tuple((0, a - q) for (_, a), q in zip(around, p, strict=True))
        count_include_pad = False
    padded = any(n for pair in around for n in pair)
    attrs = AvgPoolAttrs(k, s, around, count_include_pad or not padded, divisor)
    return b.emit("avg_pool", x, attrs=attrs)


def _sizes(x: Value, rank: int, size: Any) -> tuple[int, ...]:
    """Output extents; None keeps that of the input."""
    wanted = (size,) * rank if size is None or isinstance(size, int) else tuple(size)
    wanted = wanted * rank if len(wanted) == 1 else wanted
    spatial = x.type.dims[2:]
    return tuple(d if s is None else s for s, d in zip(wanted, spatial, strict=True))


def _even(x: Value, size: Sequence[int]) -> tuple[int, ...] | None:
    """The window of an adaptive pool whose windows are all alike."""
    spatial = x.type.dims[2:]
    if any(s == 0 or d % s for d, s in zip(spatial, size, strict=True)):
        return None
    return tuple(d // s for d, s in zip(spatial, size, strict=True))


def adaptive_avg_pool(b: Builder, x: Value, rank: int, size: Any) -> Value:
    """To one pixel it is a mean; with equal windows a plain pool."""
    extents = _sizes(x, rank, size)
    if all(s == 1 for s in extents):
        return b.emit("mean", x, attrs=MeanAttrs(tuple(range(2, rank + 2)), True))
    if extents == x.type.dims[2:]:
        return x
    window = _even(x, extents)
    if window is not None:
        return b.emit("avg_pool", x, attrs=AvgPoolAttrs(window, window, ((0, 0),) * rank))
    return b.emit("adaptive_avg_pool", x, attrs=AdaptiveAvgPoolAttrs(extents))


def adaptive_max_pool(b: Builder, x: Value, rank: int, size: Any) -> Value:
    """As adaptive_avg_pool; uneven windows are maxima of slices."""
    extents = _sizes(x, rank, size)
    window = _even(x, extents)
    if window is not None:
        attrs = MaxPoolAttrs(window, window, ((0, 0),) * rank, (1,) * rank)
        return b.emit("max_pool", x, attrs=attrs)
    for axis, size_out in enumerate(extents, start=2):
        extent, pieces = x.type.dims[axis], []
        for i in range(size_out):
            start, stop = i * extent // size_out, -(-((i + 1) * extent) // size_out)
            part = b.slice(x, axis, start, stop)
            pieces.append(b.emit("max", part, attrs=MaxAttrs((axis,), True)))
        x = b.concat(pieces, axis)
    return x


def _first(pool: Mapping) -> Mapping:
    """Operators that also return the positions of the maxima; those nobody computes."""
    return lambda b, *args, **kwargs: (pool(b, *args, **kwargs), None)


WINDOW: dict[str, Mapping] = {
    f"aten.{name}": mapping
    for n in (1, 2, 3)
    for name, mapping in {
        f"max_pool{n}d.default": _batched(n)(max_pool),
        f"max_pool{n}d_with_indices.default": _first(_batched(n)(max_pool)),
        f"avg_pool{n}d.default": _batched(n)(avg_pool),
        f"adaptive_avg_pool{n}d.default": _batched(n)(adaptive_avg_pool),
        f"_adaptive_avg_pool{n}d.default": _batched(n)(adaptive_avg_pool),
        f"adaptive_max_pool{n}d.default": _first(_batched(n)(adaptive_max_pool)),
    }.items()
}
