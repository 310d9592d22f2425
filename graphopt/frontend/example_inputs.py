"""Example inputs, by position or by name. What needs no export imports none: that takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from graphopt.errors import FrontendError

ExampleInputs: TypeAlias = torch.Tensor | Sequence[Any] | Mapping[str, Any]


def arguments(inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As a call of the model takes them. Raises: FrontendError."""
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise FrontendError(
        f"example inputs are {type(inputs).__name__}",
        hint="pass a tuple of tensors, or a dict of tensors by parameter name",
    )
