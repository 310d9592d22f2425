"""ATen's scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

from graphopt.frontend.builder import Builder, Mapping, UnsupportedFormError
from graphopt.ir.graph import Value
from graphopt.ir.types import DType, broadcast_shapes
from graphopt.ops import AttentionAttrs


def attention(
    b: Builder, q: Value, k: Value, v: Value, attn_mask: Value | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, *, scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """q: [..., h, s, d], k: [..., hk, t, d], v: [..., hk, t, e]; leading axes become one batch."""
    if dropout_p:
        raise UnsupportedFormError("attention with dropout: call model.eval()")
    scale = 1 / math.sqrt(q.type.dims[-1]) if scale is None else float(scale)
    if not enable_gqa:
        batch = broadcast_shapes(*(x.type.shape[:-2] for x in (q, k, v)))
        q, k, v = (b.expand(x, (*batch, *x.type.dims[-2:])) for x in (q, k, v))  # type: ignore[arg-type]
    lead = q.type.dims[:-2]
    heads = [_four(b, x) for x in (q, k, v)]
    masks = () if attn_mask is None else (_mask(b, attn_mask, q, lead, k.type.dims[-2]),)
    y = b.emit("attention", *heads, *masks, attrs=AttentionAttrs(scale, is_causal))
    return b.reshape(y, b.type.dims)


def _four(b: Builder, x: Value) -> Value:
    """[..., h, s, d] as [b, h, s, d]; a batch axis comes in front where heads lead."""
    dims = x.type.dims
    heads = dims[-3] if len(dims) > 2 else 1
    return b.reshape(x, (math.prod(dims[:-3]), heads, *dims[-2:]))


def _mask(b: Builder, mask: Value, q: Value, lead: tuple[int, ...], keys: int) -> Value:
    """Broadcastable to [b, h, s, t]; an integer mask is no torch mask."""
    if mask.type.dtype is not DType.BOOL:
        mask = b.cast(mask, q.type.dtype)
    dims = mask.type.dims
    if len(lead) > 2 and len(dims) > 3:  # several batch axes: spell the mask out
        mask = b.expand(mask, (*lead, *dims[-2:]))
        return _four(b, mask)
    return b.reshape(mask, (*(1,) * (4 - len(dims)), *dims)) if len(dims) < 4 else mask


def flash_for_cpu(
    b: Builder, q: Value, k: Value, v: Value, dropout_p: float = 0.0, is_causal: bool = False,
    *, attn_mask: Value | None = None, scale: float | None = None,
) -> Any:  # fmt: skip
    return attention(b, q, k, v, attn_mask, dropout_p, is_causal, scale=scale), None


ATTENTION_OPS: dict[str, Mapping] = {
    "aten.scaled_dot_product_attention.default": attention,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": flash_for_cpu,
}
