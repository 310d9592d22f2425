"""A full check of an artifact: every byte, and the results on the golden inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.artifact.format import Manifest, read_manifest
from graphopt.artifact.golden import read_golden
from graphopt.artifact.hashing import check_file
from graphopt.artifact.loader import Model, load

_MASKED = 1e30
"""Attention masks are the smallest numbers of their type: no measure of the others."""


@dataclass(frozen=True)
class Difference:
    """One array against what it should be: the largest absolute error, and that divided by the
    largest expected magnitude; `agrees` is False where one is NaN or infinite and the other not."""

    output: str
    absolute: float
    relative: float
    agrees: bool


def check_files(folder: str | Path) -> Manifest:
    """Read and hash every file, whatever was found whole before.

    Raises: ArtifactError for the first that is missing or damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, expected in sorted(manifest.files.items()):
        check_file(folder / name, expected, trust_records=False)
    return manifest


def verify(folder: str | Path, threads: int = 1) -> list[Difference]:
    """Every byte, then the golden inputs; no entries when the artifact has none.

    Raises: ArtifactError.
    """
    check_files(folder)
    with load(folder, threads) as model:
        return compare_golden(model)


def compare_golden(model: Model) -> list[Difference]:
    """Run the golden inputs and compare each output."""
    golden = read_golden(model.folder, model.manifest)
    if not golden.outputs:
        return []
    results = model.fetched(model.run(model.placed(golden.inputs)))
    return [difference(n, results[n], expected) for n, expected in golden.outputs.items()]


def difference(name: str, got: np.ndarray, expected: np.ndarray) -> Difference:
    """How far `got` is off. `expected` is rounded to its type first: what overflows there may."""
    with np.errstate(over="ignore"):
        rounded = expected.astype(got.dtype)
    a, b = got.astype(np.float64), rounded.astype(np.float64)
    finite = np.isfinite(b)
    agrees = bool(np.array_equal(a[~finite], b[~finite], equal_nan=True) and
                  np.isfinite(a[finite]).all())  # fmt: skip
    if not finite.any():
        return Difference(name, 0.0, 0.0, agrees)
    a, b = a[finite], b[finite]
    error, size = np.abs(a - b), np.abs(b)
    scale = float(size[size < _MASKED].max(initial=0.0))
    relative = error / np.maximum(size, scale) if scale else error
    return Difference(name, float(error.max()), float(relative.max()), agrees)
