"""The kernel interpreter: operators against numpy, order and rows, poison, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from machine import Machine, elementwise, same

from graphopt.check import kernels, random_kernel, seeded_arrays
from graphopt.errors import InputError, IRError
from graphopt.ir.types import DType
from graphopt.kernel.interpret import TooLongError, interpret, serial_steps
from graphopt.kernel.ir import Expr, Kernel, binary, call, cast, const, select
from graphopt.kernel.parser import parse_kernel

F32, BOOL = DType.F32, DType.BOOL
NUMBERS = [d for d in DType if d is not BOOL]
LANES = (1, 8)


def random(dtype: DType, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype is BOOL:
        return rng.random(n) < 0.5
    if dtype.is_float:
        values = rng.standard_normal(n) * 3
        values[:4] = np.nan, np.inf, -np.inf, -0.0
        return values.astype(dtype.numpy)
    return rng.integers(0 if dtype is DType.U8 else -90, 100, n).astype(dtype.numpy)


OPERATORS = [
    ("+", np.add), ("-", np.subtract), ("*", np.multiply), ("min", np.minimum), ("max", np.maximum),
    ("//", np.floor_divide), ("%", np.mod), ("<", np.less), ("==", np.equal),
    (">=", np.greater_equal),
]  # fmt: skip
_COMPARES = ("<", "==", ">=")


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_operators(dtype: DType, lanes: int) -> None:
    a, b = random(dtype, 64), random(dtype, 64, 1)
    if not dtype.is_float:
        b[:3] = 0, 1, 2
    for op, reference in OPERATORS:
        if dtype.is_float and op in ("//", "%"):
            continue
        result = BOOL if op in _COMPARES else dtype
        kernel = elementwise(lambda x, y, op=op: binary(op, x, y), [dtype] * 2, result, lanes, 64)
        with np.errstate(all="ignore"):
            wanted = reference(a, b)
        same(interpret(kernel, {"in0": a, "in1": b}), {"out": wanted})


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("source", list(DType), ids=str)
def test_casts(source: DType, lanes: int) -> None:
    a = random(source, 64)
    if source.is_float:
        a[:4] = 0.4, 1.6, 2.5, 0.0
    a = np.abs(a)
    for target in DType:
        kernel = elementwise(lambda x, t=target: cast(x, t), [source], target, lanes, 64)
        same(interpret(kernel, {"in0": a}), {"out": a.astype(target.numpy)})


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16], ids=str)
def test_halves_are_rounded_after_every_operation(dtype: DType) -> None:
    a, b = (np.abs(random(dtype, 64, s)[8:]) for s in (0, 1))
    kernel = elementwise(
        lambda x, y: binary("*", binary("+", x, y), call("exp", y)), [dtype] * 2, dtype, 1, 56
    )
    narrow, wide = dtype.numpy, np.float32
    total = (a.astype(wide) + b.astype(wide)).astype(narrow).astype(wide)
    power = np.exp(b.astype(wide)).astype(narrow).astype(wide)
    same(interpret(kernel, {"in0": a, "in1": b}), {"out": (total * power).astype(narrow)})


def test_precision_replaces_every_float() -> None:
    kernel = elementwise(
        lambda x: cast(binary("*", cast(x, DType.F16), const(0.1, DType.F16)), F32),
        [F32], F32, 1, 8,
    )  # fmt: skip
    x = np.linspace(0, 1, 8, dtype=np.float32)
    (got,) = interpret(kernel, {"in0": x}, precision=np.float64).values()
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, x.astype(np.float64) * 0.1)


def test_boolean_logic() -> None:
    def compute(a: Expr, b: Expr) -> Expr:
        both = binary("and", a, b)
        return binary("xor", select(both, b, binary("or", a, b)), const(True, BOOL))

    a, b = random(BOOL, 64), random(BOOL, 64, 1)
    for lanes in LANES:
        kernel = elementwise(compute, [BOOL, BOOL], BOOL, lanes, 64)
        wanted = np.where(a & b, b, a | b) ^ True
        same(interpret(kernel, {"in0": a, "in1": b}), {"out": wanted})


# Memory ------------------------------------------------------------------------------------------


def run(text: str, **arrays: np.ndarray) -> np.ndarray:
    (out,) = interpret(parse_kernel(text), arrays).values()
    return out


X16 = np.arange(16, dtype=np.float32)


def test_access_patterns() -> None:
    text = """kernel k(x: f32[16], ids: i64[4], y: f32[6, 4] output) {
  y[0, ramp(0, 1, 4)] = x[ramp(3, 1, 4)]
  y[1, ramp(0, 1, 4)] = x[ramp(15, -1, 4)]
  y[2, ramp(0, 1, 4)] = x[ramp(1, 4, 4)]
  y[3, ramp(0, 1, 4)] = x[ids[ramp(0, 1, 4)]]
  y[4, ramp(0, 1, 4)] = x[splat(7, 4)]
  y[5, ids[ramp(0, 1, 4)] % 4] = x[ramp(0, 1, 4)]
}"""
    got = run(text, x=X16, ids=np.array([9, 0, 3, 14]))
    wanted = [[3, 4, 5, 6], [15, 14, 13, 12], [1, 5, 9, 13], [9, 0, 3, 14], [7] * 4, [1, 0, 3, 2]]
    np.testing.assert_array_equal(got, wanted)


def test_lanes_that_meet_accumulate_in_order() -> None:
    text = """kernel k(x: f32[4], ids: i64[4], y: f32[4] output, z: f32[1] output) {
  for i in 0..4 { y[i] = 0.0 }
  y[ids[ramp(0, 1, 4)]] += x[ramp(0, 1, 4)]
  z[splat(0, 4)] = x[ramp(0, 1, 4)]
}"""
    x = np.array([1, 2, 4, 8], np.float32)
    out = interpret(parse_kernel(text), {"x": x, "ids": np.array([2, 0, 2, 2])})
    np.testing.assert_array_equal(out["y"], [2, 0, 13, 0])
    np.testing.assert_array_equal(out["z"], [8])


def test_halo_and_strides() -> None:
    text = """kernel k(x: f32[2, 2] strides[4, 1] offset 5 halo[1:1, 1:1], y: f32[2, 2] output) {
  for i in 0..2 { for j in 0..2 { y[i, j] = x[i - 1, j - 1] + x[i + 1, j + 1] } }
}"""
    memory = X16.reshape(4, 4)
    np.testing.assert_array_equal(run(text, x=memory), memory[:2, :2] + memory[2:, 2:])


def test_outputs_may_hold_something_before() -> None:
    text = "kernel k(y: f32[4] output) { for i in 0..4 { y[i] += 1.0 } }"
    before = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(run(text, y=before), before + 1)
    np.testing.assert_array_equal(before, np.arange(4))


@pytest.mark.parametrize("scope", ["scratch", "stack", "register"])
def test_what_is_unwritten_shows(scope: str) -> None:
    text = f"""kernel k(y: f32[2] output, n: i32[1] output, z: f32[2] output) {{
  alloc t: f32[2] {scope}
  alloc m: i32[1] {scope}
  t[0] = 1.0
  for i in 0..2 {{ y[i] = t[i] }}
  n[0] = m[0]
}}"""
    out = interpret(parse_kernel(text), {})
    np.testing.assert_array_equal(out["y"], [1, np.nan])
    np.testing.assert_array_equal(out["z"], [np.nan, np.nan])
    assert out["n"][0] == np.frombuffer(b"\xa5" * 4, np.int32)[0]


def test_a_buffer_is_fresh_in_every_iteration() -> None:
    text = """kernel k(y: f32[4] output) {
  for i in 0..4 {
    alloc t: f32[1] stack
    if i < 2 { t[0] = 1.0 }
    y[i] = t[0]
  }
}"""
    for in_order in (False, True):
        (got,) = interpret(parse_kernel(text), {}, in_order=in_order).values()
        np.testing.assert_array_equal(got, [1, 1, np.nan, np.nan])


def test_lets_keep_what_memory_held() -> None:
    text = """kernel k(x: f32[4], y: f32[4] output) {
  y[0] = 1.0
  let old = y[0]
  y[0] = 2.0
  y[1] = old
  let v = x[ramp(0, 1, 2)]
  y[ramp(2, 1, 2)] = v
}"""
    np.testing.assert_array_equal(run(text, x=X16[:4]), [2, 1, 0, 1])


def test_names_of_inner_blocks_end() -> None:
    text = """kernel k(y: f32[4] output) {
  let v = 1.0
  for i in 0..2 {
    let v = v + 1.0
    y[i] = v
  }
  y[2] = v
  if v > 5.0 { y[3] = 0.0 } else { let v = 7.0 y[3] = v }
}"""
    np.testing.assert_array_equal(run(text), [2, 2, 1, 7])


REFUSED = [
    ("for i in 0..4 { y[i + 1] = 1.0 }", "index 0 of 'y' is 4, outside 0..4"),
    ("for i in 0..4 { y[i - 1] = 1.0 }", "index 0 of 'y' is -1, outside 0..4"),
    ("y[ramp(1, 1, 4)] = splat(1.0, 4)", "index 0 of 'y' is 4, outside 0..4"),
    ("y[0] = y[ids[0]]", "index 0 of 'y' is 9, outside 0..4"),
    ("y[ids[ramp(0, 1, 2)]] = splat(1.0, 2)", "index 0 of 'y' is 9, outside 0..4"),
]


@pytest.mark.parametrize(("body", "message"), REFUSED)
def test_accesses_outside(body: str, message: str) -> None:
    text = f"kernel k(ids: i64[2], y: f32[4] output) {{ {body} }}"
    with pytest.raises(IRError) as caught:
        run(text, ids=np.array([9, 0]))
    assert caught.value.message == message


def test_arrays_that_do_not_fit() -> None:
    kernel = parse_kernel("kernel k(x: f32[4], y: f32[4] output) { y[0] = x[0] }")
    for arrays, message in (
        ({}, "no array for 'x'\nhint: k takes x"),
        ({"x": X16}, "'x' of k got 16 elements, not 4\n"
         "hint: pass an array of [4] elements, or its memory"),
        ({"x": np.arange(4)}, "'x' of k got int64, not f32"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            interpret(kernel, arrays)
        assert str(caught.value) == message


# Order and rows ----------------------------------------------------------------------------------


def test_steps_are_counted() -> None:
    text = "kernel k(y: f32[64] output) { for i in 0..8 { for j in 0..8 { y[%s] = 1.0 } } }"
    together, apart = (parse_kernel(text % at) for at in ("i * 8 + j", "0"))
    assert (serial_steps(together), serial_steps(apart)) == (1, 64)
    interpret(apart, {}, max_steps=64)
    with pytest.raises(TooLongError, match="k takes 64 steps, allowed are 63"):
        interpret(apart, {}, max_steps=63)


def test_large_loops_run_in_pieces() -> None:
    text = """kernel k(x: f32[3, 1000], y: f32[3, 1000] output) {
  for i in 0..3 {
    for j in 0..1000 {
      alloc t: f32[2000] scratch
      t[j] = x[i, j]
      y[i, j] = t[j] * 2.0
    }
  }
}"""
    x = np.random.default_rng(0).random((3, 1000), np.float32)
    assert 6 < serial_steps(parse_kernel(text)) < 60
    np.testing.assert_array_equal(run(text, x=x), 2 * x)


@settings(deadline=None, max_examples=60)
@given(kernels())
def test_rows_give_the_same_bits(kernel: Kernel) -> None:
    arrays = seeded_arrays(kernel)
    for precision in (None, np.float64):
        rows = interpret(kernel, arrays, precision=precision)
        same(rows, interpret(kernel, arrays, precision=precision, in_order=True))


@pytest.mark.compiler
def test_random_integer_kernels_on_the_machine(tmp_path: Path) -> None:
    made = [random_kernel(seed, floats=False) for seed in range(60)]
    machine = Machine(made, tmp_path / "all")
    for i, kernel in enumerate(made):
        arrays = seeded_arrays(kernel, i)
        same(interpret(kernel, arrays), machine.run(i, arrays))
