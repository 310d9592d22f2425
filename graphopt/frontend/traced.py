"""A model as the compiler takes it: its graph, and the eager module to hold the result against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from graphopt.errors import FrontendError
from graphopt.frontend.digest import program_digest
from graphopt.frontend.dtypes import as_numpy
from graphopt.frontend.example_inputs import ExampleInputs, arguments
from graphopt.frontend.source import load_source
from graphopt.frontend.torch_export import export, import_exported, refuse_training
from graphopt.frontend.widen import exact_outputs
from graphopt.ir.graph import Graph

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Exported:
    """A model as torch.export wrote it down: `program` has all that is compiled."""

    program: ExportedProgram
    model: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def imported(self) -> Traced:
        """Raises: UnsupportedError, FrontendError; `import_exported` says when."""
        return Traced(import_exported(self.program), self.model, self.args, self.kwargs)

    def digest(self) -> str:
        """Of all that is compiled: operations, weights, types of inputs, names, source lines."""
        return program_digest(self.program)


@dataclass(frozen=True)
class Traced:
    """`graph` is what `model(*args, **kwargs)` computes for arguments of these shapes."""

    graph: Graph
    model: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def inputs(self) -> Arrays:
        """The example inputs by the graph's input names."""
        leaves = [t for t in pytree.tree_leaves((self.args, dict(self.kwargs))) if _is_tensor(t)]
        names = [v.name for v in self.graph.inputs]
        return {n: as_numpy(t) for n, t in zip(names, leaves, strict=True)}

    def golden(self) -> tuple[Arrays, Arrays]:
        """The example inputs, and the eager model's outputs for them, by port name."""
        with torch.no_grad():
            return self.inputs(), self._named(self.model(*self.args, **self.kwargs))

    def exact(self) -> Arrays:
        """The eager model's outputs with all its floating-point arithmetic in float64."""
        return self._named(exact_outputs(self.model, self.args, self.kwargs))

    def _named(self, outputs: Any) -> Arrays:
        names = self.graph.output_names or tuple(
            f"output{i}" for i in range(len(self.graph.outputs))
        )
        return {n: as_numpy(t) for n, t in zip(names, _tensors(outputs), strict=True)}


def trace_model(source: Any, example_inputs: ExampleInputs | None = None) -> Traced:
    """Trace a model.

    source: an `nn.Module` with example inputs; an exported program; or a SOURCE string.
    Raises: FrontendError, UnsupportedError.
    """
    return export_model(source, example_inputs).imported()


def export_model(source: Any, example_inputs: ExampleInputs | None = None) -> Exported:
    """The half of `trace_model` that is torch's. Raises: FrontendError."""
    if isinstance(source, str):
        source, example_inputs = load_source(source)
    if isinstance(source, ExportedProgram):
        return _of_program(source, example_inputs)
    if not isinstance(source, torch.nn.Module):
        raise FrontendError(
            f"the model is {type(source).__name__}, not an nn.Module",
            hint="pass an nn.Module, an exported program, or a string such as file.py:function",
        )
    if example_inputs is None:
        raise FrontendError(
            "a module needs example inputs", hint="pass a tuple of tensors of the shapes you run"
        )
    refuse_training(source)
    args, kwargs = arguments(example_inputs)
    return Exported(export(source, example_inputs), source, args, kwargs)


def _of_program(program: ExportedProgram, example_inputs: ExampleInputs | None) -> Exported:
    if example_inputs is None:
        args, kwargs = program.example_inputs or ((), {})
    else:
        args, kwargs = arguments(example_inputs)
    return Exported(program, program.module(), tuple(args), kwargs)


def _tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """Tensors of an output tree; numbers as tensors, None left out."""
    for leaf in pytree.tree_leaves(outputs):
        if leaf is not None:
            yield leaf if _is_tensor(leaf) else torch.as_tensor(leaf)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor)
