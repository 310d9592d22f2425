"""Which composite operators stay whole when torch decomposes the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# Operators that one op of the IR stands for, or that torch would spell at greater length.
_NAMES = """
linear matmul baddbmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
scaled_dot_product_attention layer_norm rms_norm group_norm instance_norm softmax log_softmax silu
mish hardswish hardsigmoid relu6 selu celu softplus prelu glu log_sigmoid hardshrink softshrink
threshold logit nan_to_num addcmul addcdiv lerp masked_fill max_pool1d max_pool2d max_pool3d
avg_pool1d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d
upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa pad pixel_shuffle pixel_unshuffle channel_shuffle
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d stack roll tril triu logsumexp one_hot index_add index_copy index_fill im2col
embedding select_scatter var std var_mean count_nonzero argsort isfinite
scaled_dot_product_flash_attention_for_cpu
"""
WHOLE = frozenset(_NAMES.split())


def table() -> dict[Any, Callable[..., Any]]:
    """torch's default decompositions without those of the operators kept whole."""
    out = torch.export.default_decompositions()
    for overload in list(out.keys()):
        if str(overload).removeprefix("aten.").split(".")[0] in WHOLE:
            out.pop(overload)
    lstm = torch.ops.aten.lstm.input
    out[lstm] = _states_as_given(out[lstm])
    return out  # type: ignore[no-any-return]


def _states_as_given(lstm: Callable[..., Any]) -> Callable[..., Any]:
    """The last states with the shapes of the first: torch 2.11's decomposition gives them an axis
    more."""

    def decomposed(x: torch.Tensor, states: Sequence[torch.Tensor], *others: Any) -> Any:
        y, *last = lstm(x, states, *others)
        return y, *(s.reshape(h.shape) for s, h in zip(last, states, strict=True))

    return decomposed
