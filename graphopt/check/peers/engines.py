"""The engines of a race: how each prepares a model and how it runs what it prepared.

`prepare` runs in one process and leaves files; `open` runs in a fresh one, as a user's program
would, so that peak memory and loading are those of inference alone. Engines that keep nothing on
disk (eager, inductor) prepare when they open.
"""

from __future__ import annotations

import abc
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

Arrays = list[np.ndarray]
Run = Callable[[], Arrays]

OURS, ARTIFACT = "graphopt", "artifact"
"""Our engine, and the folder of what it runs among the files of a race."""


class Engine(abc.ABC):
    """`packages` are what must be installed for it."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def missing(self) -> list[str]:
        """Its packages that are not installed."""
        return [p for p in self.packages if importlib.util.find_spec(p) is None]

    def prepare(self, source: str, folder: Path) -> None:  # noqa: B027
        """Turn the model into files in `folder`; nothing where the engine keeps none."""

    @abc.abstractmethod
    def open(self, source: str, folder: Path, threads: int) -> Run:
        """Load it; the callable runs the example inputs once and returns the outputs in order."""


class Graphopt(Engine):
    """The artifact that lies in the folder, or else one compiled for this machine."""

    name = OURS

    def prepare(self, source: str, folder: Path) -> None:
        from graphopt.driver import build

        if not (folder / ARTIFACT).is_dir():
            build(source, out=folder / ARTIFACT)

    def open(self, source: str, folder: Path, threads: int) -> Run:
        from graphopt.artifact.loader import load

        model = load(folder / ARTIFACT, threads)
        inputs = read_inputs(folder)
        return lambda: _as_list(model(*inputs))


class Eager(Engine):
    """torch as the model is written."""

    name = "eager"

    def open(self, source: str, folder: Path, threads: int) -> Run:
        return _torch_run(*in_torch(source, threads))


class Inductor(Engine):
    """torch.compile with weights frozen."""

    name = "inductor"
    options: ClassVar[Mapping[str, Any]] = {"freezing": True}

    def open(self, source: str, folder: Path, threads: int) -> Run:
        import torch
        import torch._inductor.config as settings

        model, inputs = in_torch(source, threads)
        settings.freezing = True
        settings.max_autotune = bool(self.options.get("max_autotune"))
        return _torch_run(torch.compile(model), inputs)


class InductorAutotune(Inductor):
    """torch.compile with weights frozen and its kernels chosen by measurement."""

    name = "inductor-autotune"
    options: ClassVar[Mapping[str, Any]] = {"freezing": True, "max_autotune": True}


class OnnxRuntime(Engine):
    """All graph optimizations, threads that spin. Of torch's two exporters, which give it different
    operators to work on, that whose model is faster."""

    name = "onnxruntime"
    packages = ("torch", "onnxruntime", "onnx", "onnxscript")

    def prepare(self, source: str, folder: Path) -> None:
        model, inputs = in_torch(source, 1)
        paths: list[Path] = []
        refusals: list[Exception] = []
        for export in (_export_dynamo, _export_traced):
            path = folder / f"{export.__name__}.onnx"
            try:
                export(model, inputs, path)
            except Exception as error:  # each knows operators that the other does not
                refusals.append(error)
            else:
                paths.append(path)
        if not paths:
            raise refusals[0]
        sessions = {path: self._session(path, folder, 1) for path in paths}
        paths.sort(key=lambda path: _fastest(sessions[path]))
        paths[0].replace(folder / "model.onnx")
        for path in paths[1:]:
            path.unlink()

    def open(self, source: str, folder: Path, threads: int) -> Run:
        return self._session(folder / "model.onnx", folder, threads)

    def _session(self, path: Path, folder: Path, threads: int) -> Run:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        feed = dict(zip(names, read_inputs(folder), strict=True))
        return lambda: list(session.run(None, feed))


def _export_dynamo(model: Any, inputs: tuple[Any, ...], path: Path) -> None:
    import torch

    program = torch.onnx.export(model, inputs, dynamo=True, verbose=False)
    assert program is not None
    program.save(str(path))


def _export_traced(model: Any, inputs: tuple[Any, ...], path: Path) -> None:
    import torch

    torch.onnx.export(model, inputs, str(path), dynamo=False, opset_version=17)


def _fastest(run: Run) -> float:
    """Seconds, of a few runs."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


class OpenVino(Engine):
    """The latency hint, in float32."""

    name = "openvino"
    packages = ("torch", "openvino")

    def prepare(self, source: str, folder: Path) -> None:
        import openvino
        import torch

        model, inputs = in_torch(source, 1)
        with torch.no_grad():
            converted = openvino.convert_model(torch.export.export(model, inputs))
        openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)

    def open(self, source: str, folder: Path, threads: int) -> Run:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", settings)
        inputs = read_inputs(folder)
        request = compiled.create_infer_request()

        def run() -> Arrays:
            results = request.infer(inputs, share_inputs=True, share_outputs=True)
            return [results[o] for o in compiled.outputs]

        return run


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        e.name: e
        for e in (Graphopt(), Eager(), Inductor(), InductorAutotune(), OnnxRuntime(), OpenVino())
    }
)


# Inputs ------------------------------------------------------------------------------------------


def write_inputs(source: str, folder: Path) -> None:
    """The source's example inputs, for every engine."""
    _, inputs = in_torch(source, 1)
    np.savez(folder / "inputs.npz", *(t.numpy() for t in inputs))


def read_inputs(folder: Path) -> Arrays:
    with np.load(folder / "inputs.npz") as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


def in_torch(source: str, threads: int) -> tuple[Any, tuple[Any, ...]]:
    """(a module, its example inputs as tensors by position)."""
    import torch
    from torch.export import ExportedProgram
    from torch.utils import _pytree as pytree

    from graphopt.check.peers.positional import Positional
    from graphopt.frontend.example_inputs import arguments
    from graphopt.frontend.source import load_source

    torch.set_num_threads(threads)
    model, inputs = load_source(source)
    args, kwargs = arguments(inputs)
    module = model.module() if isinstance(model, ExportedProgram) else model
    if not kwargs and all(isinstance(a, torch.Tensor) for a in args):
        return module, args
    leaves = pytree.tree_leaves((args, kwargs))
    return Positional(module, args, kwargs), tuple(t for t in leaves if isinstance(t, torch.Tensor))


def _torch_run(model: Any, inputs: tuple[Any, ...]) -> Run:
    import torch
    from torch.utils import _pytree as pytree

    def run() -> Arrays:
        with torch.inference_mode():
            return [t for t in pytree.tree_leaves(model(*inputs)) if t is not None]

    return run


def _as_list(outputs: Any) -> Arrays:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]
