"""What takes part: each opens a case and becomes a function that runs it once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bench.gpu import clock
from bench.gpu.cases import CUTLASS, TUNED, Case
from graphopt.artifact.loader import Model, load
from graphopt.artifact.verify import compare_golden
from graphopt.frontend.source import load_source

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
TORCH = {"eager": "", "compile": "default", "max-autotune": "max-autotune"}
"""Engine: the mode of torch.compile; "" for none."""

ENGINES = ("graphopt", *TORCH, CUTLASS, TUNED)


@dataclass
class Opened:
    """An engine that is ready to run a case. `ready_s`: from nothing to the end of the first run;
    `bytes`: of device memory; `error`: of results, relative to eager's in f32 on the CPU."""

    run: Callable[[], Any]
    ready_s: float
    bytes: int
    error: float | None = None
    model: Model | None = None
    inputs: Any = None


def open_engine(engine: str, case: Case, folder: Path) -> Opened:
    """Raises whatever the engine raises."""
    if engine in case.folders:
        return _graphopt(folder / case.folders[engine])
    return _torch(case, TORCH[engine])


def _graphopt(folder: Path) -> Opened:
    from graphopt.artifact.golden import sample_inputs

    clock.wait()
    before, start = _used(), time.perf_counter()
    model = load(folder)
    arrays = sample_inputs(folder, model.manifest)
    tensors = {name: torch.from_numpy(a).to(_device()) for name, a in arrays.items()}
    model.run(tensors)
    clock.wait()
    ready_s = time.perf_counter() - start
    after = _used()
    errors = [d.relative if d.agrees else float("inf") for d in compare_golden(model)]
    return Opened(
        lambda: model.run(tensors), ready_s, after - before, max(errors, default=None), model,
        tensors,
    )  # fmt: skip


def _torch(case: Case, mode: str) -> Opened:
    torch.backends.cuda.matmul.allow_tf32 = case.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
    module, tensors = _on_device(case)
    weights = sum(t.nbytes for t in module.state_dict().values())
    before, start = _used(), time.perf_counter()
    function = torch.compile(module, mode=mode) if mode else module

    def run() -> Any:
        with torch.inference_mode():
            return function(*tensors)

    run()
    clock.wait()
    return Opened(run, time.perf_counter() - start, weights + _used() - before)


@lru_cache(maxsize=1)
def _on_device(case: Case) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """Weights and inputs in the precision, images channels last: as one would for speed. Made once
    for all engines of a case."""
    module, inputs = load_source(case.source)
    dtype = _DTYPES.get(case.precision, torch.float32)
    module = module.to(_device(), dtype)
    tensors = [x.to(_device(), dtype if x.is_floating_point() else x.dtype) for x in inputs]
    if case.is_image:
        module = module.to(memory_format=torch.channels_last)
        tensors = [x.to(memory_format=torch.channels_last) for x in tensors]
    return module, tensors


def _device() -> str:
    return "cuda" if clock.on_gpu() else "cpu"


def _used() -> int:
    """Bytes of the device that somebody has."""
    if not clock.on_gpu():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free
