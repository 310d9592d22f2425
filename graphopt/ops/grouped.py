"""Products whose rows choose among several weights: layers of experts.

`grouped_matmul` is what models say: consecutive rows share a weight. `gathered_matmul` is what
kernels compute: blocks of rows, each with the number of its weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import TensorType
from graphopt.ops.base import NoAttrs
from graphopt.ops.contraction import product
from graphopt.ops.define import (
    check_indices,
    check_number,
    check_same_dtype,
    define,
    static_extent,
    upper,
)


def _check_factors(name: str, x: TensorType, w: TensorType, rows: str, rank: int) -> None:
    check_number(name, x)
    check_same_dtype(name, x, w)
    if x.rank != rank or w.rank != 3 or x.shape[-1] != w.shape[1]:
        raise IRError(f"{name}: {x} and {w} do not fit", hint=f"expected {rows} and [e, k, n]")
    if static_extent(name, w, 0) < 1:
        raise IRError(f"{name}: {w} are no weights to choose from", hint="give one at least")


def _grouped_infer(x: TensorType, w: TensorType, ends: TensorType, _: NoAttrs) -> TensorType:
    """x [s, k], w [e, k, n], ends [e] -> [s, n]."""
    _check_factors("grouped_matmul", x, w, "[s, k]", 2)
    check_indices("grouped_matmul", ends)
    if ends.shape != w.shape[:1]:
        raise IRError(
            f"grouped_matmul: ends {ends} do not fit {w}", hint=f"expected [{w.shape[0]}]"
        )
    return TensorType(x.dtype, (x.shape[0], w.shape[2]))


def _gathered_infer(x: TensorType, w: TensorType, index: TensorType, _: NoAttrs) -> TensorType:
    """x [b, m, k], w [e, k, n], index [b] -> [b, m, n]."""
    _check_factors("gathered_matmul", x, w, "[b, m, k]", 3)
    check_indices("gathered_matmul", index)
    if index.shape != x.shape[:1]:
        raise IRError(f"gathered_matmul: index {index} does not fit {x}",
                      hint=f"expected [{x.shape[0]}]")  # fmt: skip
    return TensorType(x.dtype, (*x.shape[:2], w.shape[2]))


def _grouped(x: np.ndarray, w: np.ndarray, ends: np.ndarray, _: NoAttrs) -> np.ndarray:
    """`ends` do not decrease: group e is x[ends[e - 1]:ends[e]]. Rows of no group give 0."""
    out = np.zeros((x.shape[0], w.shape[2]), x.dtype)
    start = 0
    for weight, end in zip(w, ends, strict=True):
        out[start:end] = product(x[start:end], weight)
        start = max(start, int(end))
    return out


def _gathered(x: np.ndarray, w: np.ndarray, index: np.ndarray, _: NoAttrs) -> np.ndarray:
    """A block whose index names no weight gives 0: negative ones do not count from the end."""
    out = np.zeros((*x.shape[:2], w.shape[2]), x.dtype)
    for block, (rows, which) in enumerate(zip(x, index, strict=True)):
        if 0 <= which < len(w):
            out[block] = product(rows, w[which])
    return out


def _flops(*args: Any) -> int:
    x, w = args[:2]
    return int(2 * x.numel * upper(w.shape[2]))


OPS = (
    define("grouped_matmul", NoAttrs, _grouped_infer, _grouped, _flops,
           kind="contraction", operands=3),
    define("gathered_matmul", NoAttrs, _gathered_infer, _gathered, _flops,
           kind="contraction", operands=3),
)  # fmt: skip
