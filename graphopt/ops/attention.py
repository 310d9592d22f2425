"""Scaled dot-product attention, kept whole for a fused kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import Dim, DType, TensorType, broadcast_shapes
from graphopt.ops.base import Attrs
from graphopt.ops.define import check_float, check_same_dtype, define, upper


@dataclass(frozen=True)
class AttentionAttrs(Attrs):
    """softmax(q k^T * scale + mask) v per head; query head i reads key head i // (h / hk).

    Besides what the mask says, `causal` lets query i see keys 0..i (top-left aligned), and a
    `window` of more than 0 keys whose positions differ from i by less than it.
    """

    scale: float
    causal: bool = False
    window: int = 0

    def seen(self, queries: int, keys: int) -> np.ndarray:
        """Which keys each query sees by `causal` and `window`, [queries, keys]."""
        first, end = self._spans(queries, keys)
        key = np.arange(keys)
        return (first[:, None] <= key) & (key < end[:, None])

    def scores(self, queries: int, keys: int, rows: int = 1, columns: int = 1) -> int:
        """How many pairs of a query and a key that it sees there are; by tiles of so many of each,
        how many are in tiles with such a pair."""
        first, end = self._spans(queries, keys)
        starts = np.arange(0, queries, rows)
        lasts = np.minimum(starts + rows, queries)
        low = first[starts] // columns * columns
        high = np.minimum(-(-end[lasts - 1] // columns) * columns, keys)
        return int(((lasts - starts) * np.maximum(high - low, 0)).sum())

    def _spans(self, queries: int, keys: int) -> tuple[np.ndarray, np.ndarray]:
        """The first key of each query and the one after its last."""
        query = np.arange(queries)
        ahead = 0 if self.causal else (self.window or keys) - 1
        behind = (self.window or queries) - 1
        return np.maximum(query - behind, 0), np.minimum(query + ahead + 1, keys)


def _infer(*args: Any) -> TensorType:
    """q [b, h, s, d], k [b, hk, t, d], v [b, hk, t, e], mask ~ [b, h, s, t] -> [b, h, s, e]."""
    q, k, v, *mask, a = args
    if a.window < 0:
        raise IRError(f"attention: a window of {a.window} keys", hint="0 means no window")
    if not q.rank == k.rank == v.rank == 4:
        raise IRError(f"attention: {q}, {k} and {v} are not all of rank 4",
                      hint="expected [batch, heads, sequence, features]")  # fmt: skip
    check_float("attention", q)
    check_same_dtype("attention", q, k, v)
    (b, h, s, d), (bk, hk, t, dk), (bv, hv, tv, e) = q.shape, k.shape, v.shape
    if (b, d, b, t, hk) != (bk, dk, bv, tv, hv) or not _divides(hk, h):
        raise IRError(
            f"attention: {q}, {k} and {v} do not fit",
            hint="expected q [b,h,s,d], k [b,hk,t,d], v [b,hk,t,e] with hk dividing h",
        )
    if mask:
        _check_mask(q, mask[0], (b, h, s, t))
    return TensorType(q.dtype, (b, h, s, e))


def _divides(heads: Dim, queries: Dim) -> bool:
    return upper(queries) % upper(heads) == 0 if upper(heads) else heads == queries


def _check_mask(q: TensorType, mask: TensorType, scores: tuple[Any, ...]) -> None:
    if mask.dtype not in (DType.BOOL, q.dtype):
        raise IRError(f"attention: mask {mask} is neither bool nor {q.dtype}",
                      hint=f"cast it to {q.dtype}, or to bool where True keeps a key")  # fmt: skip
    text = ",".join(map(str, scores))
    try:
        fits = broadcast_shapes(mask.shape, scores) == scores
    except IRError:
        fits = False
    if not fits:
        raise IRError(f"attention: mask {mask} does not broadcast to [{text}]",
                      hint="expand or reshape the mask")  # fmt: skip


def _reference(*args: Any) -> np.ndarray:
    """A row whose every key is masked gives zeros, as torch's fused kernels do (its plain formula
    gives nan)."""
    q, k, v, *mask, a = args
    groups = q.shape[1] // max(k.shape[1], 1)
    if groups > 1:
        k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scores = (q @ k.swapaxes(-1, -2)) * a.scale
    if mask:
        keep = mask[0]
        scores = np.where(keep, scores, -np.inf) if keep.dtype == np.bool_ else scores + keep
    scores = np.where(a.seen(*scores.shape[-2:]), scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis=-1, keepdims=True)
    weights = e / np.where(total == 0, 1, total)
    return np.asarray(weights.astype(q.dtype, copy=False) @ v)


def _flops(*args: Any) -> int:
    """Both products and about ten operations per score that is seen."""
    q, k, v, a = args[0], args[1], args[2], args[-1]
    b, h, s, d = map(upper, q.shape)
    scores = b * h * a.scores(s, upper(k.shape[2]))
    return int(scores * (2 * d + 2 * upper(v.shape[3]) + 10))


ATTENTION = define("attention", AttentionAttrs, _infer, _reference, _flops,
                   kind="attention", operands=(3, 4))  # fmt: skip
OPS = (ATTENTION,)
