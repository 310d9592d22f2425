"""Kernel IR to C text: a pure function. Nothing here needs a compiler."""

from graphopt_backends.cpu.emit.kernel import (
    emit_kernel,
    parallel_extent,
    parallel_run,
    prototype,
    scratch_bytes,
)
from graphopt_backends.cpu.emit.model import emit

__all__ = [
    "emit",
    "emit_kernel",
    "parallel_extent",
    "parallel_run",
    "prototype",
    "scratch_bytes",
]
