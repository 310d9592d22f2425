"""What the folding passes know of products: which axis holds output channels, of results and of
weights."""

from __future__ import annotations

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import ConvTransposeAttrs
from graphopt.rewrite import Rewriter
from graphopt_passes.recipes import known

PRODUCTS = ("linear", "conv", "conv_transpose")


def channel_axis(product: Node) -> int:
    """The axis of a product's result that its bias runs along."""
    return product.result.type.rank - 1 if product.op.name == "linear" else 1


def per_channel(rw: Rewriter, value: Value, product: Node) -> np.ndarray | None:
    """A known value as one number per output channel of a product that it is added to or
    multiplied with; None where it varies along another axis, or is computed at run time."""
    array, type = known(rw, value), product.result.type
    if array is None or value.type.rank > type.rank:
        return None
    axis, shape = channel_axis(product), (1,) * (type.rank - array.ndim) + array.shape
    if any(d != 1 for a, d in enumerate(shape) if a != axis):
        return None
    channels = type.shape[axis]
    assert isinstance(channels, int), "weights are static"
    return np.broadcast_to(array.reshape(-1), (channels,))


def scaled(weight: np.ndarray, scale: np.ndarray, product: Node) -> np.ndarray:
    """Weights times the scale of their output channel, in float64. That is axis 0, or for a
    transposed convolution axis 1 within each group."""
    rest = (1,) * (weight.ndim - 2)
    wide = weight.astype(np.float64)
    if not isinstance(product.attrs, ConvTransposeAttrs):
        return wide * scale.reshape(-1, 1, *rest)  # type: ignore[no-any-return]
    groups = product.attrs.groups
    grouped = wide.reshape(groups, -1, *weight.shape[1:])
    return (grouped * scale.reshape(groups, 1, -1, *rest)).reshape(weight.shape)  # type: ignore[no-any-return]
