"""What torch recorded of an exported graph's tensors: types, shapes, memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from graphopt.errors import FrontendError, UnsupportedError
from graphopt.frontend.dtypes import PARTS, from_torch
from graphopt.frontend.provenance import provenance
from graphopt.ir.types import TensorType

DATA_HINT = (
    "use torch.where or masks of fixed shape, or compile what is around this part: "
    'torch.compile(model, backend="graphopt")'
)


def types(node: fx.Node) -> tuple[TensorType, ...]:
    """Recorded types of a node's tensor results; of complex ones that of either part."""
    return tuple(
        TensorType(PARTS.get(t.dtype) or from_torch(t.dtype), shape(t, node)) for t in held(node)
    )


def first(node: fx.Node) -> torch.Tensor | None:
    """The recorded first operand."""
    operand = node.args[0] if node.args else None
    tensors = held(operand) if isinstance(operand, fx.Node) else ()
    return tensors[0] if len(tensors) == 1 else None


def input_type(node: fx.Node) -> TensorType:
    try:
        from_torch(node.meta["val"].dtype)
        return types(node)[0]
    except UnsupportedError as error:
        raise UnsupportedError(f"input {node.name!r}: {error.message}", hint=error.hint) from error


def held(node: fx.Node) -> list[torch.Tensor]:
    """A node's tensor results as torch recorded them."""
    value = node.meta.get("val")
    leaves = value if isinstance(value, (tuple, list)) else (value,)
    return [v for v in leaves if isinstance(v, torch.Tensor)]


def shape(value: torch.Tensor, node: fx.Node) -> tuple[int, ...]:
    """Raises: FrontendError for a symbolic extent."""
    for d in value.shape:
        if not isinstance(d, int):
            raise _symbolic(d, node)
    return tuple(value.shape)


def _symbolic(extent: Any, node: fx.Node) -> FrontendError:
    if str(extent).startswith("u"):
        return FrontendError(
            f"the shape of {node.name} depends on tensor values ({provenance(node.meta)})",
            hint=DATA_HINT,
        )
    return FrontendError(
        f"{node.name} has the dynamic dimension {extent}",
        hint="export for fixed shapes: leave dynamic_shapes out",
    )
