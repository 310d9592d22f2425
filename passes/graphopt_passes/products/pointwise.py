"""What the passes over 1x1 convolutions share: which those are, and how their weights are read."""

from __future__ import annotations

import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.ops import ConvAttrs
from graphopt.rewrite import Rewriter


def is_pointwise(node: Node) -> bool:
    """Whether a node is a convolution that is one linear layer at every pixel, in full density."""
    a = node.attrs
    if not isinstance(a, ConvAttrs) or node.op.name != "conv" or a.groups != 1:
        return False
    kernel = node.operands[1].type.shape[2:]
    return set(kernel) | set(a.stride) <= {1} and all(p == (0, 0) for p in a.padding)


def parameters(node: Node, rw: Rewriter) -> tuple[np.ndarray, np.ndarray | None] | str:
    """Weights of a product and its bias, None without one; or why they may not be replaced."""
    if not node.result.type.dtype.is_float:
        return "integers would be rounded"
    arrays = [rw.array(p) for p in node.operands[1:]]
    if any(a is None for a in arrays):
        return "weights are computed at run time"
    if not rw.has_one_use(node.operands[1]):
        return "the weights are shared"
    return arrays[0], arrays[1] if len(arrays) > 1 else None  # type: ignore[return-value]


def name(weights: Value, suffix: str) -> str:
    return f"{weights.name or 'weight'}.{suffix}"
