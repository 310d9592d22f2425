"""What a case is, and the operands that cases are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.infer import infer
from graphopt.ir.types import DType, TensorType
from graphopt.ops import OPS, Attrs, NoAttrs


@dataclass(frozen=True)
class Case:
    """`op(*operands) {attrs}`; `expect(torch, *tensors)` is torch's tensor, or a tuple of them."""

    op: str
    label: str
    operands: tuple[np.ndarray, ...]
    attrs: Attrs
    expect: Callable[..., Any]

    @property
    def id(self) -> str:
        return f"{self.op}-{self.label}"

    def graph(self, dtype: DType | None = None) -> Graph:
        """The op alone; `dtype` replaces that of the float operands."""
        types = [TensorType.of(x) for x in self.operands]
        if dtype is not None:
            types = [t.with_dtype(dtype) if t.dtype.is_float else t for t in types]
        inputs = tuple(Value(t, name=f"x{i}") for i, t in enumerate(types))
        op = OPS[self.op]
        node = Node(op, inputs, self.attrs, infer(op, types, self.attrs))
        return Graph(inputs, (node,), node.results)


_TORCH_NAMES = {
    "sub": "subtract", "floor_div": "floor_divide", "mod": "remainder", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
RNG = np.random.default_rng(0)
NO = NoAttrs()
SPECIAL = np.array([
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1e-8, 88.0, -88.0, 710.0, -745.0,
    math.inf, -math.inf, math.nan,
])  # fmt: skip


def normal(*shape: int) -> np.ndarray:
    return np.asarray(RNG.standard_normal(shape))


def positive(*shape: int) -> np.ndarray:
    return np.abs(normal(*shape)) + 0.1


def ints(low: int, high: int, *shape: int, dtype: Any = np.int64) -> np.ndarray:
    return np.asarray(RNG.integers(low, high, shape), dtype)


def bools(*shape: int) -> np.ndarray:
    return RNG.random(shape) < 0.5


def named(op: str) -> Callable[..., Any]:
    """torch's function of that meaning."""
    return lambda t, *xs: getattr(t, _TORCH_NAMES.get(op, op))(*xs)


def along(op: str, axis: int) -> Callable[..., Any]:
    """torch's function of one tensor and an axis."""
    return lambda t, x: getattr(t, op)(x, axis)
