"""What takes part: each opens a case and becomes a function that runs it once. And a race of them,
in the process that holds the GPU."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bench.gpu import clock
from bench.gpu.cases import CUTLASS, TUNED, Case
from bench.gpu.limits import Limits
from bench.gpu.process import first_line
from bench.gpu.steps import AUTOTUNE, OWN
from graphopt.artifact.loader import Model, load
from graphopt.artifact.timing import time_calls
from graphopt.artifact.verify import compare_golden
from graphopt.frontend.source import load_source

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
TORCH = {"eager": "", "compile": "default", AUTOTUNE: "max-autotune"}
"""Engine: the mode of torch.compile; "" for none."""

ENGINES = (OWN, *TORCH, CUTLASS, TUNED)

_ROUNDS, _LAP_S = 5, 0.1


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


def measure_step(
    case: Case, engines: Sequence[str], folder: Path, limits: Limits
) -> dict[str, dict[str, Any]]:
    """A race of engines, as plain values: `engines`, `failures`, and of graphopt `kernels` and
    `launches`. One that raises is out, and the others go on."""
    opened: dict[str, Opened] = {}
    failures: dict[str, str] = {}
    for engine in engines:
        try:
            opened[engine] = open_engine(engine, case, folder)
        except Exception as error:  # an engine may raise anything
            failures[engine] = first_line(error)
    times = _race(opened, failures)
    mine = opened.get(OWN) if OWN in times else None
    rival = {"rival_s": statistics.median(times[OWN])} if mine else {}
    kernels = []
    try:
        kernels = _kernels(mine, case, limits) if mine else []
    except Exception as error:  # a profile is not worth the race
        failures["kernels"] = first_line(error)
    out = {
        "engines": {name: _facts(opened[name], took) | rival for name, took in times.items()},
        "failures": failures,
        "kernels": kernels,
        "launches": mine.model.manifest.extra["launches"] if mine and mine.model else {},
    }
    for engine in opened.values():
        if engine.model:
            engine.model.close()
    opened.clear()
    gc.collect()
    if clock.on_gpu():
        torch.cuda.empty_cache()
    return out


def _race(opened: dict[str, Opened], failures: dict[str, str]) -> dict[str, list[float]]:
    """Medians by engine, one for each round, in which the engines take turns."""
    times: dict[str, list[float]] = {name: [] for name in opened}
    for i in range(_ROUNDS):
        names = list(times)
        turn = i % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            try:
                times[name].append(statistics.median(clock.lap(opened[name].run, _LAP_S)))
            except Exception as error:  # what opened may still fail
                failures[name] = first_line(error)
                del times[name]
    return times


def _facts(opened: Opened, times: list[float]) -> dict[str, Any]:
    return {
        "median_s": statistics.median(times),
        "rounds_s": times,
        "cold_start_s": opened.ready_s,
        "device_bytes": opened.bytes,
        "relative_error": opened.error,
    }


def _kernels(opened: Opened, case: Case, limits: Limits) -> list[dict[str, Any]]:
    """Each call beside its floor under the measured limits."""
    assert opened.model is not None
    calls = opened.model.manifest.calls
    arrays = {name: t.cpu().numpy() for name, t in opened.inputs.items()}
    took = time_calls(opened.model, arrays, runs=11)
    return [
        {
            "call": i,
            "computes": call.name,
            "kernel": call.kernel,
            "seconds": ns / 1e9,
            "floor_s": limits.floor_s(call.flops, call.bytes_moved, case.precision),
            "flops": call.flops,
            "bytes": call.bytes_moved,
        }
        for i, (call, ns) in enumerate(zip(calls, took, strict=True))
    ]


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
    if mode:  # after eight models of one class it would run eagerly, and say nothing
        torch._dynamo.reset()
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
