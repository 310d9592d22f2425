"""The CPU target table, and the row of the machine this runs on."""

from __future__ import annotations

import re
from functools import cache

from graphopt.artifact.machine import architecture, cache_bytes, cpu_flags
from graphopt.target import Target

_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "sse4_2", "popcnt"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_NEON = frozenset({"asimd", "fp"})
_A76 = _NEON | {"asimddp", "asimdhp", "fphp", "atomics", "crc32", "asimdrdm"}

KIB, MIB = 1 << 10, 1 << 20

_ROWS = (
    Target("x86-64-v3", "cpu", "x86_64", "avx2", 8, 16, 32 * KIB, 512 * KIB, _V3,
           "x86_64-linux-gnu", "x86_64_v3"),
    Target("x86-64-v4", "cpu", "x86_64", "avx512", 16, 32, 32 * KIB, MIB, _V4,
           "x86_64-linux-gnu", "x86_64_v4"),
    Target("aarch64", "cpu", "aarch64", "neon", 4, 32, 32 * KIB, 256 * KIB, _NEON,
           "aarch64-linux-gnu", "generic"),
    Target("cortex-a76", "cpu", "aarch64", "neon", 4, 32, 64 * KIB, 256 * KIB, _A76,
           "aarch64-linux-gnu", "cortex_a76"),
    Target("scalar", "cpu", "any", "c99", 1, 16, 32 * KIB, 256 * KIB),
)  # fmt: skip

TARGETS = {row.name: row for row in _ROWS}
"""Rows by name; names are those of `--target cpu:NAME`."""

_COMPILED_FOR = re.compile(
    r"(avx|fma|f16c|bmi|amx|sse|ssse|gfni|vaes|vpclmul|adx|abm|movbe|popcnt|sha|aes|pclmul|"
    r"asimd|fphp|fp$|sve|i8mm|bf16|atomics|crc32)"
)
"""What of /proc/cpuinfo names instructions that code for the host may contain."""


@cache
def host() -> Target:
    """The row of this machine: compiled with every instruction it has."""
    arch = architecture()
    flags = frozenset(f for f in cpu_flags() if _COMPILED_FOR.match(f))
    isa, lanes, registers = _widest(arch, flags)
    l1, l2 = cache_bytes(1) or 32 * KIB, cache_bytes(2) or 512 * KIB
    return Target("host", "cpu", arch, isa, lanes, registers, l1, l2, flags, "", "native",
                  vector_units=units(isa, cpu_flags()),
                  far_gbytes=far_gbytes(isa, cpu_flags()))  # fmt: skip


def units(isa: str, flags: frozenset[str]) -> int:
    """Vectors that a core multiplies in a cycle: two, but one of 64 bytes in AMD's first cores with
    AVX-512 (Zen 4, which has no AVX-VNNI yet)."""
    return 1 if isa == "avx512" and "clzero" in flags and "avx_vnni" not in flags else 2


def far_gbytes(isa: str, flags: frozenset[str]) -> float:
    """GB/s that a core reads from beyond its level 2 cache: 24 to 30 from the last level and 12
    to 17 from memory where that is a mesh's slices (Intel with AVX-512), more on AMD's cores."""
    return 17.0 if isa == "avx512" and "clzero" not in flags else 30.0


def _widest(arch: str, flags: frozenset[str]) -> tuple[str, int, int]:
    if arch == "x86_64":
        if flags >= _V4:
            return "avx512", 16, 32
        return ("avx2", 8, 16) if flags >= _V3 - {"movbe", "abm"} else ("sse2", 4, 16)
    return ("neon", 4, 32) if arch == "aarch64" else ("c99", 1, 16)
