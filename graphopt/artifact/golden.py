"""Golden inputs and outputs: example inputs, and what the original model made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphopt.artifact.format import GOLDEN, RECOMPILE, Manifest, Tensor
from graphopt.errors import ArtifactError, IRError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Golden:
    """Arrays by port name; both empty for a model compiled from IR text."""

    inputs: Arrays = field(default_factory=dict)
    outputs: Arrays = field(default_factory=dict)


def write_golden(golden: Golden, folder: Path) -> list[Path]:
    """The files written: one, or none when there is nothing to keep."""
    from graphopt.tensorfile import write_safetensors

    tensors = {
        f"{side}.{name}": array
        for side, arrays in (("input", golden.inputs), ("output", golden.outputs))
        for name, array in arrays.items()
    }
    if not tensors:
        return []
    write_safetensors(tensors, folder / GOLDEN)
    return [folder / GOLDEN]


def read_golden(folder: Path, manifest: Manifest) -> Golden:
    """Empty when the artifact has none. Raises: ArtifactError when the file is damaged."""
    if GOLDEN not in manifest.files:
        return Golden()
    from graphopt.tensorfile import read_safetensors

    try:
        tensors = read_safetensors(folder / GOLDEN)
    except IRError as error:
        raise ArtifactError(error.message, hint=RECOMPILE) from error

    def side(name: str, ports: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
        keys = {t.name: f"{name}.{t.name}" for t in ports}
        # a mapped file is read only; state is written to
        return {p: tensors[k].copy() for p, k in keys.items() if k in tensors}

    return Golden(side("input", manifest.inputs), side("output", manifest.outputs))


def sample_inputs(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Something to run: the golden inputs, zeros for those that it lacks."""
    golden = read_golden(folder, manifest).inputs
    return {t.name: golden.get(t.name, _zeros(t)) for t in manifest.inputs}


def _zeros(tensor: Tensor) -> np.ndarray:
    from graphopt.artifact.loader import numpy_dtype

    return np.zeros(tensor.shape, numpy_dtype(tensor.dtype))
