"""NEON code, cross-compiled and run under qemu: the same programs as on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from emulated import needs_qemu, run_emulated
from graphopt_backends.cpu.targets import TARGETS
from programs import elementwise, program_of
from test_emit import matmul, random, same
from test_vmath import FUNCTIONS, arguments, ulps

from graphopt.ir.types import DType
from graphopt.kernel.ir import Expr, binary, call, cast, select
from graphopt.target import Target

pytestmark = [pytest.mark.aarch64, pytest.mark.compiler, needs_qemu]
ROWS = [TARGETS["aarch64"], TARGETS["cortex-a76"]]
F32 = DType.F32


@pytest.mark.parametrize("target", ROWS, ids=lambda t: t.name)
def test_register_tile(tmp_path: Path, target: Target) -> None:
    kernel = matmul(4, 6, 4, 12, 32, 40)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((12, 40), (40, 32)))
    (got,) = run_emulated(program_of(kernel), target, tmp_path, a, b)
    # 40 products of about 1: f32 rounding 40 * 2^-24
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, atol=1e-5)


@pytest.mark.parametrize("target", ROWS, ids=lambda t: t.name)
def test_elementary_functions(tmp_path: Path, target: Target) -> None:
    x = arguments()[::7]
    x = x[: len(x) // 4 * 4]
    names = [n for n in FUNCTIONS if n != "atan"]  # atan is the C library's
    kernels = [elementwise(n, lambda v, n=n: call(n, v), [F32], F32, 4, len(x)) for n in names]
    results = run_emulated(program_of(*kernels), target, tmp_path, x)
    for name, got in zip(names, results, strict=True):
        reference, bound = FUNCTIONS[name]
        with np.errstate(all="ignore"):
            distance = ulps(got.astype(np.float64), reference(x.astype(np.float64)))
        assert np.max(distance) <= bound + 0.1, name


def test_operators_on_every_dtype(tmp_path: Path) -> None:
    """min and max keep NaN by another instruction there; halves convert by others, too."""

    def compute(x: Expr, y: Expr) -> Expr:
        return select(binary("<", x, y), binary("min", x, y), binary("max", binary("+", x, x), y))

    for dtype in DType:
        if dtype is DType.BOOL:
            continue
        a, b = random(dtype, 64), random(dtype, 64, 1)
        kernels = [
            elementwise("compute", compute, [dtype] * 2, dtype, 4, 64),
            elementwise("single", lambda x, y: cast(x, F32), [dtype] * 2, F32, 4, 64),
        ]
        folder = tmp_path / str(dtype)
        got, single = run_emulated(program_of(*kernels), TARGETS["cortex-a76"], folder, a, b)
        with np.errstate(all="ignore"):
            expected = np.where(a < b, np.minimum(a, b), np.maximum(a + a, b))
            same(got, expected, str(dtype))
            same(single, a.astype(np.float32), str(dtype))
