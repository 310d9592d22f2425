"""A model run in float64; an exported program, too, though float32 is written all over it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


def exact_outputs(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What `model(*args, **kwargs)` returns with all its floating-point arithmetic in float64."""
    if isinstance(model, fx.GraphModule):
        return run_in_float64(model, tuple(pytree.tree_leaves((args, dict(kwargs)))))
    wide_args, wide_kwargs = pytree.tree_map_only(torch.Tensor, _wide, (args, dict(kwargs)))
    with torch.no_grad(), _WidelyGrouped():
        return copy.deepcopy(model).double()(*wide_args, **wide_kwargs)


def run_in_float64(module: fx.GraphModule, arguments: tuple[Any, ...]) -> Any:
    """Results of an exported module with every floating-point tensor and type made float64.

    `module.double()` would not do: casts and constructors in the graph name float32, and so do
    torch's own checks of the types it traced. arguments: the leaves of its inputs, in order.
    """
    with torch.no_grad(), _WidelyGrouped():
        return _Widened(module).run(*pytree.tree_map(_wide, arguments))


class _WidelyGrouped(TorchDispatchMode):  # type: ignore[misc]
    """torch has no grouped product of float64 operands."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is torch.ops.aten._grouped_mm.default and args[0].dtype is torch.float64:
            return _grouped(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _grouped(x: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor, **_: Any) -> torch.Tensor:
    """x: [s, k] in groups of rows that end at `offs`, weight: [e, k, n]. Rows of no group: 0."""
    out = x.new_zeros(len(x), weight.shape[2])
    start = 0
    for matrix, end in zip(weight, offs.tolist(), strict=True):
        out[start:end] = x[start:end] @ matrix
        start = end
    return out


class _Widened(fx.Interpreter):  # type: ignore[misc]
    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is torch.ops.aten._assert_tensor_metadata.default:
            return None
        args, kwargs = pytree.tree_map(_wide, (args, kwargs))
        return pytree.tree_map(_wide, super().call_function(target, args, kwargs))

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Only torch's checks of shapes and types are modules in an exported graph."""
        return None

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        held = super().get_attr(target, args, kwargs)
        if isinstance(held, fx.GraphModule):  # the inside of a region, such as no_grad()
            return lambda *inner: _Widened(held).run(*inner)
        return _wide(held)


def _wide(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value.is_floating_point else value
    return value
