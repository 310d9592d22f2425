"""The row of a machine, from what it says of itself."""

from __future__ import annotations

import pytest
from graphopt_backends.cpu.targets import units


@pytest.mark.parametrize(
    ("isa", "flags", "expected"),
    [
        ("avx512", {"clzero", "avx512_bf16"}, 1),  # Zen 4
        ("avx512", {"clzero", "avx512_bf16", "avx_vnni"}, 2),  # Zen 5
        ("avx512", {"amx_tile", "avx_vnni"}, 2),  # Sapphire Rapids
        ("avx512", set(), 2),  # Skylake
        ("avx2", {"clzero"}, 2),  # Zen 3
        ("neon", {"asimd"}, 2),
    ],
)
def test_vectors_that_a_core_multiplies_in_a_cycle(
    isa: str, flags: set[str], expected: int
) -> None:
    assert units(isa, frozenset(flags)) == expected
