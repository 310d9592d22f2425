"""The headers that emitted kernels include."""

from __future__ import annotations

from importlib import resources

_FOLDERS = {"go_kernel.h": "device", "go_emulate.h": "device", "go_half.h": "runtime"}


def device_sources() -> dict[str, str]:
    """Headers by name. `go_emulate.h` and `go_half.h` are read in emulation alone."""
    root = resources.files("graphopt_backends.cuda")
    return {name: (root / folder / name).read_text() for name, folder in _FOLDERS.items()}
