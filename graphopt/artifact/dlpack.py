"""Tensors of any library by the DLPack protocol: where they lie, without copying."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from graphopt.errors import InputError

CPU, CUDA, CUDA_MANAGED = 1, 2, 13
"""Device types."""

_CODES = {0: "i", 1: "u", 2: "f", 4: "bf", 6: "bool"}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


@dataclass(frozen=True)
class Borrowed:
    """Somebody's tensor, which lies at `address` as long as `capsule` lives. `dtype` in IR
    spelling."""

    value: Any
    capsule: Any
    address: int
    device_type: int
    device: int
    dtype: str
    shape: tuple[int, ...]
    is_dense: bool

    def data_ptr(self) -> int:
        return self.address


def borrow(value: Any, stream: int | None) -> Borrowed | None:
    """A tensor of another library, ready on `stream`; None for what does not speak DLPack.

    Raises: InputError when its owner does not give it away.
    """
    if not hasattr(value, "__dlpack__") or not hasattr(value, "__dlpack_device__"):
        return None
    kind, _ = value.__dlpack_device__()
    try:
        # 0 is ambiguous in the protocol, 1 the legacy default stream
        capsule = value.__dlpack__() if kind == CPU else value.__dlpack__(stream=stream or 1)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"a {type(value).__name__} cannot be read through DLPack: {error}",
            hint="detach it, or copy it to a contiguous tensor of its own",
        ) from error
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    t = _Tensor.from_address(pointer(capsule, b"dltensor"))
    shape = tuple(t.shape[: t.ndim])
    strides = tuple(t.strides[: t.ndim]) if t.strides else None
    name = _CODES.get(t.code, "?")
    dtype = "bool" if name == "bool" else f"{name}{t.bits}"
    address = (t.data or 0) + t.byte_offset
    dense = strides is None or _is_dense(shape, strides)
    return Borrowed(value, capsule, address, t.device_type, t.device_id, dtype, shape, dense)


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    step = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent > 1 and stride != step:
            return False
        step *= extent
    return True
