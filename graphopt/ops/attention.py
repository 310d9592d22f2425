"""Scaled dot-product attention, kept whole for a fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType, TensorType, broadcast_shapes
from graphopt.ops.base import Attrs, OpDef


@dataclass(frozen=True)
class AttentionAttrs(Attrs):
    """softmax(q k^T * scale + mask) v; `causal` lets query i see keys 0..i (top-left aligned)."""

    scale: float
    causal: bool = False


def _infer(*args: Any) -> TensorType:
    q, k, v, *mask, _ = args
    if not q.rank == k.rank == v.rank == 4:
        raise IRError(f"attention: {q}, {k} and {v} are not rank 4", hint="expected [b, h, s, d]")
    (b, h, s, d), (bk, hk, t, dk), (_, hv, tv, e) = q.dims, k.dims, v.dims
    if b != bk or d != dk or t != tv or hk != hv or h % hk:
        raise IRError(
            f"attention: {q}, {k} and {v} do not fit", hint="q [b,h,s,d], k [b,hk,t,d], v [b,hk,t,e], hk | h"
        )
    if mask and broadcast_shapes(mask[0].shape, (b, h, s, t)) != (b, h, s, t):
        raise IRError(f"attention: mask {mask[0]} does not broadcast to [{b},{h},{s},{t}]")
    if mask and not (mask[0].dtype is DType.BOOL or mask[0].dtype.is_float):
        raise IRError(f"attention: mask {mask[0]} is neither bool nor float", hint="True keeps a key")
    return TensorType(q.dtype, (b, h, s, e))


def _reference(*args: Any) -> np.ndarray:
    """A row whose every key is masked gives zeros."""
    q, k, v, *mask, a = args
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scores = (q @ k.swapaxes(-1, -2)) * q.dtype.type(a.scale)
    if mask:
        m = mask[0]
        scores = np.where(m, scores, -np.inf) if m.dtype == np.bool_ else scores + m
    if a.causal:
        s, t = scores.shape[-2:]
        scores = np.where(np.tril(np.ones((s, t), np.bool_)), scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis=-1, keepdims=True)
    return ((e / np.where(total == 0, 1, total)) @ v).astype(q.dtype)  # type: ignore[no-any-return]


def _flops(*args: Any) -> int:
    q, k, v = args[:3]
    b, h, s, d = q.dims
    t, e = k.dims[2], v.dims[3]
    return int(b * h * s * t * (2 * d + 2 * e + 10))


ATTENTION = OpDef("attention", AttentionAttrs, _infer, _reference, _flops, "attention")
OPS = (ATTENTION,)
