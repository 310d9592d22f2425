"""Accuracy, latency, memory and size of the compiled program and of eager PyTorch."""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import files as files_of
from pathlib import Path

import model as minilm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

ROUNDS = 40


@dataclass(frozen=True)
class Footprint:
    """Of a fresh process: first import to first result, and its peak of resident memory."""

    first_ms: float
    peak_bytes: int


@dataclass(frozen=True)
class Size:
    """Bytes on disk of what must be there to run."""

    weights: int
    code: int


def in_float64(eager: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(eager).double()(ids, mask)


def error(got: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest magnitude."""
    return float((got.double() - exact).abs().max() / exact.abs().max())


@torch.no_grad()
def latency_ms(runs: Sequence[Callable[..., Tensor]], *inputs: Tensor) -> list[float]:
    """The median of each, in turns, so that whatever else the machine does hits all alike."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, kept in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(*inputs)
            kept.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(kept) for kept in times]


def footprints(artifact: Path, ids: Tensor, mask: Tensor) -> list[Footprint]:
    """Of the compiled program, of eager."""
    inputs = artifact.parent / "inputs.safetensors"
    save_file({"input_ids": ids.clone(), "attention_mask": mask.clone()}, inputs)
    script = str(Path(__file__).with_name("footprint.py"))
    return [
        Footprint(**json.loads(_output([sys.executable, script, *arguments])))
        for arguments in (["compiled", str(inputs), str(artifact)], ["eager", str(inputs)])
    ]


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sizes(artifact: Path) -> list[Size]:
    """Of the compiled program; of eager, whose code is torch and transformers."""
    weights, code = (artifact / name for name in ("weights.bin", "model.so"))
    checkpoint = minilm.files() / "model.safetensors"
    packages = sum(map(_installed, ("torch", "transformers")))
    return [
        Size(weights.stat().st_size, code.stat().st_size),
        Size(checkpoint.stat().st_size, packages),
    ]


def _installed(distribution: str) -> int:
    paths = [Path(str(entry.locate())) for entry in files_of(distribution) or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())
