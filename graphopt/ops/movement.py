"""Ops that move elements and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import Dim, TensorType
from graphopt.ops.base import Attrs, NoAttrs, OpDef
from graphopt.ops.reduction import AxisAttrs, check_axis


@dataclass(frozen=True)
class ReshapeAttrs(Attrs):
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TransposeAttrs(Attrs):
    """Result axis i is operand axis `perm[i]`."""

    perm: tuple[int, ...]


@dataclass(frozen=True)
class ExpandAttrs(Attrs):
    """Broadcast to `shape`; new axes in front."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class SliceAttrs(Attrs):
    """Per axis: from start to stop (excluded) by a positive step."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class ConcatAttrs(AxisAttrs): ...


@dataclass(frozen=True)
class PadAttrs(Attrs):
    """Elements added before and after per axis; `mode` is "constant", "reflect" or "replicate"."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0.0
    mode: str = "constant"


@dataclass(frozen=True)
class FlipAttrs(Attrs):
    axes: tuple[int, ...]


def _reshape_infer(x: TensorType, a: ReshapeAttrs) -> TensorType:
    if prod(a.shape) != x.numel:
        raise IRError(
            f"reshape: {x} has {x.numel} elements, shape {list(a.shape)} has {prod(a.shape)}",
            hint="element counts must match",
        )
    return TensorType(x.dtype, a.shape)


def _transpose_infer(x: TensorType, a: TransposeAttrs) -> TensorType:
    if sorted(a.perm) != list(range(x.rank)):
        raise IRError(
            f"transpose: perm {list(a.perm)} does not permute {x}", hint=f"name axes 0 to {x.rank - 1}"
        )
    return TensorType(x.dtype, tuple(x.shape[p] for p in a.perm))


def _expand_infer(x: TensorType, a: ExpandAttrs) -> TensorType:
    lead = len(a.shape) - x.rank
    if lead < 0 or any(d not in (1, n) for d, n in zip(x.shape, a.shape[max(lead, 0) :], strict=False)):
        raise IRError(f"expand: {x} does not broadcast to {list(a.shape)}", hint="axes must match or be 1")
    return TensorType(x.dtype, a.shape)


def _slice_infer(x: TensorType, a: SliceAttrs) -> TensorType:
    shape: list[Dim] = []
    if not len(a.starts) == len(a.stops) == len(a.steps) == x.rank:
        raise IRError(f"slice: {len(a.starts)} ranges for {x}", hint="give one range per axis")
    for d, start, stop, step in zip(x.shape, a.starts, a.stops, a.steps, strict=True):
        if step < 1 or start < 0 or stop < start or (isinstance(d, int) and stop > d):
            raise IRError(f"slice: [{start}:{stop}:{step}] is outside {x}", hint="0 <= start <= stop <= extent")
        shape.append(d if (start, stop, step) == (0, d, 1) else -(-(stop - start) // step))
    return TensorType(x.dtype, tuple(shape))


def _concat_infer(*args: Any) -> TensorType:
    *xs, a = args
    check_axis("concat", xs[0], a.axis)
    for x in xs[1:]:
        rest = [d for i, d in enumerate(x.shape) if i != a.axis]
        if rest != [d for i, d in enumerate(xs[0].shape) if i != a.axis] or x.dtype != xs[0].dtype:
            raise IRError(f"concat: {xs[0]} and {x} differ beyond axis {a.axis}", hint="other axes must match")
    total = sum(x.dims[a.axis] for x in xs)
    return TensorType(xs[0].dtype, tuple(total if i == a.axis else d for i, d in enumerate(xs[0].shape)))


def _pad_infer(x: TensorType, a: PadAttrs) -> TensorType:
    if len(a.before) != x.rank or len(a.after) != x.rank or min((*a.before, *a.after), default=0) < 0:
        raise IRError(f"pad: {list(a.before)} and {list(a.after)} do not fit {x}", hint="one per axis, >= 0")
    if a.mode not in ("constant", "reflect", "replicate"):
        raise IRError(f"pad: no mode {a.mode!r}", hint='use "constant", "reflect" or "replicate"')
    return TensorType(x.dtype, tuple(b + d + e for b, d, e in zip(a.before, x.dims, a.after, strict=True)))


def _pad(x: np.ndarray, a: PadAttrs) -> np.ndarray:
    width = tuple(zip(a.before, a.after, strict=True))
    if a.mode == "constant":
        return np.pad(x, width, constant_values=a.value)
    return np.pad(x, width, mode="reflect" if a.mode == "reflect" else "edge")


def _flip_infer(x: TensorType, a: FlipAttrs) -> TensorType:
    for axis in a.axes:
        check_axis("flip", x, axis)
    return x


def _slices(a: SliceAttrs) -> tuple[slice, ...]:
    return tuple(slice(*s) for s in zip(a.starts, a.stops, a.steps, strict=True))


def _op(name: str, attrs: type[Attrs], infer: Any, reference: Any) -> OpDef:
    return OpDef(name, attrs, infer, reference, kind="movement")


OPS = (
    _op("reshape", ReshapeAttrs, _reshape_infer, lambda x, a: x.reshape(a.shape)),
    _op("transpose", TransposeAttrs, _transpose_infer, lambda x, a: np.transpose(x, a.perm)),
    _op("expand", ExpandAttrs, _expand_infer, lambda x, a: np.broadcast_to(x, a.shape)),
    _op("slice", SliceAttrs, _slice_infer, lambda x, a: x[_slices(a)]),
    _op("concat", ConcatAttrs, _concat_infer, lambda *args: np.concatenate(args[:-1], args[-1].axis)),
    _op("pad", PadAttrs, _pad_infer, _pad),
    _op("flip", FlipAttrs, _flip_infer, lambda x, a: np.flip(x, a.axes)),
    _op("relayout", NoAttrs, lambda x, _: x, lambda x, _: x),
)
