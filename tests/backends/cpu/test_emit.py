"""Kernels written by hand, as C: compiled, run, and compared with numpy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.emit import emit_kernel, parallel_extent, scratch_bytes
from graphopt_backends.cpu.targets import TARGETS, host
from programs import Running, elementwise, program_of

from graphopt.errors import IRError
from graphopt.ir.graph import Loc
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Broadcast,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Kernel,
    Let,
    LoopKind,
    Prefetch,
    Ramp,
    Scope,
    Store,
    Var,
    binary,
    block,
    broadcast,
    call,
    cast,
    const,
    index_const,
    index_var,
    load,
    select,
)

F32, BOOL = DType.F32, DType.BOOL
LANES = (1, 7, 16)
N = 112
"""A multiple of all lanes."""
pytestmark = pytest.mark.compiler


def add(a: Expr, b: Expr | int) -> Expr:
    return binary("+", a, index_const(b) if isinstance(b, int) else b)


def times(a: Expr, n: int) -> Expr:
    return binary("*", a, index_const(n))


def random(dtype: DType, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype is BOOL:
        return rng.random(n) < 0.5
    if dtype.is_float:
        values = rng.standard_normal(n) * 3
        values[:4] = np.nan, np.inf, -np.inf, -0.0
        return values.astype(dtype.numpy)
    low = 0 if dtype is DType.U8 else -90
    return rng.integers(low, 100, n).astype(dtype.numpy)


def same(got: np.ndarray, expected: np.ndarray, message: str = "") -> None:
    """Equal, NaN where NaN is; numpy cannot tell so for bfloat16."""
    assert got.dtype == expected.dtype
    if got.dtype == DType.BF16.numpy:
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_array_equal(got, expected, err_msg=message)


# Operators -------------------------------------------------------------------------------------

ARITHMETIC = [
    ("+", np.add), ("-", np.subtract), ("*", np.multiply), ("min", np.minimum), ("max", np.maximum),
]  # fmt: skip
DIVISION = [("//", np.floor_divide), ("%", np.mod)]
NUMBERS = [d for d in DType if d is not BOOL]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_arithmetic(tmp_path: Path, dtype: DType, lanes: int) -> None:
    a, b = random(dtype, N), random(dtype, N, 1)
    operators = ARITHMETIC if dtype.is_float else [*ARITHMETIC, *DIVISION]
    if not dtype.is_float:
        b[:3] = 0, 1, -1 if dtype is not DType.U8 else 2
    kernels = [
        elementwise(f"k{i}", lambda x, y, op=op: binary(op, x, y), [dtype] * 2, dtype, lanes, N)
        for i, (op, _) in enumerate(operators)
    ]
    results = Running(program_of(*kernels), host(), tmp_path)(a, b)
    for (op, reference), got in zip(operators, results, strict=True):
        with np.errstate(all="ignore"):
            same(got, reference(a, b), op)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", [F32, DType.F64, DType.F16, DType.I64, DType.U8], ids=str)
def test_comparisons_and_selection(tmp_path: Path, dtype: DType, lanes: int) -> None:
    def compute(x: Expr, y: Expr, c: Expr) -> Expr:
        mask = binary("or", binary("and", binary("<", x, y), c), binary("==", x, y))
        mask = binary("xor", mask, const(True, BOOL, lanes))
        return select(mask, x, y)

    a, b, c = random(dtype, N), random(dtype, N, 1), random(BOOL, N, 2)
    kernel = elementwise("k", compute, [dtype, dtype, BOOL], dtype, lanes, N)
    (got,) = Running(program_of(kernel), host(), tmp_path)(a, b, c)
    mask = ~(((a < b) & c) | (a == b))
    np.testing.assert_array_equal(got, np.where(mask, a, b))


@pytest.mark.parametrize("lanes", LANES)
def test_boolean_results(tmp_path: Path, lanes: int) -> None:
    kernel = elementwise("k", lambda x, c: binary("==", call("isnan", x, dtype=BOOL), c),
                         [DType.F64, BOOL], BOOL, lanes, N)  # fmt: skip
    a, c = random(DType.F64, N), random(BOOL, N, 2)
    (got,) = Running(program_of(kernel), host(), tmp_path)(a, c)
    np.testing.assert_array_equal(got, np.isnan(a) == c)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("source", list(DType), ids=str)
def test_casts(tmp_path: Path, source: DType, lanes: int) -> None:
    a = random(source, N)
    if source.is_float:
        a[:4] = 0.4, -1.6, 2.5, -0.0
    a = np.abs(a)  # C leaves negative floats to unsigned integers undefined
    kernels = [
        elementwise(f"to_{t}", lambda x, t=t: cast(x, t), [source], t, lanes, N) for t in DType
    ]
    results = Running(program_of(*kernels), host(), tmp_path)(a)
    for target, got in zip(DType, results, strict=True):
        same(got, a.astype(target.numpy), f"{source} to {target}")


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16], ids=str)
def test_halves_round_to_nearest_even(tmp_path: Path, dtype: DType, lanes: int) -> None:
    bits = np.arange(0, 1 << 32, 65_521, dtype=np.uint64)[:65_536].astype(np.uint32)
    x = np.concatenate([bits, (np.arange(4096) * 0x1000 + 0x38000000).astype(np.uint32)])
    x = x[: len(x) // N * N].view(np.float32)
    kernel = elementwise("k", lambda v: cast(v, dtype), [F32], dtype, lanes, len(x))
    (got,) = Running(program_of(kernel), host(), tmp_path)(x)
    with np.errstate(all="ignore"):
        expected = x.astype(dtype.numpy)
    same(got, expected)


# Memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [8, 5, 3])
@pytest.mark.parametrize("dtype", [F32, DType.F16, DType.I8, BOOL], ids=str)
def test_vector_access_patterns(tmp_path: Path, dtype: DType, lanes: int) -> None:
    """Contiguous, reversed, strided, broadcast, gathered; stored contiguous, strided, scattered."""
    n = 96
    a, order = Buffer.dense("a", dtype, (n,)), Buffer.dense("order", INDEX, (lanes,))
    out = Buffer.dense("out", dtype, (6, 64))
    lane = Ramp(INDEX, lanes, index_const(0), 1)
    sources: list[Expr] = [
        Ramp(INDEX, lanes, add(index_var("i"), 3), 1),
        Ramp(INDEX, lanes, add(index_var("i"), 20), -1),
        Ramp(INDEX, lanes, index_var("i"), 7),
        Broadcast(INDEX, lanes, add(index_var("i"), 5)),
        load(order, lane),
    ]
    stores = [
        Store(
            out, (index_const(r), Ramp(INDEX, lanes, times(index_var("i"), lanes), 1)), load(a, s)
        )
        for r, s in enumerate(sources)
    ]
    spread = Ramp(INDEX, lanes, index_var("i"), 8)
    stores.append(Store(out, (index_const(5), spread), load(a, sources[0])))
    kernel = Kernel("go_access", (a, order, out), ("out",), For("i", 8, block(*stores)))
    x, picks = random(dtype, n), np.array([90, 3, 3, 0, 17, 4, 95, 8])[:lanes]
    (got,) = Running(program_of(kernel), host(), tmp_path)(x, picks)
    for i in range(8):
        step = slice(lanes * i, lanes * i + lanes)
        np.testing.assert_array_equal(got[0, step], x[i + 3 : i + 3 + lanes])
        np.testing.assert_array_equal(got[1, step], x[i + 21 - lanes : i + 21][::-1])
        np.testing.assert_array_equal(got[2, step], x[i : i + 7 * lanes : 7])
        np.testing.assert_array_equal(got[3, step], np.repeat(x[i + 5], lanes))
        np.testing.assert_array_equal(got[4, step], x[picks])
        np.testing.assert_array_equal(got[5, i : 8 * lanes : 8], x[i + 3 : i + 3 + lanes])


@pytest.mark.parametrize("lanes", [8, 5])
@pytest.mark.parametrize("reduce", ["", "+", "*", "min", "max"])
@pytest.mark.parametrize("dtype", [F32, DType.I32, DType.U8], ids=str)
def test_accumulating_stores(tmp_path: Path, dtype: DType, reduce: str, lanes: int) -> None:
    """Contiguous vectors, one element, and a scatter in which indices repeat; what lies behind a
    vector stays as it is."""
    a, out = Buffer.dense("a", dtype, (64,)), Buffer.dense("out", dtype, (3, 8))
    where = Buffer.dense("where", INDEX, (lanes,))
    lane, i = Ramp(INDEX, lanes, index_const(0), 1), index_var("i")
    row = load(a, Ramp(INDEX, lanes, times(i, 8), 1))
    k = Kernel("go_accumulate", (a, where, out), ("out",), For("i", 8, block(
        Store(out, (index_const(0), lane), row, reduce),
        Store(out, (index_const(1), i), load(a, i), reduce),
        Store(out, (index_const(2), load(where, lane)), row, reduce),
    )))  # fmt: skip
    x = np.random.default_rng(3).integers(1, 4, 64).astype(dtype.numpy)
    picks = np.array([1, 1, 0, 5, 5, 5, 2, 7])[:lanes]
    expected = np.full((3, 8), 7, dtype.numpy)
    for r in range(8):
        vector = x[8 * r : 8 * r + lanes]
        _accumulate(expected[0], np.arange(lanes), vector, reduce)
        _accumulate(expected[1], np.array([r]), x[r : r + 1], reduce)
        _accumulate(expected[2], picks, vector, reduce)
    (got,) = Running(program_of(k), host(), tmp_path)(x, picks)
    np.testing.assert_array_equal(got, expected)


def _accumulate(out: np.ndarray, at: np.ndarray, values: np.ndarray, reduce: str) -> None:
    ufunc = {"+": np.add, "*": np.multiply, "min": np.minimum, "max": np.maximum}.get(reduce)
    if ufunc is None:
        out[at] = values
    else:
        ufunc.at(out, at, values)


def test_halo_lies_before_index_zero(tmp_path: Path) -> None:
    """A buffer with a border of one row and column: indices from -1 on."""
    a = Buffer("a", F32, (4, 4), (6, 1), offset=7, halo=((1, 1), (1, 1)))
    out = Buffer.dense("out", F32, (4, 4))
    i, j = index_var("i"), index_var("j")
    total = binary("+", load(a, add(i, -1), add(j, -1)), load(a, add(i, 1), add(j, 1)))
    k = Kernel("go_halo", (a, out), ("out",), For("i", 4, For("j", 4, Store(out, (i, j), total))))
    x = np.arange(36, dtype=np.float32).reshape(6, 6)
    (got,) = Running(program_of(k), host(), tmp_path)(x)
    np.testing.assert_array_equal(got, x[:4, :4] + x[2:, 2:])


# Registers, scratch, structure -----------------------------------------------------------------


def matmul(lanes: int, rows: int, panels: int, m: int, n: int, k: int) -> Kernel:
    """Register tile of rows x panels vectors, as the schedule leaves it."""
    a, b = Buffer.dense("a", F32, (m, k)), Buffer.dense("b", F32, (k, n))
    out = Buffer.dense("out", F32, (m, n))
    acc = Buffer.dense("acc", F32, (rows, panels * lanes), Scope.REGISTER)
    mo, no, ki = index_var("mo"), index_var("no"), index_var("k")
    init, fma, finish = [], [], []
    for r in range(rows):
        for p in range(panels):
            at = (index_const(r), Ramp(INDEX, lanes, index_const(p * lanes), 1))
            column = Ramp(INDEX, lanes, add(times(no, panels * lanes), p * lanes), 1)
            row = add(times(mo, rows), r)
            term = binary("*", broadcast(load(a, row, ki), lanes), load(b, ki, column))
            init.append(Store(acc, at, const(0.0, F32, lanes)))
            fma.append(Store(acc, at, term, "+"))
            finish.append(Store(out, (row, column), load(acc, *at)))
    prefetch = Prefetch(b, (add(ki, 8), times(no, panels * lanes)))
    tile = block(Alloc(acc), *init, For("k", k, block(prefetch, *fma)), *finish)
    inner = For("no", n // (panels * lanes), tile)
    return Kernel(
        "go_matmul", (a, b, out), ("out",), For("mo", m // rows, inner, LoopKind.PARALLEL)
    )


def test_register_tile(tmp_path: Path) -> None:
    kernel = matmul(16, 6, 4, 12, 128, 40)
    a, b = random(F32, 480).reshape(12, 40), random(F32, 5120, 1).reshape(40, 128)
    a.flat[:4] = b.flat[:4] = 1
    (got,) = Running(program_of(kernel), host(), tmp_path)(a, b)
    # 40 products of about 9: f32 rounding 40 * 9 * 2^-24
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, atol=1e-4)


def test_register_tile_reads_well() -> None:
    text = emit_kernel(matmul(16, 2, 2, 4, 64, 40), TARGETS["x86-64-v4"],
                       locs=[Loc("layer1.0", "model.py:12")])  # fmt: skip
    function = text[text.index("{\n", text.rindex("go_matmul")) :]
    assert (
        function
        == """{
    (void)scratch;
    for (int64_t mo = begin; mo < end; mo++) {
        for (int64_t no = 0; no < 2; no++) {
            f32x16 acc_0_0, acc_0_1, acc_1_0, acc_1_1;
            acc_0_0 = go_splat_f32x16(0.0f);
            acc_0_1 = go_splat_f32x16(0.0f);
            acc_1_0 = go_splat_f32x16(0.0f);
            acc_1_1 = go_splat_f32x16(0.0f);
            for (int64_t k = 0; k < 40; k++) {
                __builtin_prefetch(b + 64 * k + 32 * no + 512);
                acc_0_0 += a[80 * mo + k] * *(const f32x16u *)(b + 64 * k + 32 * no);
                acc_0_1 += a[80 * mo + k] * *(const f32x16u *)(b + 64 * k + 32 * no + 16);
                acc_1_0 += a[80 * mo + k + 40] * *(const f32x16u *)(b + 64 * k + 32 * no);
                acc_1_1 += a[80 * mo + k + 40] * *(const f32x16u *)(b + 64 * k + 32 * no + 16);
            }
            *(f32x16u *)(out + 128 * mo + 32 * no) = acc_0_0;
            *(f32x16u *)(out + 128 * mo + 32 * no + 16) = acc_0_1;
            *(f32x16u *)(out + 128 * mo + 32 * no + 64) = acc_1_0;
            *(f32x16u *)(out + 128 * mo + 32 * no + 80) = acc_1_1;
        }
    }
}
"""
    )
    assert text.startswith(
        "/* go_matmul, for x86-64-v4 (avx512)\n *   computes layer1.0 at model.py:12\n */"
    )


@pytest.mark.parametrize("lanes", [2, 3, 4, 7, 8, 13, 16])
@pytest.mark.parametrize("dtype", [F32, DType.F64, DType.I32, DType.U8, DType.I64], ids=str)
def test_reductions_across_lanes(tmp_path: Path, dtype: DType, lanes: int) -> None:
    names = ["add", "mul", "max", "min"]
    a, out = Buffer.dense("a", dtype, (lanes,)), Buffer.dense("out", dtype, (len(names),))
    row = load(a, Ramp(INDEX, lanes, index_const(0), 1))
    body = block(*(
        Store(out, (index_const(i),), Call(dtype, 1, f"reduce_{n}", (row,)))
        for i, n in enumerate(names)
    ))  # fmt: skip
    x = (np.random.default_rng(0).integers(1, 3, lanes)).astype(dtype.numpy)
    (got,) = Running(program_of(Kernel("go_r", (a, out), ("out",), body)), host(), tmp_path)(x)
    with np.errstate(all="ignore"):
        expected = [x.sum(), x.prod(), x.max(), x.min()]
    np.testing.assert_array_equal(got, np.array(expected).astype(dtype.numpy))


def test_boolean_reductions(tmp_path: Path) -> None:
    a, out = Buffer.dense("a", BOOL, (4, 8)), Buffer.dense("out", BOOL, (2, 4))
    i = index_var("i")
    row = load(a, i, Ramp(INDEX, 8, index_const(0), 1))
    body = block(Let("row", row), *(
        Store(out, (index_const(n), i), Call(BOOL, 1, name, (Var(BOOL, 8, "row"),)))
        for n, name in enumerate(("reduce_or", "reduce_and"))
    ))  # fmt: skip
    k = Kernel("go_any", (a, out), ("out",), For("i", 4, body))
    x = np.array([[0] * 8, [1] * 8, [0, 1] * 4, [0] * 7 + [1]], bool)
    (got,) = Running(program_of(k), host(), tmp_path)(x)
    np.testing.assert_array_equal(got, [x.any(1), x.all(1)])


def test_scratch_and_stack_are_private_to_threads(tmp_path: Path) -> None:
    """Softmax of rows through a scratch row and a stack row, on three threads."""
    rows, n, lanes = 64, 48, 8
    a, out = Buffer.dense("a", F32, (rows, n)), Buffer.dense("out", F32, (rows, n))
    row = Buffer.dense("row", F32, (n,), Scope.SCRATCH)
    copy = Buffer.dense("copy", F32, (n,), Scope.STACK)
    acc = Buffer.dense("acc", F32, (lanes,), Scope.REGISTER)
    r, at = index_var("r"), Ramp(INDEX, lanes, times(index_var("x"), lanes), 1)
    lane = Ramp(INDEX, lanes, index_const(0), 1)
    total = Call(F32, 1, "reduce_add", (load(acc, lane),))
    body = block(
        Alloc(row), Alloc(copy), Alloc(acc),
        Store(acc, (lane,), const(0.0, F32, lanes)),
        For("x", n // lanes, Store(row, (at,), call("exp", load(a, r, at)))),
        For("x", n // lanes, Store(copy, (at,), load(row, at))),
        For("x", n // lanes, Store(acc, (lane,), load(copy, at), "+")),
        Let("total", total),
        For("x", n // lanes, Store(
            out, (r, at), binary("/", load(copy, at), broadcast(Var(F32, 1, "total"), lanes)),
        )),
    )  # fmt: skip
    k = Kernel("go_softmax", (a, out), ("out",), For("r", rows, body, LoopKind.PARALLEL))
    assert (scratch_bytes(k), parallel_extent(k)) == (192, rows)
    x = np.random.default_rng(0).standard_normal((rows, n)).astype(np.float32)
    run = Running(program_of(k), host(), tmp_path, threads=3)
    expected = np.exp(x.astype(np.float64))
    expected /= expected.sum(1, keepdims=True)
    for _ in range(50):
        np.testing.assert_allclose(run(x)[0], expected, rtol=1e-6)


def test_unrolled_loops_over_registers_are_written_out(tmp_path: Path) -> None:
    a, out = Buffer.dense("a", F32, (4, 8)), Buffer.dense("out", F32, (4, 8))
    acc = Buffer.dense("acc", F32, (4, 8), Scope.REGISTER)
    u, lane = index_var("u"), Ramp(INDEX, 8, index_const(0), 1)
    double = binary("*", load(a, u, lane), const(2.0, F32, 8))
    k = Kernel("go_unroll", (a, out), ("out",), block(
        Alloc(acc),
        For("u", 4, block(Let("t", double), Store(acc, (u, lane), Var(F32, 8, "t"))),
            LoopKind.UNROLL),
        For("u", 4, Store(out, (u, lane), load(acc, u, lane)), LoopKind.UNROLL),
    ))  # fmt: skip
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    (got,) = Running(program_of(k), host(), tmp_path)(x)
    np.testing.assert_array_equal(got, 2 * x)


def test_names_may_shadow_and_repeat(tmp_path: Path) -> None:
    """IR names that are C keywords, that repeat, and a Let in terms of an outer one of its name."""
    a, out = Buffer.dense("float", F32, (4,)), Buffer.dense("out", F32, (4,))
    i, v = index_var("int"), Var(F32, 1, "v")
    k = Kernel("go_names", (a, out), ("out",), For("int", 4, block(
        Let("v", load(a, i)),
        Let("v", binary("+", v, const(1.0, F32))),
        For("int", 1, Let("v", binary("*", v, v))),
        If(binary("<", i, index_const(2)), Store(out, (i,), v), Store(out, (i,), const(0.5, F32))),
    )))  # fmt: skip
    x = np.arange(4, dtype=np.float32)
    (got,) = Running(program_of(k), host(), tmp_path)(x)
    np.testing.assert_array_equal(got, [1, 2, 0.5, 0.5])


def test_shared_subexpressions_are_computed_once() -> None:
    """x = x*x + x forty times over is forty lines, not 2^40 terms."""

    def compute(x: Expr) -> Expr:
        for _ in range(40):
            x = binary("+", binary("*", x, x), x)
        return x

    text = emit_kernel(elementwise("chain", compute, [F32], F32, 8, 64), TARGETS["x86-64-v3"])
    assert text.count("\n") < 70
    assert "const f32x8 t39 = t38 * t38 + t38;" in text


def test_nontemporal_stores(tmp_path: Path) -> None:
    a, out = Buffer.dense("a", F32, (64,)), Buffer.dense("out", F32, (64,))
    at = Ramp(INDEX, 16, times(index_var("x"), 16), 1)
    k = Kernel(
        "go_stream", (a, out), ("out",), For("x", 4, Store(out, (at,), load(a, at), "", True))
    )
    assert "__builtin_nontemporal_store" in emit_kernel(k, host())
    x = random(F32, 64)
    (got,) = Running(program_of(k), host(), tmp_path)(x)
    np.testing.assert_array_equal(got, x)


def test_in_place_parameters_lose_restrict() -> None:
    k = elementwise("k", lambda x: x, [F32], F32, 8, 64)
    assert "float *restrict out" in emit_kernel(k, host())
    assert "restrict" not in emit_kernel(k, host(), aliased=frozenset({"in0", "out"}))


# Plain C99 and other compilers -----------------------------------------------------------------


def test_one_lane_is_plain_c99(tmp_path: Path) -> None:
    """No vector types, attributes, builtins or pragmas: any C99 compiler takes it."""
    functions = ["exp", "log", "erf", "tanh", "sin", "floor", "rsqrt", "expm1", "log1p"]
    for name in functions:
        kernel = elementwise(name, lambda x, n=name: call(n, x), [F32], F32, 1, 64)
        (tmp_path / f"{name}.c").write_text(emit_kernel(kernel, TARGETS["scalar"]))
    for dtype in (DType.F16, DType.BF16, DType.I8, BOOL):
        kernel = elementwise(str(dtype), lambda x, d=dtype: cast(x, d), [F32], dtype, 1, 64)
        (tmp_path / f"{dtype}.c").write_text(emit_kernel(kernel, TARGETS["scalar"]))
    sources = sorted(tmp_path.glob("*.c"))
    assert not any("__" in path.read_text() for path in sources)
    from graphopt_backends.cpu.build import find_compiler

    flags = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
    for path in sources:
        command = [*find_compiler().command, *flags, "-c", str(path), "-o", f"{path}.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_gpu_loops_are_refused() -> None:
    out = Buffer.dense("out", F32, (4,))
    store = Store(out, (index_var("b"),), const(0.0, F32))
    kernel = Kernel("go_gpu", (out,), ("out",), For("b", 4, store, LoopKind.BLOCK))
    with pytest.raises(IRError) as caught:
        emit_kernel(kernel, host())
    assert str(caught.value) == (
        "kernel 'go_gpu' has a GPU block loop 'b'\nhint: lower the region for a CPU target"
    )


def test_registers_indexed_by_a_loop_are_refused() -> None:
    acc = Buffer.dense("acc", F32, (4,), Scope.REGISTER)
    body = block(Alloc(acc), For("i", 4, Store(acc, (index_var("i"),), const(0.0, F32))))
    with pytest.raises(IRError) as caught:
        emit_kernel(Kernel("go_k", (), (), body), host())
    assert str(caught.value) == (
        "register buffer 'acc' is indexed by a loop variable or with a stride\n"
        "hint: unroll the loops around its accesses, or allocate it on the stack"
    )
