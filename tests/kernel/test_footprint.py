"""Bytes of local buffers, by the blocks that hold them."""

from __future__ import annotations

import pytest

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.footprint import span_bytes, workspace
from graphopt.kernel.ir import Buffer
from graphopt.kernel.parser import parse_kernel


def reach(body: str) -> int:
    kernel = parse_kernel(f"kernel k(y: f32[32] output) {{ {body} }}")
    return workspace(kernel.body, 64)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y[0] = 1.0", 0),
        ("alloc t: f32[17] scratch t[0] = 1.0", 128),
        ("alloc t: f32[17] stack t[0] = 1.0", 0),
        # Blocks give back what they took, whatever the names.
        ("for a in 0..2 { alloc t: f32[16] scratch t[0] = 1.0 } "
         "for a in 0..2 { alloc t: f32[48] scratch t[0] = 1.0 }", 192),
        ("alloc t: f32[16] scratch for a in 0..2 { alloc t: f32[16] scratch t[0] = 1.0 }", 128),
        ("alloc t: f32[16] scratch if t[0] < 1.0 { alloc u: f32[16] scratch u[0] = 1.0 } "
         "else { alloc u: f32[80] scratch u[0] = 1.0 }", 384),
    ],
)  # fmt: skip
def test_scratch_of_a_kernel(body: str, expected: int) -> None:
    assert reach(body) == expected


def test_a_halo_counts() -> None:
    assert span_bytes(Buffer.dense("t", DType.F32, (4, 8))) == 128
    with pytest.raises(IRError, match="starts 1 elements before its pointer"):
        span_bytes(Buffer("t", DType.F32, (4,), (1,), offset=-1))
