"""Arrays between files and models."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.artifact.format import Tensor
from graphopt.artifact.loader import numpy_dtype
from graphopt.errors import GraphoptError, InputError


def read_inputs(given: Iterable[str], ports: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Arrays by input name, from `x.npy` (in order), `x=a.npy`, or an .npz of all.

    Raises: InputError for a file that is none, and for names that are not the model's.
    """
    names = [t.name for t in ports]
    arrays: dict[str, np.ndarray] = {}
    for text in given:
        name, _, path = text.rpartition("=")
        loaded = _read(Path(path))
        if isinstance(loaded, dict):
            arrays.update(loaded)
            continue
        free = [n for n in names if n not in arrays]
        if not name and not free:
            raise InputError(
                f"the model takes {len(names)} inputs, given more: {text}",
                hint=f"it takes {_listed(ports)}",
            )
        arrays[name or free[0]] = loaded
    missing = [n for n in names if n not in arrays]
    unknown = [n for n in arrays if n not in names]
    if missing or unknown:
        problem = f"no input {unknown[0]!r}" if unknown else f"input {missing[0]!r} is missing"
        raise InputError(f"{problem}; the model takes {_listed(ports)}", hint=_example(ports))
    return {t.name: _typed(arrays[t.name], t) for t in ports}


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """An .npz file; bfloat16 becomes float32, which numpy's format knows. Raises: GraphoptError."""
    known = {n: a if a.dtype.isbuiltin else a.astype(np.float32) for n, a in arrays.items()}
    try:
        with path.open("wb") as file:
            np.savez(file, **known)  # type: ignore[arg-type]
    except OSError as error:
        raise GraphoptError(
            f"{path} cannot be written: {error.strerror}", hint="choose another file with --output"
        ) from error


def _read(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return dict(loaded.items())
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint="check the path") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is no .npy or .npz file of plain numbers",
            hint="write it with numpy.save(path, array)",
        ) from error


def _typed(array: np.ndarray, port: Tensor) -> np.ndarray:
    """bfloat16 has no name in a .npy file: it may come as two raw bytes, or as float32."""
    wanted = numpy_dtype(port.dtype)
    if port.dtype != "bf16":
        return array
    return array.view(wanted) if array.dtype == np.dtype("V2") else array.astype(wanted)


def _listed(ports: Sequence[Tensor]) -> str:
    return ", ".join(f"{t.name}: {t}" for t in ports) or "none"


def _example(ports: Sequence[Tensor]) -> str:
    return "give " + " ".join(f"--input {t.name}={t.name}.npy" for t in ports)
