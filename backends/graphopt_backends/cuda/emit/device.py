"""The headers that emitted kernels include."""

from __future__ import annotations

from importlib import resources

_FOLDERS = {"go_kernel.h": "device", "go_emulate.h": "device", "go_half.h": "runtime"}

TEMPLATES = "go_cutlass.h"
"""A file that includes it takes a compiler minutes, CUTLASS's headers, and is for sm_90a alone."""


def device_sources() -> dict[str, str]:
    """Headers by name. `go_emulate.h` and `go_half.h` are read in emulation alone."""
    return {name: _text(folder, name) for name, folder in _FOLDERS.items()}


def template_sources() -> dict[str, str]:
    """What products by CUTLASS include besides its own headers."""
    return {TEMPLATES: _text("device", TEMPLATES)}


def _text(folder: str, name: str) -> str:
    return (resources.files("graphopt_backends.cuda") / folder / name).read_text()
