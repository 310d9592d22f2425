"""From torch: trace a module with torch.export, import the ATen graph it gives."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.export import ExportedProgram, _trace
from torch.nn.modules import transformer

from graphopt.errors import FrontendError, GraphoptError
from graphopt.frontend.decompositions import decompose
from graphopt.frontend.example_inputs import ExampleInputs, arguments
from graphopt.frontend.importer import Importer
from graphopt.frontend.provenance import source_line
from graphopt.frontend.recorded import DATA_HINT
from graphopt.ir.graph import Graph


def trace(model: torch.nn.Module, example_inputs: ExampleInputs) -> Graph:
    """Graph of a module, for the shapes of the example inputs.

    example_inputs: positional (a tuple, or one tensor) or by keyword (a dict).
    Raises: FrontendError when torch cannot export it; UnsupportedError naming every operator that
    graphopt lacks.
    """
    refuse_training(model)
    return import_exported(export(model, example_inputs))


def export(model: torch.nn.Module, example_inputs: ExampleInputs) -> ExportedProgram:
    """torch.export without its noise. Raises: FrontendError when it fails."""
    args, kwargs = arguments(example_inputs)
    with quiet(), _masks_as_they_are():
        try:
            return torch.export.export(model, args, kwargs, strict=False)
        except GraphoptError:
            raise
        except Exception as error:  # whatever the model or torch raises while the model runs
            raise _export_error(error) from error


def import_exported(program: ExportedProgram) -> Graph:
    """Graph of an exported program (also one that torch.export.load gave).

    Parameters become constants that share torch's memory.
    Raises: UnsupportedError naming every operator that graphopt lacks; FrontendError for shapes
    that are dynamic or depend on data.
    """
    with quiet():
        try:
            decomposed = decompose(program)
        except Exception as error:  # whatever torch's decompositions raise
            first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
            raise FrontendError(
                f"torch cannot decompose the exported model: {type(error).__name__}: {first}",
                hint="leave torch.func and torch.autograd out of forward()",
            ) from error
        return Importer(decomposed).run()


@contextmanager
def quiet() -> Iterator[None]:
    """torch's warnings, log lines and prints about a failure left out: the error says it once."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # It prints the graph so far to stderr. Redirecting stderr would take progress bars along.
    vars(_trace)["print"] = lambda *texts, **settings: None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        vars(_trace).pop("print", None)
        logging.disable(disabled)


@contextmanager
def _masks_as_they_are() -> Iterator[None]:
    """nn.Transformer looks whether a mask happens to be causal, for speed: control flow that
    depends on values. The mask means the same unasked."""
    asked = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = asked


def refuse_training(model: torch.nn.Module) -> None:
    """Raises: FrontendError when a module would behave as in training."""
    for name, module in model.named_modules():
        if module.training and _differs_in_training(module):
            raise FrontendError(
                f"module {name or 'model'} ({type(module).__name__}) is in training mode",
                hint="call model.eval() first",
            )


def _differs_in_training(module: torch.nn.Module) -> bool:
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        return True
    rate = getattr(module, "p", 0) if "Dropout" in type(module).__name__ else 0
    if isinstance(module, (torch.nn.MultiheadAttention, torch.nn.RNNBase)):
        rate = module.dropout
    return isinstance(rate, float) and rate > 0


_UNKNOWN_OUTPUT = re.compile(r"Found <class '(?:[\w<>]+\.)*(\w+)'> in output")
_DATA_DEPENDENT = ("GuardOnDataDependent", "DataDependent", "DynamicOutputShape", "UserError")


def _export_error(error: Exception) -> FrontendError:
    """What went wrong in the model's terms, with its line."""
    text = str(error)
    line = _raised_at(error)
    where = f" at {line}" if line else ""
    kinds = [type(e).__name__ for e in _chain(error)]
    if any(k.startswith(_DATA_DEPENDENT) for k in kinds) or "data-dependent" in text.lower():
        return FrontendError(
            f"control flow or a shape depends on tensor values{where}", hint=DATA_HINT
        )
    unknown = _UNKNOWN_OUTPUT.search(text)
    if unknown:
        return FrontendError(
            f"the model returns a {unknown[1]}, which torch.export cannot take apart",
            hint="return tensors; decoders of transformers do with model.config.use_cache = False",
        )
    first = text.strip().splitlines()[0] if text.strip() else "no message"
    return FrontendError(
        f"torch.export failed{where}: {type(error).__name__}: {first}",
        hint="check that model(*example_inputs) runs",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raised_at(error: Exception) -> str:
    """The innermost line of the model's own code on the way to the error."""
    import traceback

    innermost = list(_chain(error))[-1]
    frames = traceback.extract_tb(innermost.__traceback__) or traceback.extract_tb(
        error.__traceback__
    )
    lines = "\n".join(f'File "{f.filename}", line {f.lineno}' for f in frames)
    line = source_line(lines)
    return "" if line.startswith(("torch_export.py", "_ops.py")) else line
