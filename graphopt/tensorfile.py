"""Arrays by name in a safetensors file, bfloat16 included, mapped from disk when read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from graphopt.errors import IRError

# safetensors' numpy reader has no bfloat16, so the header is read here: eight bytes of length,
# JSON, then the arrays back to back. Source: the format's README, huggingface/safetensors.
_FORMAT: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}  # fmt: skip
_TAGS = {dtype: tag for tag, dtype in _FORMAT.items()}


def write_safetensors(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Arrays by name. The file appears whole or not at all.

    The format has no gaps: wide elements come first, so that every array is aligned.
    """
    ordered = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    header: dict[str, object] = {}
    offset = 0
    for name, array in ordered.items():
        header[name] = {
            "dtype": _TAGS[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)  # spaces may follow the JSON: the data starts aligned
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in ordered.values():
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read-only arrays mapped from the file. Raises: IRError when it is corrupt."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError("its header is cut off")
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
        header.pop("__metadata__", None)
        return {name: _array(data[8 + length :], entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IRError(f"cannot read {path}: {error}", hint="export the model again") from error


def _array(data: np.ndarray, entry: Mapping[str, object]) -> np.ndarray:
    tag, shape, ends = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = _FORMAT.get(str(tag))
    if dtype is None:
        raise ValueError(f"dtype {tag} is not supported")
    if not isinstance(shape, list) or not isinstance(ends, list) or len(ends) != 2:
        raise ValueError("its header is malformed")
    start, stop = ends
    if not 0 <= start <= stop <= data.size:
        raise ValueError("its data is cut off")
    part = data[start:stop]
    # A view needs an aligned start; other writers align to nothing.
    aligned = part if part.ctypes.data % dtype.itemsize == 0 else part.copy()
    return aligned.view(np.ndarray).view(dtype).reshape(shape)
