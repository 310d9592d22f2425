"""A model on disk: `NAME.go.txt`, the graph's text, and `NAME.safetensors`, its arrays.

The text itself holds constants of up to INLINE_ELEMENTS elements: a small graph is one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from graphopt.errors import IRError, ParseError
from graphopt.ir.equal import same_array
from graphopt.ir.graph import Graph
from graphopt.ir.text import INLINE_ELEMENTS, parse, print_graph

SUFFIX = ".go.txt"

# safetensors' numpy reader has no bfloat16, so the header is read here: eight bytes of length,
# JSON, then the arrays back to back. Source: the format's README, huggingface/safetensors.
_FORMAT: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}  # fmt: skip
_TAGS = {dtype: tag for tag, dtype in _FORMAT.items()}


def save(graph: Graph, path: Path) -> None:
    """Write `path` (ending in .go.txt) and, when there are large constants, the file beside it.

    Raises: IRError when two constants of one key differ.
    """
    large = {k: a for k, a in all_constants(graph).items() if a.size > INLINE_ELEMENTS}
    beside = weights_path(path)
    if large:
        write_safetensors(large, beside)
    else:
        beside.unlink(missing_ok=True)  # of an earlier model by that name
    path.write_text(print_graph(graph), encoding="utf-8")


def load(path: Path) -> Graph:
    """Read what `save` wrote; arrays are mapped from disk, not copied.

    Raises: IRError when a file is missing or corrupt; ParseError with the file's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise IRError(f"cannot read {path}: {error}", hint="check the path") from error
    beside = weights_path(path)
    constants = read_safetensors(beside) if beside.exists() else {}
    try:
        return parse(text, constants)
    except ParseError as error:
        missing = "" if beside.exists() else f"; {beside.name} is not beside it"
        raise ParseError(
            f"{error.message.partition(': ')[2]} in {path}{missing}",
            line=error.line, column=error.column, hint=error.hint,
        ) from error  # fmt: skip


def weights_path(path: Path) -> Path:
    """The safetensors file that belongs to a graph's text."""
    name = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
    return path.with_name(name + ".safetensors")


def all_constants(graph: Graph) -> dict[str, np.ndarray]:
    """Arrays of the graph and of all bodies; they share one name space of keys.

    Raises: IRError when two constants of one key differ.
    """
    out = dict(graph.constants)
    for node in graph.nodes:
        for key, array in (all_constants(node.body) if node.body is not None else {}).items():
            if not same_array(out.setdefault(key, array), array):
                raise IRError(f"two constants named {key!r} differ", hint="rename one of them")
    return out


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
