"""The GPU target table."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.target import Target

KIB, MIB = 1 << 10, 1 << 20
ALIGNMENT = 256
"""Bytes at which the arena's buffers and the weights begin: what cudaMalloc gives."""

WARP = 32
MOST_THREADS = 1024
"""Of a block."""


@dataclass(frozen=True)
class GpuTarget(Target):
    """One row. `sms` multiprocessors with `shared_bytes` of shared memory for one block each,
    `threads` resident on one; memory at `gbytes_per_s`, and what the arithmetic units do at most,
    dense: `tflops_f32` without tensor cores, `tflops_tf32` and `tflops_f16` (bf16, too) with them.

    The rates are the vendor's; what kernels are measured against is measured on the box.
    """

    sms: int = 1
    shared_bytes: int = 48 * KIB
    threads: int = 2048
    gbytes_per_s: float = 1.0
    tflops_f32: float = 1.0
    tflops_tf32: float = 1.0
    tflops_f16: float = 1.0


def _row(
    name: str, sms: int, shared: int, threads: int, l2: int, gbytes: float,
    f32: float, tf32: float, f16: float, isa: str = "",
) -> GpuTarget:  # fmt: skip
    return GpuTarget(
        name, "cuda", "nvidia", isa or name, 4, 255, 128 * KIB, l2, frozenset(), "", name,
        sms, shared, threads, gbytes, f32, tf32, f16,
    )  # fmt: skip


_ROWS = (
    _row("sm_80", 108, 163 * KIB, 2048, 40 * MIB, 1555, 19.5, 156, 312),  # A100 40 GB
    _row("sm_89", 142, 99 * KIB, 1536, 96 * MIB, 864, 91.6, 183, 366),  # L40S
    _row("sm_90a", 132, 227 * KIB, 2048, 50 * MIB, 4800, 66.9, 494, 989),  # H200
    _row("sm_100", 148, 227 * KIB, 2048, 126 * MIB, 8000, 75, 1100, 2250),  # B200
    _row("emulated", 132, 227 * KIB, 2048, 50 * MIB, 4800, 66.9, 494, 989, "emulated"),
)

TARGETS = {row.name: row for row in _ROWS}
"""Rows by name; names are those of `--target cuda:NAME`. `emulated` is sm_90a run on the CPU."""


def is_emulated(target: Target) -> bool:
    """Whether the code is run on the CPU."""
    return target.isa == "emulated"
