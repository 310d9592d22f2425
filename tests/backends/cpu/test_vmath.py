"""Elementary functions against double precision: the bounds that their comments state.

Bounds are in ulp of the result; 0.1 is added for the reference's own rounding and for lanes whose
contraction differs.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.targets import TARGETS, host
from programs import Running, elementwise, program_of

from graphopt.ir.types import DType
from graphopt.kernel.ir import Expr, binary, call
from graphopt.target import Target

F32, F64 = DType.F32, DType.F64
pytestmark = pytest.mark.compiler


def normal(x: np.ndarray) -> np.ndarray:
    """What is too small for a normal f32 as 0."""
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, 0.0, x)


STEP = 50_021  # prime: 86 000 of the 2^32 bit patterns, spread over all mantissas
FUNCTIONS = {
    "exp": (np.exp, 1.0),
    "exp2": (np.exp2, 2.0),
    "expm1": (np.expm1, 3.0),
    "log": (np.log, 0.9),
    "log2": (np.log2, 2.0),
    "log1p": (np.log1p, 3.0),
    "tanh": (np.tanh, 1.4),
    "sigmoid": (lambda x: normal(np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))), 2.7),
    "erf": (np.vectorize(math.erf), 1.1),
    "sin": (np.sin, 1.6),
    "cos": (np.cos, 1.6),
    "tan": (np.tan, 4.0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "sqrt": (np.sqrt, 0.5),
    "atan": (np.arctan, 1.0),
}


def arguments() -> np.ndarray:
    """Floats of every exponent, dense around 1, and the special ones."""
    every = np.arange(0, 1 << 32, STEP, dtype=np.uint64).astype(np.uint32).view(np.float32)
    near = np.linspace(-12, 12, 20_000, dtype=np.float32)
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 88.72283, 88.72284, -103.97, 3.4e38,
         1, -1, 32768, 32767.998, 1e20], np.float32
    )  # fmt: skip
    x = np.concatenate([every, near, special])
    return x[: len(x) // 16 * 16]


def ulps(got: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of the f32 nearest to the reference."""
    nearest = reference.astype(np.float32)
    agree = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    _, exponent = np.frexp(np.where(np.isfinite(reference) & (reference != 0), reference, 1.0))
    unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    edge = np.isinf(got) & (np.abs(reference) > 3.4028234e38)
    return np.where(agree, 0.0, np.where(edge, 1.0, np.abs(got - reference) / unit))


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("target", [host(), TARGETS["scalar"]], ids=["host", "no-fma"])
def test_single_precision(tmp_path: Path, target: Target, lanes: int) -> None:
    if target.lanes_f32 == 1 and lanes == 16:
        pytest.skip("the vectors of a processor without them are checked with 4 lanes")
    x = arguments()
    kernels = [
        elementwise(n, lambda v, n=n: call(n, v), [F32], F32, lanes, len(x)) for n in FUNCTIONS
    ]
    results = Running(program_of(*kernels), target, tmp_path)(x)
    slack = 0.1 if lanes > 1 and target.lanes_f32 > 1 else 0.6  # no fused multiply-add
    for (name, (reference, bound)), got in zip(FUNCTIONS.items(), results, strict=True):
        with np.errstate(all="ignore"):
            distance = ulps(got.astype(np.float64), reference(x.astype(np.float64)))
        worst = np.nanargmax(np.where(np.isnan(distance), np.inf, distance))
        assert distance[worst] <= bound + slack, f"{name}({x[worst]!r}) = {got[worst]!r}"


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("target", [host(), TARGETS["scalar"]], ids=["host", "no-fma"])
def test_an_exponential_without_subnormal_results(
    tmp_path: Path, target: Target, lanes: int
) -> None:
    """Nothing is exactly what is left of minus infinity: masked scores weigh 0."""
    x = arguments()
    x = np.where(x > 88, np.float32(-1.0), x)
    kernel = elementwise("e", lambda v: call("exp_flushed", v), [F32], F32, lanes, len(x))
    (got,) = Running(program_of(kernel), target, tmp_path)(x)
    with np.errstate(all="ignore"):
        distance = ulps(normal(got.astype(np.float64)), normal(np.exp(x.astype(np.float64))))
    assert distance.max() <= 1.6
    assert not got[x <= -104].any()
    assert np.isnan(got[np.isnan(x)]).all()


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


FACTORS = {
    # name: what it is, how far off, without fused multiply-add, too; from where down exactly 0
    "normal_cdf": (lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), 2e-7, -5.375),
    "logistic_cdf": (logistic, 2.7e-7, -16.3132),
}


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("target", [host(), TARGETS["scalar"]], ids=["host", "no-fma"])
@pytest.mark.parametrize("name", FACTORS)
def test_factors_are_off_by_a_rounding_of_one(
    tmp_path: Path, name: str, target: Target, lanes: int
) -> None:
    """Absolute bounds: next to 1 nothing else can be asked of what is 1 plus or minus something."""
    if target.lanes_f32 == 1 and lanes == 16:
        pytest.skip("the vectors of a processor without them are checked with 4 lanes")
    function, bound, zero = FACTORS[name]
    x = arguments()

    def product(v: Expr) -> Expr:
        return binary("*", v, call(name, v))

    kernels = [
        elementwise("factor", lambda v: call(name, v), [F32], F32, lanes, len(x)),
        elementwise("product", product, [F32], F32, lanes, len(x)),
    ]
    factor, scaled = Running(program_of(*kernels), target, tmp_path)(x)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        wide = x.astype(np.float64)
    nan = np.isnan(x)
    exact = np.vectorize(function)(np.where(nan, 0.0, wide))
    assert np.isnan(factor[nan]).all()
    assert np.abs(factor[~nan] - exact[~nan]).max() <= bound
    finite = np.isfinite(x)
    v = wide[finite]
    error = np.abs(scaled[finite] - v * exact[finite])
    assert (error <= 1.25 * bound * np.maximum(np.abs(v), 1)).all()
    assert (scaled[finite][v <= zero] == 0).all()
    assert (factor[wide >= -zero] == 1).all()


@pytest.mark.parametrize("lanes", [1, 8])
def test_double_precision_is_the_c_librarys(tmp_path: Path, lanes: int) -> None:
    x = np.linspace(0.01, 20, 512)
    names = [n for n in FUNCTIONS if n != "sigmoid"]
    kernels = [elementwise(n, lambda v, n=n: call(n, v), [F64], F64, lanes, len(x)) for n in names]
    results = Running(program_of(*kernels), host(), tmp_path)(x)
    for name, got in zip(names, results, strict=True):
        np.testing.assert_allclose(got, FUNCTIONS[name][0](x), rtol=4e-16 * 4, err_msg=name)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_functions_of_two_arguments(tmp_path: Path, dtype: DType) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.1, 5, 64).astype(dtype.numpy) for _ in range(2))
    functions = {"pow": np.power, "atan2": np.arctan2, "fmod": np.fmod}
    kernels = [
        elementwise(n, lambda x, y, n=n: call(n, x, y), [dtype] * 2, dtype, 8, 64)
        for n in functions
    ]
    results = Running(program_of(*kernels), host(), tmp_path)(a, b)
    for (name, reference), got in zip(functions.items(), results, strict=True):
        tolerance = 4 * np.finfo(dtype.numpy).eps  # the C library's functions: below 1 ulp each
        np.testing.assert_allclose(got, reference(a, b), rtol=tolerance, err_msg=name)
