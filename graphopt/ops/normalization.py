"""Softmax and the norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs, OpDef
from graphopt.ops.reduction import AxisAttrs, check_axis


@dataclass(frozen=True)
class SoftmaxAttrs(AxisAttrs): ...


@dataclass(frozen=True)
class LogSoftmaxAttrs(AxisAttrs): ...


@dataclass(frozen=True)
class LayerNormAttrs(Attrs):
    """Over the last `axes` axes."""

    axes: int
    eps: float


@dataclass(frozen=True)
class RmsNormAttrs(Attrs):
    """Over the last `axes` axes."""

    axes: int
    eps: float


@dataclass(frozen=True)
class GroupNormAttrs(Attrs):
    groups: int
    eps: float


@dataclass(frozen=True)
class BatchNormAttrs(Attrs):
    eps: float


def _axis(name: str) -> Any:
    def infer(x: TensorType, a: AxisAttrs) -> TensorType:
        check_axis(name, x, a.axis)
        return x

    return infer


def _softmax(x: np.ndarray, a: SoftmaxAttrs) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=a.axis, keepdims=True))  # shift first: exp(89) overflows f32
        return e / e.sum(axis=a.axis, keepdims=True)


def _log_softmax(x: np.ndarray, a: LogSoftmaxAttrs) -> np.ndarray:
    shifted = x - x.max(axis=a.axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=a.axis, keepdims=True))


def _trailing(name: str, weights: int) -> Any:
    def infer(*args: Any) -> TensorType:
        x, *params, a = args
        if not 1 <= a.axes <= x.rank:
            raise IRError(f"{name}: {a.axes} trailing axes of {x}", hint="use 1 to the rank")
        for p in params:
            if p.shape != x.shape[x.rank - a.axes :]:
                raise IRError(f"{name}: parameter {p} does not fit {x}", hint="shapes must match")
        if len(params) != weights:
            raise IRError(f"{name} takes {weights} parameters, got {len(params)}")
        return x  # type: ignore[no-any-return]

    return infer


def _normalized(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    return (centred / np.sqrt(variance + x.dtype.type(eps))).astype(x.dtype)


def _layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, a: LayerNormAttrs) -> np.ndarray:
    return _normalized(x, tuple(range(x.ndim - a.axes, x.ndim)), a.eps) * w + b


def _rms_norm(x: np.ndarray, w: np.ndarray, a: RmsNormAttrs) -> np.ndarray:
    axes = tuple(range(x.ndim - a.axes, x.ndim))
    mean = (x * x).mean(axis=axes, keepdims=True)
    return (x / np.sqrt(mean + x.dtype.type(a.eps))).astype(x.dtype) * w


def _channels(name: str, count: int) -> Any:
    def infer(*args: Any) -> TensorType:
        x, *params, a = args
        if x.rank < 2:
            raise IRError(f"{name}: {x} has no channel axis", hint="expected [n, c, ...]")
        for p in params:
            if p.shape != (x.shape[1],):
                raise IRError(f"{name}: parameter {p} does not fit {x}", hint="expected [c]")
        if len(params) != count:
            raise IRError(f"{name} takes {count} parameters, got {len(params)}")
        if isinstance(a, GroupNormAttrs) and x.shape[1] % a.groups:
            raise IRError(f"{name}: {a.groups} groups do not divide the channels of {x}")
        return x  # type: ignore[no-any-return]

    return infer


def per_channel(p: np.ndarray, rank: int) -> np.ndarray:
    """[c] as [c, 1, ...], which broadcasts against [n, c, ...]."""
    return p.reshape(-1, *(1,) * (rank - 2))


def _group_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, a: GroupNormAttrs) -> np.ndarray:
    grouped = x.reshape(x.shape[0], a.groups, -1)
    y = _normalized(grouped, (2,), a.eps).reshape(x.shape)
    return y * per_channel(w, x.ndim) + per_channel(b, x.ndim)


def _batch_norm(*args: Any) -> np.ndarray:
    x, w, b, mean, var, a = args
    scale = w / np.sqrt(var + x.dtype.type(a.eps))
    shift = b - mean * scale
    return (x * per_channel(scale, x.ndim) + per_channel(shift, x.ndim)).astype(x.dtype)  # type: ignore[no-any-return]


def _flops(per: int) -> Any:
    return lambda *args: per * args[0].numel


OPS = (
    OpDef("softmax", SoftmaxAttrs, _axis("softmax"), _softmax, _flops(12), "reduction"),
    OpDef("log_softmax", LogSoftmaxAttrs, _axis("log_softmax"), _log_softmax, _flops(12), "reduction"),
    OpDef("layer_norm", LayerNormAttrs, _trailing("layer_norm", 2), _layer_norm, _flops(8), "reduction"),
    OpDef("rms_norm", RmsNormAttrs, _trailing("rms_norm", 1), _rms_norm, _flops(5), "reduction"),
    OpDef("group_norm", GroupNormAttrs, _channels("group_norm", 2), _group_norm, _flops(8), "reduction"),
    OpDef("batch_norm", BatchNormAttrs, _channels("batch_norm", 4), _batch_norm, _flops(2), "opaque"),
)  # fmt: skip
