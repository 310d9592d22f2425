"""The engines of a race: how each prepares a model and how it runs what it prepared.

`prepare` runs in one process and leaves files; `open` runs in a fresh one, as a user's program
would, so that peak memory and loading are those of inference alone. Engines that keep nothing on
disk (eager, inductor) prepare when they open.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

Arrays = list[np.ndarray]
Run = Callable[[], Arrays]


class Engine(abc.ABC):
    """`package` is what must be installed for it."""

    name: ClassVar[str]
    package: ClassVar[str]

    def prepare(self, source: str, folder: Path) -> None:  # noqa: B027
        """Turn the model into files in `folder`; nothing where the engine keeps none."""

    @abc.abstractmethod
    def open(self, source: str, folder: Path, threads: int) -> Run:
        """Load it; the callable runs the example inputs once and returns the outputs in order."""


class Graphopt(Engine):
    name, package = "graphopt", "graphopt"

    def prepare(self, source: str, folder: Path) -> None:
        from graphopt.driver import build

        build(source, out=folder / "artifact")

    def open(self, source: str, folder: Path, threads: int) -> Run:
        from graphopt.artifact.loader import load

        model = load(folder / "artifact", threads)
        inputs = read_inputs(folder)
        return lambda: _as_list(model(*inputs))


class Eager(Engine):
    """torch as the model is written."""

    name, package = "eager", "torch"

    def open(self, source: str, folder: Path, threads: int) -> Run:
        model, inputs = _in_torch(source, threads)
        return _torch_run(model, inputs)


class Inductor(Engine):
    """torch.compile with weights frozen."""

    name, package = "inductor", "torch"
    options: ClassVar[Mapping[str, Any]] = {"freezing": True}

    def open(self, source: str, folder: Path, threads: int) -> Run:
        import torch
        import torch._inductor.config as settings

        model, inputs = _in_torch(source, threads)
        settings.freezing = True
        settings.max_autotune = bool(self.options.get("max_autotune"))
        return _torch_run(torch.compile(model), inputs)


class InductorAutotune(Inductor):
    """torch.compile with weights frozen and its kernels chosen by measurement."""

    name = "inductor-autotune"
    options: ClassVar[Mapping[str, Any]] = {"freezing": True, "max_autotune": True}


class OnnxRuntime(Engine):
    """All graph optimizations, threads that spin."""

    name, package = "onnxruntime", "onnxruntime"

    def prepare(self, source: str, folder: Path) -> None:
        import torch

        model, inputs = _in_torch(source, 1)
        path = str(folder / "model.onnx")
        try:
            program = torch.onnx.export(model, inputs, dynamo=True, verbose=False)
            assert program is not None
            program.save(path)
        except torch.onnx.errors.OnnxExporterError:  # the older exporter knows other operators
            torch.onnx.export(model, inputs, path, dynamo=False, opset_version=17)

    def open(self, source: str, folder: Path, threads: int) -> Run:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        names = [i.name for i in session.get_inputs()]
        feed = dict(zip(names, read_inputs(folder), strict=True))
        return lambda: list(session.run(None, feed))


class OpenVino(Engine):
    """The latency hint, in float32."""

    name, package = "openvino", "openvino"

    def prepare(self, source: str, folder: Path) -> None:
        import openvino
        import torch

        model, inputs = _in_torch(source, 1)
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
    _, inputs = _in_torch(source, 1)
    np.savez(folder / "inputs.npz", *(t.numpy() for t in inputs))


def read_inputs(folder: Path) -> Arrays:
    with np.load(folder / "inputs.npz") as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


def _in_torch(source: str, threads: int) -> tuple[Any, tuple[Any, ...]]:
    import torch
    from torch.export import ExportedProgram

    from graphopt.frontend.source import load_source
    from graphopt.frontend.torch_export import arguments

    torch.set_num_threads(threads)
    model, inputs = load_source(source)
    args, kwargs = arguments(inputs)
    module = model.module() if isinstance(model, ExportedProgram) else model
    return module, (*args, *kwargs.values())


def _torch_run(model: Any, inputs: tuple[Any, ...]) -> Run:
    import torch

    def run() -> Arrays:
        with torch.inference_mode():
            return _as_list(model(*inputs))

    return run


def _as_list(outputs: Any) -> Arrays:
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
