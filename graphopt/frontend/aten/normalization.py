"""ATen's softmax and norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes

from graphopt.frontend.builder import Builder, Mapping, UnsupportedFormError, axis_of
from graphopt.ir.graph import Value
from graphopt.ops import (
    BatchNormAttrs,
    GroupNormAttrs,
    LayerNormAttrs,
    LogSoftmaxAttrs,
    MeanAttrs,
    RmsNormAttrs,
    SoftmaxAttrs,
)


def softmax(b: Builder, x: Value, axis: int, *_: object, **__: object) -> Value:
    """Computed in the result's dtype (the `dtype` argument)."""
    return b.emit("softmax", *_vector(b, x), attrs=SoftmaxAttrs(axis_of(axis, x.type.rank)))


def log_softmax(b: Builder, x: Value, axis: int, *_: object, **__: object) -> Value:
    return b.emit("log_softmax", *_vector(b, x), attrs=LogSoftmaxAttrs(axis_of(axis, x.type.rank)))


def _vector(b: Builder, x: Value) -> tuple[Value]:
    return (b.cast(x, b.type.dtype),)


def _parameter(
    b: Builder, p: Value | None, default: float, x: Value, shape: Sequence[int]
) -> Value:
    """A norm's parameter in x's dtype; `default` where the model has none."""
    if p is None:
        return b.full(default, x.type.dtype, shape)
    return b.cast(p, x.type.dtype)


def layer_norm(
    b: Builder, x: Value, shape: Sequence[int], weight: Value | None = None,
    bias: Value | None = None, eps: float = 1e-5, *_: object,
) -> Value:  # fmt: skip
    w, c = _parameter(b, weight, 1, x, shape), _parameter(b, bias, 0, x, shape)
    return b.emit("layer_norm", x, w, c, attrs=LayerNormAttrs(len(shape), float(eps)))


def rms_norm(
    b: Builder,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    if eps is None:
        eps = float(ml_dtypes.finfo(x.type.dtype.numpy).eps)
    w = _parameter(b, weight, 1, x, shape)
    return b.emit("rms_norm", x, w, attrs=RmsNormAttrs(len(shape), float(eps)))


def group_norm(
    b: Builder, x: Value, groups: int, weight: Value | None = None, bias: Value | None = None,
    eps: float = 1e-5, *_: object,
) -> Value:  # fmt: skip
    channels = x.type.dims[1:2]
    w, c = _parameter(b, weight, 1, x, channels), _parameter(b, bias, 0, x, channels)
    return b.emit("group_norm", x, w, c, attrs=GroupNormAttrs(groups, float(eps)))


def native_group_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, n: int, c: int, hw: int,
    groups: int, eps: float,
) -> Any:  # fmt: skip
    return group_norm(b, x, groups, weight, bias, eps), None, None


def instance_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value | None,
    var: Value | None, use_input_stats: bool, momentum: float, eps: float, *_: object,
) -> Value:  # fmt: skip
    if not use_input_stats:
        return batch_norm(b, x, weight, bias, mean, var, False, momentum, eps)
    return group_norm(b, x, x.type.dims[1], weight, bias, eps)


def batch_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value | None,
    var: Value | None, training: bool, momentum: float, eps: float, *_: object,
) -> Value:  # fmt: skip
    """With running statistics; in training mode only those of the batch, which change nothing."""
    if training or mean is None or var is None:
        if mean is not None:
            raise UnsupportedFormError("batch norm in training mode: call model.eval()")
        return _batch_statistics(b, x, weight, bias, eps)
    channels = x.type.dims[1:2]
    w, c = _parameter(b, weight, 1, x, channels), _parameter(b, bias, 0, x, channels)
    statistics = b.cast(mean, x.type.dtype), b.cast(var, x.type.dtype)
    return b.emit("batch_norm", x, w, c, *statistics, attrs=BatchNormAttrs(float(eps)))


def _batch_statistics(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, eps: float
) -> Value:
    axes = tuple(i for i in range(x.type.rank) if i != 1)
    centred = b.sub(x, b.emit("mean", x, attrs=MeanAttrs(axes, True)))
    var = b.emit("mean", b.mul(centred, centred), attrs=MeanAttrs(axes, True))
    y = b.mul(centred, b.emit("rsqrt", b.add(var, eps)))
    per_channel = (x.type.dims[1], *(1,) * (x.type.rank - 2))
    y = y if weight is None else b.mul(y, b.reshape(b.cast(weight, x.type.dtype), per_channel))
    return y if bias is None else b.add(y, b.reshape(b.cast(bias, x.type.dtype), per_channel))


def native_no_training(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value,
    momentum: float, eps: float,
) -> Any:  # fmt: skip
    return batch_norm(b, x, weight, bias, mean, var, False, momentum, eps), None, None


def native_no_stats(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, training: bool,
    momentum: float, eps: float,
) -> Any:  # fmt: skip
    return batch_norm(b, x, weight, bias, None, None, training, momentum, eps), None, None


NORMALIZATION: dict[str, Mapping] = {
    "aten.softmax.int": softmax,
    "aten._softmax.default": softmax,
    "aten._safe_softmax.default": softmax,
    "aten.log_softmax.int": log_softmax,
    "aten._log_softmax.default": log_softmax,
    "aten.layer_norm.default": layer_norm,
    "aten.native_layer_norm.default": lambda b, *args: (layer_norm(b, *args), None, None),
    "aten.rms_norm.default": rms_norm,
    "aten._fused_rms_norm.default": lambda b, *args: (rms_norm(b, *args), None),
    "aten.group_norm.default": group_norm,
    "aten.native_group_norm.default": native_group_norm,
    "aten.instance_norm.default": instance_norm,
    "aten.batch_norm.default": batch_norm,
    "aten._native_batch_norm_legit_no_training.default": native_no_training,
    "aten._native_batch_norm_legit.no_stats": native_no_stats,
    "aten._native_batch_norm_legit.default": lambda b, *args: (batch_norm(b, *args), None, None),
    "aten.native_batch_norm.default": lambda b, *args: (batch_norm(b, *args), None, None),
}
