"""How a family makes an `OpDef`, and the checks that its inference functions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from graphopt.errors import InternalError, IRError
from graphopt.ir.types import Dim, DType, TensorType, broadcast_shapes
from graphopt.ops.base import Attrs, Flops, Infer, OpDef, Reference, no_flops

Arity = tuple[int, int | None]
"""Fewest and most operands; None: any number."""

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def define(
    name: str,
    attrs: type[Attrs],
    infer: Infer,
    reference: Reference,
    flops: Flops = no_flops,
    *,
    kind: str,
    operands: int | Arity,
    commutative: bool = False,
) -> OpDef:
    """An op whose inference first checks the operand count and whose meaning is `in_single`."""
    arity = (operands, operands) if isinstance(operands, int) else operands

    def checked(*args: Any) -> TensorType | tuple[TensorType, ...]:
        if not isinstance(args[-1], attrs):
            raise InternalError(f"{name} needs {attrs.__name__}, got {args[-1]!r}")
        check_arity(name, len(args) - 1, arity)
        return infer(*args)

    meaning = reference if kind in ("movement", "source") else in_single(reference)
    return OpDef(name, attrs, checked, _or_empty(checked, meaning), flops, kind, commutative)


def _or_empty(infer: Infer, reference: Reference) -> Reference:
    """The same meaning; where no result has an element, no formula is asked."""

    def run(*args: Any) -> Any:
        if all(x.size for x in args[:-1]):
            return reference(*args)
        found = infer(*(TensorType.of(x) for x in args[:-1]), args[-1])
        types = (found,) if isinstance(found, TensorType) else found
        if any(0 not in t.shape for t in types):
            return reference(*args)
        empties = tuple(np.empty(t.dims, t.dtype.numpy) for t in types)
        return empties[0] if isinstance(found, TensorType) else empties

    return run


def in_single(reference: Reference) -> Reference:
    """The same meaning with f16 and bf16 operands computed in float32 and rounded once at the end,
    as hardware and torch do. Numpy's floating-point warnings are silenced: IEEE results (inf, nan)
    are the meaning."""

    def run(*args: Any) -> Any:
        half = next((x.dtype for x in args[:-1] if x.dtype in _HALVES), None)
        wide = (x.astype(np.float32) if x.dtype in _HALVES else x for x in args[:-1])
        with np.errstate(all="ignore"):
            out = reference(*wide, args[-1])
            if isinstance(out, tuple):
                return tuple(_rounded(o, half) for o in out)
            return _rounded(out, half)

    return run


def _rounded(out: Any, half: np.dtype | None) -> np.ndarray:
    array = np.asarray(out)
    return array.astype(half) if half is not None and array.dtype == np.float32 else array


# Checks ----------------------------------------------------------------------------------------


def check_arity(name: str, count: int, arity: Arity) -> None:
    """Raises: IRError for a wrong number of operands."""
    low, high = arity
    if count >= low and (high is None or count <= high):
        return
    text = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
    raise IRError(f"{name} takes {text} operands, got {count}", hint=f"give {name} {text} operands")


def check_axis(name: str, x: TensorType, axis: int) -> None:
    """Raises: IRError for an axis outside the tensor."""
    if not 0 <= axis < x.rank:
        hint = f"choose an axis in [0, {x.rank - 1}]" if x.rank else "reshape it to [1] first"
        raise IRError(f"{name}: axis {axis} is outside {x}", hint=hint)


def check_axes(name: str, x: TensorType, axes: tuple[int, ...]) -> None:
    """Raises: IRError for an axis outside the tensor or named twice."""
    for axis in axes:
        check_axis(name, x, axis)
    if len(set(axes)) < len(axes):
        raise IRError(f"{name}: axes {list(axes)} name an axis twice", hint="name each axis once")


def check_not_empty(name: str, x: TensorType, axes: tuple[int, ...]) -> None:
    """Raises: IRError for an axis without elements."""
    for axis in axes:
        if x.shape[axis] == 0:
            raise IRError(
                f"{name}: axis {axis} of {x} is empty", hint=f"{name} needs at least one element"
            )


def check_same_dtype(name: str, *types: TensorType) -> None:
    """Raises: IRError when the operands' element types differ."""
    if len({t.dtype for t in types}) > 1:
        text = " and ".join(map(str, types))
        raise IRError(f"{name}: operands {text} differ in dtype", hint="insert a cast")


def check_float(name: str, x: TensorType) -> None:
    if not x.dtype.is_float:
        raise IRError(f"{name}: {x} is not a float tensor", hint="insert a cast to f32")


def check_number(name: str, x: TensorType) -> None:
    if x.dtype is DType.BOOL:
        hint = 'cast it, or use the ops "and", "or" and "xor"'
        raise IRError(f"{name}: {x} is bool, not a number", hint=hint)


def check_discrete(name: str, x: TensorType) -> None:
    if x.dtype.is_float:
        raise IRError(f"{name}: {x} is a float tensor", hint="use a bool or integer tensor")


def check_bool(name: str, x: TensorType) -> None:
    if x.dtype is not DType.BOOL:
        raise IRError(f"{name}: {x} is not bool", hint="compare it with 0 first")


def check_indices(name: str, x: TensorType) -> None:
    if not x.dtype.is_integer:
        raise IRError(f"{name}: indices {x} are not integers", hint="insert a cast to i64")


def broadcast(name: str, *types: TensorType) -> tuple[Dim, ...]:
    """The operands' common shape. Raises: IRError, naming the op, when there is none."""
    try:
        return broadcast_shapes(*(t.shape for t in types))
    except IRError as e:
        raise IRError(f"{name}: {e.message}", hint=e.hint) from None


def static_extent(name: str, x: TensorType, axis: int) -> int:
    """The extent of an axis. Raises: IRError when it is symbolic."""
    extent = x.shape[axis]
    if isinstance(extent, int):
        return extent
    raise IRError(
        f"{name}: axis {axis} of {x} is symbolic, and this op needs its extent",
        hint="make this dimension static: pass example inputs of the size you run",
    )


def upper(extent: Dim) -> int:
    """An extent for cost estimates: the upper bound of a symbolic one."""
    return extent if isinstance(extent, int) else extent.high


def per_element(weight: int) -> Callable[..., int]:
    """Cost of `weight` operations for each element of the broadcast operands."""

    def flops(*args: Any) -> int:
        shape = broadcast_shapes(*(t.shape for t in args[:-1]))
        return weight * TensorType(args[0].dtype, shape).numel

    return flops
