"""Ops that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import Dim, DType, SymDim, TensorType
from graphopt.ops.base import Attrs, NoAttrs, OpDef
from graphopt.ops.define import (
    Arity,
    check_axes,
    check_axis,
    check_same_dtype,
    define,
    static_extent,
    upper,
)
from graphopt.ops.reduction import AxisAttrs

PAD_MODES = ("constant", "reflect", "replicate")


@dataclass(frozen=True)
class ReshapeAttrs(Attrs):
    """Row-major order is kept. One -1 stands for the symbolic dimension of the operand."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class TransposeAttrs(Attrs):
    """Result axis i is operand axis `perm[i]`."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class ExpandAttrs(Attrs):
    """Broadcast to `shape`; new axes in front; -1 keeps the operand's (symbolic) extent."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class SliceAttrs(Attrs):
    """Per axis: from start to stop (excluded) by a positive step. A symbolic axis can only be kept
    whole: start 0, stop its upper bound, step 1."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class ConcatAttrs(AxisAttrs):
    """Operands one after the other along `axis`."""


@dataclass(frozen=True)
class PadAttrs(Attrs):
    """Elements added before and after per axis. `mode` is "constant" (of `value`), "reflect" (the
    edge is not repeated) or "replicate" (the edge is)."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0
    mode: str = "constant"


@dataclass(frozen=True)
class FlipAttrs(Attrs):
    axes: tuple[int, ...]


# Inference -------------------------------------------------------------------------------------


def _text(extents: Sequence[object]) -> str:
    return "[" + ",".join(map(str, extents)) + "]"


def _reshape_infer(x: TensorType, a: ReshapeAttrs) -> TensorType:
    symbolic = [d for d in x.shape if isinstance(d, SymDim)]
    if len(symbolic) != a.shape.count(-1) or len(symbolic) > 1:
        raise IRError(
            f"reshape: {x} has {len(symbolic)} symbolic dimensions, shape {_text(a.shape)} has "
            f"{a.shape.count(-1)} of -1",
            hint="write one -1 for the one symbolic dimension, and none for a static shape",
        )
    old = prod(d for d in x.shape if isinstance(d, int))
    new = prod(d for d in a.shape if d != -1)
    if old != new or min(a.shape, default=0) < -1:
        raise IRError(
            f"reshape: {x} has {old} elements, shape {_text(a.shape)} has {new}",
            hint="element counts must match",
        )
    return TensorType(x.dtype, tuple(symbolic[0] if d == -1 else d for d in a.shape))


def _transpose_infer(x: TensorType, a: TransposeAttrs) -> TensorType:
    if sorted(a.perm) != list(range(x.rank)):
        raise IRError(
            f"transpose: perm {_text(a.perm)} does not permute {x}",
            hint=f"name each axis from 0 to {x.rank - 1} once",
        )
    return TensorType(x.dtype, tuple(x.shape[p] for p in a.perm))


def _expand_infer(x: TensorType, a: ExpandAttrs) -> TensorType:
    lead = len(a.shape) - x.rank
    old: tuple[Dim, ...] = (*(1,) * lead, *x.shape)
    kept = tuple(o if n == -1 else n for o, n in zip(old, a.shape, strict=False))
    fits = lead >= 0 and all(o in (1, n) for o, n in zip(old, kept, strict=True))
    if not fits or -1 in a.shape[:lead]:
        raise IRError(
            f"expand: {x} does not broadcast to {_text(a.shape)}", hint="axes must match or be 1"
        )
    return TensorType(x.dtype, kept)


def _slice_infer(x: TensorType, a: SliceAttrs) -> TensorType:
    if not len(a.starts) == len(a.stops) == len(a.steps) == x.rank:
        counts = f"{len(a.starts)} starts, {len(a.stops)} stops and {len(a.steps)} steps"
        raise IRError(f"slice: {counts} for {x}", hint=f"give {x.rank} of each, one per axis")
    ranges = zip(x.shape, a.starts, a.stops, a.steps, strict=True)
    return TensorType(x.dtype, tuple(_sliced(x, *r) for r in ranges))


def _sliced(x: TensorType, extent: Dim, start: int, stop: int, step: int) -> Dim:
    if (start, stop, step) == (0, upper(extent), 1):
        return extent
    if isinstance(extent, SymDim):
        raise IRError(
            f"slice: [{start}:{stop}:{step}] of the symbolic dimension {extent} of {x}",
            hint="make this dimension static: pass example inputs of the size you run",
        )
    if step < 1 or not 0 <= start <= stop <= extent:
        raise IRError(
            f"slice: [{start}:{stop}:{step}] is outside {x}",
            hint=f"0 <= start <= stop <= {extent} and step >= 1",
        )
    return -(-(stop - start) // step)


def _concat_infer(*args: Any) -> TensorType:
    *xs, a = args
    first: TensorType = xs[0]
    check_axis("concat", first, a.axis)
    check_same_dtype("concat", *xs)
    for x in xs[1:]:
        if _without(x, a.axis) != _without(first, a.axis):
            raise IRError(
                f"concat: {first} and {x} differ beyond axis {a.axis}", hint="other axes must match"
            )
    total = sum(static_extent("concat", x, a.axis) for x in xs) if xs[1:] else first.shape[a.axis]
    return TensorType(first.dtype, (*first.shape[: a.axis], total, *first.shape[a.axis + 1 :]))


def _without(x: TensorType, axis: int) -> tuple[Dim, ...]:
    return (*x.shape[:axis], *x.shape[axis + 1 :])


def _pad_infer(x: TensorType, a: PadAttrs) -> TensorType:
    widths = (*a.before, *a.after)
    if len(a.before) != x.rank or len(a.after) != x.rank or min(widths, default=0) < 0:
        raise IRError(
            f"pad: {_text(a.before)} before and {_text(a.after)} after do not fit {x}",
            hint=f"give {x.rank} of each, at least 0; crop with slice",
        )
    if a.mode not in PAD_MODES:
        names = ", ".join(f'"{m}"' for m in PAD_MODES)
        raise IRError(f"pad: no mode {a.mode!r}", hint=f"use one of {names}")
    ranges = enumerate(zip(a.before, a.after, strict=True))
    return TensorType(x.dtype, tuple(_padded(x, i, a.mode, *w) for i, w in ranges))


def _padded(x: TensorType, axis: int, mode: str, before: int, after: int) -> Dim:
    if not before and not after:
        return x.shape[axis]
    extent = static_extent("pad", x, axis)
    reach = {"constant": before + after, "reflect": extent - 1, "replicate": before + after}[mode]
    if max(before, after) > reach or (mode == "replicate" and extent == 0):
        raise IRError(
            f"pad: {mode} by {before} and {after} of axis {axis} of {x}",
            hint=f"at most {max(extent - 1, 0)} elements can be reflected",
        )
    return before + extent + after


def _flip_infer(x: TensorType, a: FlipAttrs) -> TensorType:
    check_axes("flip", x, a.axes)
    return x


# Meaning ---------------------------------------------------------------------------------------


def _expand(x: np.ndarray, a: ExpandAttrs) -> np.ndarray:
    lead = len(a.shape) - x.ndim
    old = (*(1,) * lead, *x.shape)
    return np.broadcast_to(x, tuple(o if n == -1 else n for o, n in zip(old, a.shape, strict=True)))


def _slice(x: np.ndarray, a: SliceAttrs) -> np.ndarray:
    return x[tuple(slice(*s) for s in zip(a.starts, a.stops, a.steps, strict=True))]


def _concat(*args: Any) -> np.ndarray:
    return np.concatenate(args[:-1], args[-1].axis)


def _pad(x: np.ndarray, a: PadAttrs) -> np.ndarray:
    widths = tuple(zip(a.before, a.after, strict=True))
    if a.mode == "constant":
        value = a.value if DType.of(x.dtype).is_float else int(a.value)
        return np.pad(x, widths, constant_values=value)
    return np.pad(x, widths, mode="reflect" if a.mode == "reflect" else "edge")


def _op(
    name: str, attrs: type[Attrs], infer: Any, reference: Any, operands: int | Arity = 1
) -> OpDef:
    return define(name, attrs, infer, reference, kind="movement", operands=operands)


OPS = (
    _op("reshape", ReshapeAttrs, _reshape_infer, lambda x, a: x.reshape(a.shape)),
    _op("transpose", TransposeAttrs, _transpose_infer, lambda x, a: np.transpose(x, a.perm)),
    _op("expand", ExpandAttrs, _expand_infer, _expand),
    _op("slice", SliceAttrs, _slice_infer, _slice),
    _op("concat", ConcatAttrs, _concat_infer, _concat, (1, None)),
    _op("pad", PadAttrs, _pad_infer, _pad),
    _op("flip", FlipAttrs, _flip_infer, lambda x, a: np.flip(x, a.axes)),
    _op("relayout", NoAttrs, lambda x, _: x, lambda x, _: x),
)
