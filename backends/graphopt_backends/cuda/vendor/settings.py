"""What --precision and --vendor ask of the passes of a level."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import UnsupportedError
from graphopt_backends.cuda.vendor.match import ATTENTION, CUTLASS, LIBRARY

_AUTO = tuple(dict.fromkeys(LIBRARY.values()))
"""CUTLASS and cuDNN's attention are called where they are asked for: nobody has measured them."""
LIBRARIES = (*_AUTO, ATTENTION, CUTLASS)

_HALF = {"fp16": "f16", "bf16": "bf16"}
_VECTOR = {"fp16": 8, "bf16": 8, "tf32": 4}
"""Channels of 16 bytes, without which a library uses no tensor cores."""

_FOR_CPUS = frozenset(
    {
        "choose-winograd",
        "choose-strassen",
        "linear-to-conv",
        "split-frames",
        "space-to-depth",
        "split-taps",
        "decompose-group-norm",
        "fuse-strips",
    }
)
"""Passes that count what things cost on a CPU."""

_VECTOR_BYTES = 16
"""What a joined part begins at a multiple of: elsewhere it would be read one by one."""

_BLOCKS = {"decompose-grouped-matmul": "{most=64,overhead=32}"}
"""A multiprocessor's smallest tile has 32 rows, and takes as long with one of them."""

_BY_THEMSELVES = "{share-border=false}"
"""A library takes no slice of an image: every phase gets a border of its own."""

_AS_THEY_LIE = "{packs-right=false}"
"""Computed factors are read as they lie."""

_BEFORE = {"sink-reshapes": "merge-parallel-products"}
"""Products that read one input become one launch: bert_base has 103 in place of 127. Before
reshapes sink, so that attention reads the slices where they lie."""


def adjusted(passes: Sequence[str], precision: str, vendor: str) -> tuple[str, ...]:
    """Raises: UnsupportedError for a library that there is none of."""
    options = {
        "choose-libraries": _libraries(precision, vendor),
        "join-concats": f"{{align-bytes={_VECTOR_BYTES}}}",
        "assign-layouts": _AS_THEY_LIE,
        **_BLOCKS,
    }
    if vendor != "none" and precision in _VECTOR:
        options["decompose-conv-transpose"] = _BY_THEMSELVES
        options["pad-channels"] = f"{{multiple={_VECTOR[precision]}}}"
    if precision in _HALF:
        options["cast-precision"] = f"{{to={_HALF[precision]}}}"
    out: list[str] = []
    for name in passes:
        out += [_BEFORE[name]] if name in _BEFORE else []
        out += [] if name in _FOR_CPUS else [name + options.get(name, "")]
    return tuple(out)


def _libraries(precision: str, vendor: str) -> str:
    if vendor == "none":
        return ""
    names = _AUTO if vendor == "auto" else tuple(vendor.split(","))
    unknown = [n for n in names if n not in LIBRARIES]
    if unknown:
        raise UnsupportedError(
            f"there is no library {unknown[0]!r} to call",
            hint=f"--vendor takes auto, none, or some of {','.join(LIBRARIES)}",
        )
    fields = [f"use=[{','.join(names)}]"]
    fields += ["always=true"] if vendor != "auto" else []
    fields += ["tf32=true"] if precision == "tf32" else []
    return f"{{{','.join(fields)}}}"
