"""The table of intrinsics: its meaning against numpy and the C library, its rows against the C
templates, and both against the machine."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.emit import helpers, lanes, vmath
from graphopt_backends.cpu.targets import TARGETS, host
from machine import Machine, elementwise

from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.interpret import interpret
from graphopt.kernel.intrinsics import FLOATS, INTRINSICS, Intrinsic, intrinsic
from graphopt.kernel.ir import (
    INDEX,
    Buffer,
    Call,
    Kernel,
    Ramp,
    Store,
    call,
    index_const,
    load,
)

F32, F64, BOOL = DType.F32, DType.F64, DType.BOOL

# What templates need among themselves, or the emitter for operators; no kernel names these.
_INTERNAL = frozenset({
    "splat", "ramp", "reverse", "gather", "gather_step", "scatter", "load_part", "store_part",
    "stream", "sel", "bits", "from_bits", "to_float", "max", "min", "at_least", "at_most",
    "floor_div", "floor_mod",
    "load_bf16", "store_bf16", "load_f16", "store_f16", "to_single", "round_bf16", "round_f16",
    "exp_small", "scaled", "sincos", "trig_large", "vacate",
    *(name for name in lanes.MAKERS if name.startswith("gather_every")),
})  # fmt: skip
# Written out by the emitter: a product and a sum, which the compiler may contract.
_OPERATORS = frozenset({"fma"})


def test_every_row_has_a_template_and_every_template_a_row() -> None:
    templates = ({*helpers._MAKERS, *vmath.ROWS} - _INTERNAL) | _OPERATORS
    assert set(INTRINSICS) <= templates, "rows without C text"
    assert templates <= set(INTRINSICS), "C text without a row: add one, or name it _INTERNAL"


def test_unknown_names() -> None:
    with pytest.raises(IRError) as caught:
        intrinsic("tanhh")
    assert str(caught.value) == "there is no intrinsic 'tanhh'\nhint: did you mean 'tanh'?"
    with pytest.raises(IRError) as caught:
        intrinsic("convolve")
    assert caught.value.hint == "graphopt.kernel.intrinsics lists them"


# Meaning -----------------------------------------------------------------------------------------

_LIBRARY = {
    **{n: getattr(math, n) for n in (
        "exp", "expm1", "log", "log1p", "log2", "sqrt", "tanh", "erf", "erfc", "sin", "cos", "tan",
        "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "trunc", "floor", "ceil",
        "isnan", "isinf", "pow", "atan2", "fmod",
    )},
    "exp2": lambda x: 2.0**x,
    "exp_flushed": math.exp,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "logistic_cdf": lambda x: 1 / (1 + math.exp(-x)),
    "normal_cdf": lambda x: 0.5 * math.erfc(-x / math.sqrt(2)),
    "abs": abs,
    "round": round,  # half to even, as Python's
    "fma": lambda a, b, c: a * b + c,
}  # fmt: skip
_DOMAIN = {
    "log": (0.01, 9), "log1p": (-0.9, 9), "log2": (0.01, 9), "sqrt": (0, 9), "rsqrt": (0.01, 9),
    "asin": (-1, 1), "acos": (-1, 1), "atanh": (-0.95, 0.95), "acosh": (1, 9), "pow": (0.1, 4),
}  # fmt: skip
ELEMENTWISE = [r for r in INTRINSICS.values() if not (r.across_lanes or r.moves_lanes)]
MOVES = [row for row in INTRINSICS.values() if row.moves_lanes]
ACROSS = [row for row in INTRINSICS.values() if row.across_lanes]


def arguments(row: Intrinsic, dtype: DType, n: int) -> list[np.ndarray]:
    numbers = np.random.default_rng(len(row.name))
    low, high = _DOMAIN.get(row.name, (-6, 6))
    if not dtype.is_float:
        low, high = (0, 2) if dtype is BOOL else (max(low, 0) if dtype is DType.U8 else low, high)
        return [numbers.integers(low, high, n).astype(dtype.numpy) for _ in range(row.arity)]
    return [numbers.uniform(low, high, n).astype(dtype.numpy) for _ in range(row.arity)]


@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda r: r.name)
def test_meaning_against_the_c_library(row: Intrinsic) -> None:
    x = arguments(row, F64, 64)
    wanted = [_LIBRARY[row.name](*v) for v in zip(*(a.tolist() for a in x), strict=True)]
    got = row.meaning(*x)
    assert got.dtype == (row.result or F64).numpy
    # numpy, the C library and erf's approximation (4 ulp) round independently; normal_cdf rounds
    # an argument of up to 6, whose square magnifies that.
    slack = 1e-14 if row.name == "normal_cdf" else 2e-15
    np.testing.assert_allclose(got.astype(float), np.array(wanted, float), rtol=slack, atol=1e-300)


@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
@pytest.mark.parametrize("row", ACROSS, ids=lambda r: r.name)
def test_meaning_across_lanes(row: Intrinsic, lanes: int) -> None:
    reference = {"add": np.sum, "mul": np.prod, "max": np.max, "min": np.min,
                 "and": np.bitwise_and.reduce, "or": np.bitwise_or.reduce}  # fmt: skip
    for dtype in row.dtypes - FLOATS:
        (x,) = arguments(row, dtype, 3 * lanes)
        x = x.reshape(3, lanes)
        wanted = reference[row.name.removeprefix("reduce_")](x, axis=1)
        np.testing.assert_array_equal(row.meaning(x)[:, 0], wanted.astype(dtype.numpy))


def test_sums_across_lanes_are_taken_by_halves() -> None:
    x = np.array([[1e16, 1.0, -1e16, 1.0]])
    assert INTRINSICS["reduce_add"].meaning(x)[0, 0] == (1e16 - 1e16) + (1.0 + 1.0)


def test_zips_take_turns() -> None:
    a, b = np.array([[1, 2, 3, 4]]), np.array([[5, 6, 7, 8]])
    assert INTRINSICS["zip_low"].meaning(a, b).tolist() == [[1, 5, 2, 6]]
    assert INTRINSICS["zip_high"].meaning(a, b).tolist() == [[3, 7, 4, 8]]
    c = np.array([[9, 10, 11, 12]])
    assert INTRINSICS["zip3_low"].meaning(a, b, c).tolist() == [[1, 5, 9, 2]]
    assert INTRINSICS["zip3_middle"].meaning(a, b, c).tolist() == [[6, 10, 3, 7]]
    assert INTRINSICS["zip3_high"].meaning(a, b, c).tolist() == [[11, 4, 8, 12]]


# Machine -----------------------------------------------------------------------------------------

# Largest distance from the double result, in units of the last place of an f32 near it: what the
# comment of each template states, and the C library's one for the others. Without fused
# multiply-add, or on one lane, half a unit more.
ULPS = {
    "exp": 1.0, "exp_flushed": 1.0, "exp2": 2.0, "expm1": 3.0, "log": 0.9, "log2": 2.0,
    "log1p": 3.0, "tanh": 1.4,
    "sigmoid": 3.7, "erf": 1.1, "sin": 1.6, "cos": 1.6, "tan": 4.0, "rsqrt": 1.5,
    "floor": 0, "ceil": 0, "trunc": 0, "round": 0, "abs": 0, "isnan": 0, "isinf": 0, "fmod": 0,
    "erfc": 2.0,
}  # fmt: skip
_LIBRARY_ULPS = 1.0
ABSOLUTE = {"normal_cdf": 2e-7, "logistic_cdf": 2.7e-7}
"""Where a template states an absolute bound."""

FLOAT_ROWS = [row for row in ELEMENTWISE if row.dtypes >= FLOATS]


@pytest.mark.compiler
@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize("name", ["host", "scalar"])
def test_machine_is_within_the_stated_bounds(name: str, lanes: int, tmp_path: Path) -> None:
    target = host() if name == "host" else TARGETS[name]
    rows = [r for r in FLOAT_ROWS if r.name != "fma"]
    made = [_kernel(row, F32, lanes, 512) for row in rows]
    machine = Machine(made, tmp_path / "m", target)
    for i, (row, kernel) in enumerate(zip(rows, made, strict=True)):
        arrays = _arrays(row, F32, 512)
        exact = interpret(kernel, arrays, precision=np.float64)["out"]
        got = machine.run(i, arrays)["out"]
        bound = ULPS.get(row.name, _LIBRARY_ULPS)
        if row.name in ABSOLUTE:
            assert np.abs(got - exact).max() <= ABSOLUTE[row.name]
        else:
            assert _distance(got, exact) <= (bound + 0.6 if bound else 0.5), row.name
        native = interpret(kernel, arrays)["out"]
        assert native.dtype == got.dtype
        # numpy's own f32 functions: below 4 ulp each, by its documentation
        assert _distance(native, exact) <= 4.5, row.name


def _kernel(row: Intrinsic, dtype: DType, lanes: int, n: int) -> Kernel:
    result = row.result_dtype(dtype)
    return elementwise(
        lambda *x: call(row.name, *x, dtype=result), [dtype] * row.arity, result, lanes, n
    )


def _arrays(row: Intrinsic, dtype: DType, n: int) -> dict[str, np.ndarray]:
    return {f"in{i}": a for i, a in enumerate(arguments(row, dtype, n))}


def _distance(got: np.ndarray, exact: np.ndarray) -> float:
    if got.dtype == np.bool_:
        return float((got != exact).any())
    unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return float((np.abs(got.astype(np.float64) - exact) / unit).max())


@pytest.mark.compiler
def test_double_precision(tmp_path: Path) -> None:
    made = [_kernel(row, F64, 4, 128) for row in FLOAT_ROWS]
    machine = Machine(made, tmp_path / "m")
    for i, (row, kernel) in enumerate(zip(FLOAT_ROWS, made, strict=True)):
        arrays = _arrays(row, F64, 128)
        wanted, got = interpret(kernel, arrays)["out"], machine.run(i, arrays)["out"]
        # The C library and numpy: a few units of 2^-53 each, sums of cancelled terms apart.
        np.testing.assert_allclose(
            got.astype(float), wanted.astype(float), rtol=4e-15, atol=1e-15, err_msg=row.name
        )


@pytest.mark.compiler
@pytest.mark.parametrize("lanes", [2, 8, 16])
def test_reductions_across_lanes(lanes: int, tmp_path: Path) -> None:
    cases = [(row, dtype) for row in ACROSS for dtype in DType if dtype in row.dtypes]
    made = [_across(row, dtype, lanes) for row, dtype in cases]
    machine = Machine(made, tmp_path / "m")
    for i, (row, dtype) in enumerate(cases):
        arrays = _arrays(row, dtype, lanes)
        wanted, got = interpret(made[i], arrays)["out"], machine.run(i, arrays)["out"]
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(
            got.astype(np.float64), wanted.astype(np.float64), err_msg=f"{row.name} of {dtype}"
        )


@pytest.mark.compiler
@pytest.mark.parametrize("lanes", [2, 3, 4, 7, 16])
def test_machine_moves_lanes(lanes: int, tmp_path: Path) -> None:
    cases = [(row, dtype) for row in MOVES for dtype in DType if dtype in row.dtypes]
    made = [_kernel(row, dtype, lanes, lanes) for row, dtype in cases]
    machine = Machine(made, tmp_path / "m")
    for i, (row, dtype) in enumerate(cases):
        arrays = _arrays(row, dtype, lanes)
        wanted = row.meaning(*(arrays[f"in{n}"][None] for n in range(row.arity)))[0]
        for got in (machine.run(i, arrays)["out"], interpret(made[i], arrays)["out"]):
            assert got.dtype == dtype.numpy
            np.testing.assert_array_equal(
                got.astype(np.float64), wanted.astype(np.float64), err_msg=f"{row.name} of {dtype}"
            )


def _across(row: Intrinsic, dtype: DType, lanes: int) -> Kernel:
    x, out = Buffer.dense("in0", dtype, (lanes,)), Buffer.dense("out", dtype, (1,))
    vector = load(x, Ramp(INDEX, lanes, index_const(0), 1))
    value = Call(row.result_dtype(dtype), 1, row.name, (vector,))
    return Kernel("across", (x, out), ("out",), Store(out, (index_const(0),), value))


@pytest.mark.compiler
def test_integers_and_halves(tmp_path: Path) -> None:
    cases = [
        (row, dtype)
        for row in ELEMENTWISE
        for dtype in DType
        if dtype in row.dtypes and dtype not in (F32, F64)
    ]
    made = [_kernel(row, dtype, 8, 64) for row, dtype in cases]
    machine = Machine(made, tmp_path / "m")
    for i, (row, dtype) in enumerate(cases):
        arrays = _arrays(row, dtype, 64)
        wanted, got = interpret(made[i], arrays)["out"], machine.run(i, arrays)["out"]
        assert got.dtype == wanted.dtype
        # Halves may be rounded the other way where f32 results differ by an ulp.
        slack = 2.0 ** -(7 if dtype is DType.BF16 else 10) if dtype.is_float else 0
        np.testing.assert_allclose(
            got.astype(np.float64), wanted.astype(np.float64), rtol=slack,
            atol=ABSOLUTE.get(row.name, 0),
            err_msg=f"{row.name} of {dtype}",
        )  # fmt: skip
