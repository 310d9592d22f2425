"""A model on disk: `NAME.go.txt`, the graph's text, and `NAME.safetensors`, its arrays.

The text itself holds constants of up to INLINE_ELEMENTS elements: a small graph is one file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphopt.errors import IRError, ParseError
from graphopt.ir.equal import same_array
from graphopt.ir.graph import Graph
from graphopt.ir.text import INLINE_ELEMENTS, parse, print_graph
from graphopt.tensorfile import read_safetensors, write_safetensors

SUFFIX = ".go.txt"


def save(graph: Graph, path: Path) -> None:
    """Write `path` (ending in .go.txt) and, when there are large constants, the file beside it.

    Raises: IRError when two constants of one key differ.
    """
    large = {k: a for k, a in all_constants(graph).items() if a.size > INLINE_ELEMENTS}
    beside = weights_path(path)
    if large:
        write_safetensors(large, beside)
    else:
        beside.unlink(missing_ok=True)  # of an earlier model by that name
    path.write_text(print_graph(graph), encoding="utf-8")


def load(path: Path) -> Graph:
    """Read what `save` wrote; arrays are mapped from disk, not copied.

    Raises: IRError when a file is missing or corrupt; ParseError with the file's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise IRError(f"cannot read {path}: {reason}", hint="check the path") from error
    beside = weights_path(path)
    constants = read_safetensors(beside) if beside.exists() else {}
    try:
        return parse(text, constants)
    except ParseError as error:
        lacking = "has no data" in error.message and not beside.exists()
        missing = f"; {beside.name} is not beside it" if lacking else ""
        raise ParseError(
            f"{error.message.partition(': ')[2]} in {path}{missing}",
            line=error.line, column=error.column, hint=error.hint,
        ) from error  # fmt: skip


def weights_path(path: Path) -> Path:
    """The safetensors file that belongs to a graph's text."""
    name = path.name.removesuffix(SUFFIX) if path.name.endswith(SUFFIX) else path.stem
    return path.with_name(name + ".safetensors")


def all_constants(graph: Graph) -> dict[str, np.ndarray]:
    """Arrays of the graph and of all bodies; they share one name space of keys.

    Raises: IRError when two constants of one key differ.
    """
    out = dict(graph.constants)
    for node in graph.nodes:
        for key, array in (all_constants(node.body) if node.body is not None else {}).items():
            if not same_array(out.setdefault(key, array), array):
                raise IRError(f"two constants named {key!r} differ", hint="rename one of them")
    return out
