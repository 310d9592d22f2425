"""Where CUTLASS's headers are: in the wheel `nvidia-cutlass`, which is needed to compile a model
that uses them, and not to run it."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

from graphopt.errors import BuildError

_PACKAGE = "cutlass_library"
_VERSION = re.compile(r"#define CUTLASS_(?:MAJOR|MINOR|PATCH) (\d+)")


def template_headers() -> Path:
    """The folder to include from. Raises: BuildError when the wheel is not installed."""
    spec = util.find_spec(_PACKAGE)  # which does not import it: that takes a second
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "source" / "include"
        if (folder / "cutlass" / "version.h").is_file():
            return folder
    raise BuildError(
        "the model has kernels by CUTLASS, and its headers are not installed",
        hint="run `pip install 'graphopt[cutlass]'`, or leave cutlass out of --vendor",
    )


def include_flags(folder: Path) -> tuple[str, ...]:
    """For a compiler. Strides of convolutions are in the folder of CUTLASS's tools."""
    tools = folder.parent / "tools" / "util" / "include"
    return ("-isystem", str(folder), "-isystem", str(tools))


def template_version(folder: Path) -> str:
    """Of the headers in a folder: "4.2.0"."""
    text = (folder / "cutlass" / "version.h").read_text(encoding="utf-8")
    return ".".join(_VERSION.findall(text))
