"""SOURCE strings of the command line: what names a model and its example inputs."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from graphopt.errors import FrontendError, GraphoptError
from graphopt.frontend.provenance import source_line

FORMS = "write file.py:function, package.module:function or model.pt2"
RETURNS = "return (model.eval(), (torch.randn(1, 3, 224, 224),)): the model and its example inputs"

Loaded = tuple[torch.nn.Module | ExportedProgram, Any]


def load_source(source: str) -> Loaded:
    """The model a SOURCE names, and example inputs for it (a tuple, or a dict by parameter name).

    source: `file.py:function` or `package.module:function`, where function() returns
    (nn.Module, example inputs); or `model.pt2`, written by torch.export.save.
    Raises: FrontendError.
    """
    if source.endswith(".pt2"):
        return load_program(Path(source))
    place, _, name = source.rpartition(":")
    if not place or not name:
        raise FrontendError(f"source {source!r} names no function", hint=FORMS)
    with _importable(place):
        module = _from_file(Path(place)) if place.endswith(".py") else _from_package(place)
        function = _function(module, place, name)
        try:
            result = function()
        except GraphoptError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise _raised(f"{name} in {place}", error) from error
    return _checked(result, f"{name} in {place}")


def load_program(path: Path) -> Loaded:
    """An exported program from a .pt2 file and the inputs it was exported with."""
    if not path.is_file():
        raise FrontendError(f"there is no file {path}", hint=_near_file(path))
    try:
        from graphopt.frontend.torch_export import quiet  # takes seconds

        with quiet():
            program = torch.export.load(path)
    except Exception as error:  # torch.export.load raises whatever its archive reader does
        raise FrontendError(
            f"{path} is not an exported program: {_first_line(error)}",
            hint="write it with torch.export.save(torch.export.export(model, inputs), path)",
        ) from error
    args, kwargs = program.example_inputs or ((), {})
    return program, kwargs if kwargs and not args else args


# Finding the function --------------------------------------------------------------------------


@contextmanager
def _importable(place: str) -> Iterator[None]:
    """The source's folder (for a package, the current one) leads the search path meanwhile."""
    folder = str(Path(place).resolve().parent if place.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FrontendError(f"there is no file {path}", hint=_near_file(path))
    name = f"graphopt_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FrontendError(f"{path} cannot be imported", hint=FORMS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise _raised(str(path), error) from error
    return module


def _from_package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise FrontendError(
                f"there is no module {error.name!r}",
                hint="install it, or give a path: file.py:function",
            ) from error
        raise _raised(name, error) from error
    except Exception as error:  # the user's code may raise anything
        raise _raised(name, error) from error


def _function(module: ModuleType, place: str, name: str) -> Callable[[], Any]:
    found = getattr(module, name, None)
    if callable(found) and not isinstance(found, torch.nn.Module):
        return found  # type: ignore[no-any-return]
    if found is not None:
        raise FrontendError(
            f"{name} in {place} is {_described(found)}, not a function",
            hint=f"wrap it: def build(): {RETURNS}",
        )
    own = [
        n
        for n, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    near = difflib.get_close_matches(name, own, 1)
    listed = f"choose one of {', '.join(sorted(own))}" if own else f"define {name}()"
    raise FrontendError(
        f"{place} has no function {name!r}", hint=f"did you mean {near[0]!r}?" if near else listed
    )


def _near_file(path: Path) -> str:
    folder = path.parent
    names = [p.name for p in folder.glob(f"*{path.suffix}")] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 1)
    return f"did you mean {folder / near[0]}?" if near else FORMS


# Judging what it returned ----------------------------------------------------------------------


def _checked(result: Any, where: str) -> Loaded:
    """Raises: FrontendError unless it is (nn.Module, example inputs)."""
    if isinstance(result, ExportedProgram):
        args, kwargs = result.example_inputs or ((), {})
        return result, kwargs if kwargs and not args else args
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise FrontendError(
            f"{where} returned {_described(result)}; expected (nn.Module, example inputs)",
            hint=RETURNS,
        )
    model, inputs = result
    if not isinstance(model, (torch.nn.Module, ExportedProgram)):
        raise FrontendError(
            f"{where} returned {_described(model)} as the model; expected an nn.Module",
            hint=RETURNS,
        )
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list, Mapping)):
        raise FrontendError(
            f"{where} returned {_described(inputs)} as example inputs; expected a tuple or a dict",
            hint=RETURNS,
        )
    _check_tensors(inputs, where)
    return model, inputs if isinstance(inputs, Mapping) else tuple(inputs)


def _check_tensors(inputs: Any, where: str) -> None:
    """Leaves are tensors; numbers and None are fixed at export. At least one tensor."""
    paths, _ = pytree.tree_flatten_with_path(inputs)
    for path, leaf in paths:
        if not isinstance(leaf, (torch.Tensor, int, float, bool, type(None))):
            raise FrontendError(
                f"example input {pytree.keystr(path)} of {where} is {_described(leaf)}, "
                "not a tensor",
                hint="make it a tensor: torch.from_numpy(array), torch.tensor(values)",
            )
    if not any(isinstance(leaf, torch.Tensor) for _, leaf in paths):
        raise FrontendError(f"the example inputs of {where} hold no tensor", hint=RETURNS)


def _described(value: Any) -> str:
    """What came back, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(type(v).__name__ for v in value[:4]) + (
            ", ..." if len(value) > 4 else ""
        )
        return f"a {type(value).__name__} of {len(value)} ({inside})"
    return f"a {type(value).__name__}"


def _raised(where: str, error: Exception) -> FrontendError:
    """The error of the user's code, with the line of it that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and "importlib" not in f.filename]
    line = source_line("\n".join(f'File "{f.filename}", line {f.lineno}' for f in own))
    if isinstance(error, SyntaxError) and error.filename:
        line = f"{Path(error.filename).name}:{error.lineno}"
    return FrontendError(
        f"{where} raised {type(error).__name__}: {_first_line(error)}",
        hint=f"mend {line}" if line else "run it by itself",
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "no message"
