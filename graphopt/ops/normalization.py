"""Softmax and the norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import Attrs
from graphopt.ops.define import check_axis, check_float, check_same_dtype, define, static_extent
from graphopt.ops.reduction import AxisAttrs


@dataclass(frozen=True)
class SoftmaxAttrs(AxisAttrs):
    """exp(x) / sum(exp(x)) along `axis`."""


@dataclass(frozen=True)
class LogSoftmaxAttrs(AxisAttrs):
    """x - log(sum(exp(x))) along `axis`."""


@dataclass(frozen=True)
class LayerNormAttrs(Attrs):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last `axes` axes."""

    axes: int
    eps: float


@dataclass(frozen=True)
class RmsNormAttrs(Attrs):
    """x / sqrt(mean(x * x) + eps) * weight over the last `axes` axes."""

    axes: int
    eps: float


@dataclass(frozen=True)
class GroupNormAttrs(Attrs):
    """Each of `groups` runs of channels, all their pixels together, to mean 0 and variance 1."""

    groups: int
    eps: float


@dataclass(frozen=True)
class BatchNormAttrs(Attrs):
    """Inference: the statistics are operands."""

    eps: float


# Inference -------------------------------------------------------------------------------------


def _along_axis(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, a: AxisAttrs) -> TensorType:
        check_float(name, x)
        check_axis(name, x, a.axis)
        return x

    return infer


def _over_trailing(name: str) -> Callable[..., TensorType]:
    def infer(*args: Any) -> TensorType:
        x, *params, a = args
        check_float(name, x)
        check_same_dtype(name, x, *params)
        if not 1 <= a.axes <= x.rank:
            raise IRError(
                f"{name}: {a.axes} trailing axes of {x}", hint=f"choose axes in [1, {x.rank}]"
            )
        _check_params(name, x, params, x.shape[x.rank - a.axes :])
        return TensorType(x.dtype, x.shape)

    return infer


def _over_channels(name: str) -> Callable[..., TensorType]:
    def infer(*args: Any) -> TensorType:
        x, *params, a = args
        check_float(name, x)
        check_same_dtype(name, x, *params)
        if x.rank < 2:
            raise IRError(f"{name}: {x} has no channel axis", hint="expected [n, c, ...]")
        _check_params(name, x, params, (x.shape[1],))
        if isinstance(a, GroupNormAttrs):
            channels = static_extent(name, x, 1)
            if a.groups < 1 or channels % a.groups:
                raise IRError(
                    f"{name}: {a.groups} groups do not divide the {channels} channels of {x}",
                    hint="choose a divisor of the channels",
                )
        return TensorType(x.dtype, x.shape)

    return infer


def _check_params(
    name: str, x: TensorType, params: list[TensorType], shape: tuple[Any, ...]
) -> None:
    for p in params:
        if p.shape != shape:
            text = ",".join(map(str, shape))
            raise IRError(f"{name}: parameter {p} does not fit {x}", hint=f"expected [{text}]")


# Meaning ---------------------------------------------------------------------------------------


def _softmax(x: np.ndarray, a: SoftmaxAttrs) -> np.ndarray:
    e = np.exp(x - x.max(axis=a.axis, keepdims=True))  # shift first: exp(89) overflows f32
    return np.asarray(e / e.sum(axis=a.axis, keepdims=True))


def _log_softmax(x: np.ndarray, a: LogSoftmaxAttrs) -> np.ndarray:
    shifted = x - x.max(axis=a.axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=a.axis, keepdims=True)))


def _normalized(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    """Variance in two passes: no cancellation."""
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred * centred).mean(axis=axes, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + eps))


def _trailing(x: np.ndarray, count: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - count, x.ndim))


def _layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, a: LayerNormAttrs) -> np.ndarray:
    return np.asarray(_normalized(x, _trailing(x, a.axes), a.eps) * w + b)


def _rms_norm(x: np.ndarray, w: np.ndarray, a: RmsNormAttrs) -> np.ndarray:
    mean = (x * x).mean(axis=_trailing(x, a.axes), keepdims=True)
    return np.asarray(x / np.sqrt(mean + a.eps) * w)


def per_channel(p: np.ndarray, rank: int) -> np.ndarray:
    """[c] as [c, 1, ...], which broadcasts against [n, c, ...]."""
    return p.reshape(-1, *(1,) * (rank - 2))


def _group_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray, a: GroupNormAttrs) -> np.ndarray:
    grouped = x.reshape(x.shape[0], a.groups, -1)
    y = _normalized(grouped, (2,), a.eps).reshape(x.shape)
    return np.asarray(y * per_channel(w, x.ndim) + per_channel(b, x.ndim))


def _batch_norm(*args: Any) -> np.ndarray:
    x, w, b, mean, var, a = args
    scale = w / np.sqrt(var + a.eps)
    shift = b - mean * scale
    return np.asarray(x * per_channel(scale, x.ndim) + per_channel(shift, x.ndim))


def _per_element(cost: int) -> Callable[..., int]:
    def flops(*args: Any) -> int:
        return cost * int(args[0].numel)

    return flops


OPS = (
    define("softmax", SoftmaxAttrs, _along_axis("softmax"), _softmax, _per_element(12),
           kind="reduction", operands=1),
    define("log_softmax", LogSoftmaxAttrs, _along_axis("log_softmax"), _log_softmax,
           _per_element(12), kind="reduction", operands=1),
    define("layer_norm", LayerNormAttrs, _over_trailing("layer_norm"), _layer_norm,
           _per_element(8), kind="reduction", operands=3),
    define("rms_norm", RmsNormAttrs, _over_trailing("rms_norm"), _rms_norm, _per_element(5),
           kind="reduction", operands=2),
    define("group_norm", GroupNormAttrs, _over_channels("group_norm"), _group_norm,
           _per_element(8), kind="reduction", operands=3),
    # Not "pointwise": its [c] operands do not broadcast by trailing axes, as those of pointwise
    # ops must. Passes fold it or rewrite it as mul and add.
    define("batch_norm", BatchNormAttrs, _over_channels("batch_norm"), _batch_norm,
           _per_element(2), kind="opaque", operands=5),
)  # fmt: skip
