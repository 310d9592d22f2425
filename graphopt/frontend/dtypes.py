"""torch dtypes and memory as numpy's."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Value
from graphopt.ir.types import DType

_FROM_TORCH: dict[torch.dtype, DType] = {
    torch.float64: DType.F64, torch.float32: DType.F32, torch.float16: DType.F16,
    torch.bfloat16: DType.BF16, torch.int64: DType.I64, torch.int32: DType.I32,
    torch.int16: DType.I16, torch.int8: DType.I8, torch.uint8: DType.U8, torch.bool: DType.BOOL,
}  # fmt: skip
PARTS = {torch.complex64: DType.F32, torch.complex128: DType.F64}
"""Of complex numbers, which the IR has as two tensors."""

_TO_TORCH = {v: k for k, v in _FROM_TORCH.items()}


def find(dtype: torch.dtype) -> DType | None:
    """None for a dtype that the IR does not have, such as complex numbers."""
    return _FROM_TORCH.get(dtype)


def from_torch(dtype: torch.dtype) -> DType:
    """Raises: UnsupportedError for a dtype that the IR does not have."""
    found = find(dtype)
    if found is None:
        names = ", ".join(str(d).removeprefix("torch.") for d in _FROM_TORCH)
        raise UnsupportedError(
            f"dtype {str(dtype).removeprefix('torch.')} is not supported",
            hint=f"use one of {names}",
        )
    return found


def to_torch(dtype: DType) -> torch.dtype:
    return _TO_TORCH[dtype]


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as an array: a view where it is dense on the CPU, else a copy."""
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    from_torch(tensor.dtype)
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
    return tensor.numpy()  # type: ignore[no-any-return]


def promote(x: object, y: object) -> DType:
    """torch's result dtype of two operands, each a Value or a Python number."""
    return from_torch(torch.result_type(_stand_in(x), _stand_in(y)))


def _stand_in(x: object) -> object:
    """A number itself; for a Value a tensor that promotes like it (a scalar yields to others)."""
    if not isinstance(x, Value):
        return x
    shape = (1,) if x.type.rank else ()
    return torch.empty(shape, dtype=to_torch(x.type.dtype), device="meta")
