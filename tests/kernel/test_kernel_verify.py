"""The kernel verifier: what it refuses, in which words, and what it admits not to know."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from graphopt.check import kernels
from graphopt.errors import IRError
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Binary,
    Broadcast,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    Kernel,
    Load,
    Ramp,
    Scope,
    Select,
    Stmt,
    Store,
    Var,
    block,
    const,
    index_const,
    index_var,
)
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.verify import verify_kernel

F32 = DType.F32


def _k(body: str) -> str:
    head = "kernel k(x: f32[32], i: i64[8], y: f32[32] output) {\n"
    return head + body + "\n}"


def _message(kernel: Kernel, **options: bool) -> str:
    with pytest.raises(IRError) as caught:
        verify_kernel(kernel, **options)
    return str(caught.value)


IN = "\nin: "
ERRORS = [
    # Types and names.
    ("y[0] = n:f32",
     "k: 'n' is not bound\nin: y[0] = n:f32\nhint: bound here: nothing"),
    ("let n = 1.5 y[0] = n:f32x4",
     "k: 'n' is used as f32x4 but bound as f32\nin: y[0] = n:f32x4\n"
     "hint: a variable has the type of its loop or let"),
    ("y[0] = i[0]", "k: what is stored in 'y' is i64, not f32: i[0]\nin: y[0] = i[0]\n"
     "hint: cast it: cast:f32(..)"),
    ("y[0] = x[ramp(0, 1, 4)]",
     "k: what is stored in 'y' is f32x4, not f32: x[ramp(0, 1, 4)]\nin: y[0] = x[ramp(0, 1, 4)]\n"
     "hint: reduce it across its lanes"),
    ("y[ramp(0, 1, 4)] = x[0]",
     "k: what is stored in 'y' is f32, not f32x4: x[0]\nin: y[ramp(0, 1, 4)] = x[0]\n"
     "hint: write splat(.., 4)"),
    ("y[0] = x[0] + i[0]",
     "k: an operand of + is i64, not f32: i[0]\nin: y[0] = x[0] + i[0]\n"
     "hint: cast it: cast:f32(..)"),
    ("y[0] = x[0] and x[1]",
     "k: and of f32: x[0] and x[1]\nin: y[0] = x[0] and x[1]\n"
     "hint: cast the operands, or use // for /"),
    ("y[i[0] / 2] = 1.0",
     "k: / of i64: i[0] / 2\nin: y[i[0] / 2] = 1.0\nhint: cast the operands, or use // for /"),
    ("y[0] = x[x[0]]",
     "k: an index of 'x' is f32, not i64: x[0]\nin: y[0] = x[x[0]]\nhint: cast it: cast:i64(..)"),
    ("y[0] = select(x[0], x[1], x[2])",
     "k: the condition of a select is f32, not bool: x[0]\nin: y[0] = select(x[0], x[1], x[2])\n"
     "hint: cast it: cast:bool(..)"),
    ("if x[0] { }", "k: the condition of an if is f32, not bool: x[0]\nin: if x[0] { }\n"
     "hint: cast it: cast:bool(..)"),
    ("y[0] = cast:f32(exp(i[0]))",
     "k: exp of i64: exp(i[0])\nin: y[0] = cast:f32(exp(i[0]))\n"
     "hint: it takes bf16, f16, f32, f64"),
    ("y[0, 1] = 1.0", "k: 'y' has 1 axes, not 2\nin: y[0, 1] = 1.0\n"
     "hint: give one index for each axis"),
    ("x[0] = 1.0", "k: 'x' is an input\nin: x[0] = 1.0\nhint: declare it as an output"),
    ("y[0] and= x[0]", "k: and of f32\nin: y[0] and= x[0]\nhint: it is for integers and bool"),
    # Structure.
    ("for a in 0..2 { parallel b in 0..16 { y[a * 16 + b] = 1.0 } }",
     "k: parallel loop 'b' is inside loop 'a'\nin: for a in 0..2 > parallel b in 0..16 { }\n"
     "hint: threads share outermost loops, and one that such a loop ends in: fuse the two"),
    ("parallel a in 0..2 { parallel b in 0..8 { y[a * 8 + b] = 1.0 } y[a + 16] = 2.0 }",
     "k: parallel loop 'b' is inside loop 'a'\nin: parallel a in 0..2 > parallel b in 0..8 { }\n"
     "hint: threads share outermost loops, and one that such a loop ends in: fuse the two"),
    ("parallel a in 0..2 { y[a + 16] = 2.0 parallel b in 0..8 { y[a * 8 + b] = 1.0 } }",
     "k: what stands before parallel loop 'b' writes 'y'\n"
     "in: parallel a in 0..2 > y[a + 16] = 2.0\n"
     "hint: every thread that shares the loop does it: write to a buffer allocated there"),
    ("parallel a in 0..2 { alloc t: f32[1] stack t[0] = 0.0 parallel b in 0..4 { t[0] += x[b] } }",
     "k: iterations of parallel loop 'b' write the same element of 't'\n"
     "hint: make the loop serial, or give every iteration elements of its own"),
    ("vector a in 0..4 { for b in 0..4 { y[a * 4 + b] = 1.0 } }",
     "k: vector loop 'a' holds loop 'b'\nin: vector a in 0..4 { }\n"
     "hint: its iterations run at once: move what repeats out of it"),
    ("alloc r: f32[4] register for a in 0..4 { r[a] = 1.0 }",
     "k: register buffer 'r' is indexed by a\nin: for a in 0..4 > r[a] = 1.0\n"
     "hint: unroll the loops around it, or allocate it on the stack"),
    ("alloc t: f32[4] offset -1 stack t[0] = 1.0",
     "k: buffer 't' starts 1 elements before its pointer\n"
     "hint: its offset must leave room for the halo"),
    # Bounds.
    ("for a in 0..33 { y[a] = 1.0 }",
     "k: index 0 of a store to 'y' leaves 0..32: it takes 0 to 32\nin: y[a] = 1.0\n"
     "hint: both sides of a select are evaluated: clamp the index, or use if"),
    ("for a in 0..4 { for b in 0..8 { y[a * 8 + b] = x[a * 8 + b + 1] } }",
     "k: index 0 of a load from 'x' leaves 0..32: it takes 1 to 32\n"
     "in: y[a * 8 + b] = x[a * 8 + b + 1]\n"
     "hint: both sides of a select are evaluated: clamp the index, or use if"),
    ("for a in 0..4 { y[ramp(a * 8 - 1, 1, 8)] = splat(1.0, 8) }",
     "k: index 0 of a store to 'y' leaves 0..32: it takes -1 to 30\n"
     "in: y[ramp(a * 8 - 1, 1, 8)] = 1.0\n"
     "hint: both sides of a select are evaluated: clamp the index, or use if"),
    ("y[40 + i[0] % 8] = 1.0",
     "k: index 0 of a store to 'y' leaves 0..32: it takes 40 to 47\nin: y[40 + i[0] % 8] = 1.0\n"
     "hint: both sides of a select are evaluated: clamp the index, or use if"),
    # Races.
    ("parallel a in 0..4 { y[0] += x[a] }",
     "k: iterations of parallel loop 'a' write the same element of 'y'\n"
     "hint: make the loop serial, or give every iteration elements of its own"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), ERRORS, ids=[b for b, _ in ERRORS])
def test_error_text(body: str, message: str) -> None:
    assert _message(parse_kernel(_k(body))) == message


UNPROVEN = [
    ("alloc t: f32[8] stack parallel a in 0..7 { t[a] = t[a + 1] alloc t: f32[8] stack }",
     ["iterations of parallel loop 'a' may write the same element of 't'"]),
    ("y[i[0]] = 1.0", ["index 0 of a store to 'y' may leave 0..32: "
     "it takes -9223372036854775808 to 9223372036854775808"]),
    ("for a in 0..40 { if a < 33 { y[a] = 1.0 } }",
     ["index 0 of a store to 'y' may leave 0..32: it takes 0 to 32"]),
    ("for a in 0..40 { if a < 32 { } else { y[a] = 1.0 } }",
     ["index 0 of a store to 'y' may leave 0..32: it takes 0 to 39"]),
    ("for a in 0..40 { if x[a % 32] < 32.0 { y[a] = 1.0 } }",
     ["index 0 of a store to 'y' may leave 0..32: it takes 0 to 39"]),
    ("parallel a in 0..8 { y[max(min(i[a], 31), 0)] = 1.0 }",
     ["iterations of parallel loop 'a' may write the same element of 'y'"]),
    ("parallel a in 0..16 { y[a * 2 + 1] = 1.0 y[a] = 2.0 }",
     ["iterations of parallel loop 'a' may write the same element of 'y'"]),
    ("parallel a in 0..31 { y[a] = y[a + 1] }",
     ["iterations of parallel loop 'a' may write the same element of 'y'"]),
    ("vector a in 0..8 { y[a + 1] = y[a] }",
     ["iterations of vector loop 'a' may write the same element of 'y'"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "what"), UNPROVEN, ids=[b for b, _ in UNPROVEN])
def test_unproven(body: str, what: list[str]) -> None:
    assert [u.what for u in verify_kernel(parse_kernel(_k(body)))] == what


PROVED = [
    "for a in 0..40 { if a < 32 { y[a] = 1.0 } }",
    "for a in 0..40 { if 8 <= a { y[a - 8] = 1.0 } }",
    "for a in 0..40 { if a == 7 { y[a * 4] = 1.0 } }",
    "for a in 0..3 { for b in 0..5 { if a * 4 < 3 and b < 2 { y[a * 16 + b * 8 + 7] = 1.0 } } }",
    "for a in 0..5 { if a * 8 + 8 <= 32 { y[ramp(a * 8, 1, 8)] = splat(1.0, 8) } }",
    "let n = i[0] if n >= 0 and n < 32 { y[n] = x[31 - n] }",
    "alloc t: f32[1] stack t[0] = 1.0 parallel a in 0..8 { alloc t: f32[1] stack t[0] = x[a] }",
    "y[max(min(i[0], 31), 0)] = x[i[1] % 32]",
    "parallel a in 0..4 { for b in 0..8 { y[a * 8 + b] = 1.0 } }",
    "parallel a in 0..4 { for b in 0..8 { y[b * 4 + a] = 1.0 } }",
    "parallel a in 0..8 { y[a // 2 * 8 + a % 2 * 4] = 1.0 }",
    "parallel a in 0..8 { y[a // 4 * 16 + a // 2 % 2 * 8 + a % 2 * 4 + 3] = 1.0 }",
    "parallel a in 0..2 { y[ramp(a, 2, 8)] = splat(1.0, 8) y[ramp(a + 16, 2, 8)] = splat(2.0, 8) }",
    "parallel a in 0..4 { y[a * 2] = 1.0 y[a * 2 + 1] = 2.0 y[a * 2 + 16] = 3.0 }",
    "parallel a in 0..8 { let n = a * 4 y[n] = x[n + 3] y[n + 3] = y[n] }",
    "parallel a in 0..8 { alloc t: f32[1] stack t[0] = x[a] y[a] = t[0] }",
    "parallel a in 0..2 { alloc t: f32[1] stack t[0] = x[a] "
    "parallel b in 0..8 { y[a * 8 + b] = t[0] } }",
    "for a in 0..2 { for a in 0..16 { y[a * 2 + 1] = 1.0 } y[a] = 2.0 }",
    "for a in 0..0 { y[99] = 1.0 }",
    "alloc r: f32[4] register unroll a in 0..4 { r[a] = 1.0 } y[0] = r[3]",
    "for a in 0..4 { prefetch x[a * 8 + 64] }",
]


@pytest.mark.parametrize("body", PROVED)
def test_proved(body: str) -> None:
    assert not verify_kernel(parse_kernel(_k(body)))


def test_registers_may_be_indexed_before_unrolling() -> None:
    kernel = parse_kernel(_k("alloc r: f32[4] register for a in 0..4 { r[a] = 1.0 }"))
    assert not verify_kernel(kernel, complete=False)


X, Y = Buffer.dense("x", F32, (4,)), Buffer.dense("y", F32, (4,))
ZERO = index_const(0)
ONE = const(1.0, F32)


def _of(value: Expr | Stmt) -> Kernel:
    body = Store(Y, (ZERO,), value) if isinstance(value, Expr) else value
    return Kernel("k", (X, Y), ("y",), body)


# What text cannot say, or the builders would mend.
MADE = [
    (Binary(F32, 1, "^", ONE, ONE), "there is no operator '^'"),
    (Binary(DType.BOOL, 1, "+", ONE, ONE), "1.0 + 1.0 is f32, but says bool"),
    (Binary(F32, 4, "+", ONE, const(1.0, F32, 4)), "an operand of + is f32, not f32x4: 1.0"),
    (Call(F32, 1, "exq", (ONE,)), "there is no intrinsic 'exq'"),
    (Call(F32, 1, "pow", (ONE,)), "pow takes 2 arguments, not 1"),
    (Call(DType.F64, 1, "exp", (ONE,)), "exp:f64(1.0) says it is f64"),
    (Load(DType.F64, 1, X, (ZERO,)), "x[0] says it is f64"),
    (Load(F32, 1, Buffer.dense("z", F32, (4,)), (ZERO,)), "there is no buffer 'z' here"),
    (Load(F32, 1, Buffer.dense("x", F32, (9,)), (ZERO,)),
     "'x' is another buffer here than the statement says"),
    (Const(F32, 1, "1"), "'1' is no constant of f32"),  # type: ignore[arg-type]
    (Cast(F32, 1, Const(DType.U8, 1, 300)), "300 is no constant of u8"),
    (Cast(F32, 4, ONE), "what is cast is f32, not f32x4: 1.0"),
    (Broadcast(F32, 1, ONE), "splat(1.0, 1) has one lane"),
    (const(1.0, F32, 0), "0 lanes are no vector: splat(1.0, 0)"),
    (Select(F32, 1, const(True, DType.BOOL), ONE, const(1, INDEX)),
     "the second choice of a select is i64, not f32: 1"),
    (Load(F32, 4, Buffer.dense("x", F32, (4,)), (Ramp(INDEX, 4, ONE, 1),)),
     "the start of a ramp is f32, not i64: 1.0"),
    (Store(Y, (ZERO,), ONE, "avg"), "'avg' is no reduction"),
    (Alloc(Buffer.dense("t", F32, (4,))), "'t' is allocated as a parameter"),
    (For("n", -1, block()), "loop 'n' runs -1 times"),
    (Expr(F32, 1), "Expr is no expression"),
    (block(Stmt()), "Stmt is no statement"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "message"), MADE, ids=[m for _, m in MADE])
def test_trees_that_no_text_makes(value: Expr | Stmt, message: str) -> None:
    assert f"k: {message}\n" in _message(_of(value)) + "\n"


INTERFACE = [
    ((X, dataclasses.replace(Y, name="x")), ("x",), "k: two parameters are called 'x'"),
    ((X, dataclasses.replace(Y, scope=Scope.STACK)), ("y",), "k: parameter 'y' has scope stack"),
    ((X, Y), ("z",), "k: outputs ['z'] are not among its parameters ['x', 'y'], in order"),
    ((X, Y), ("y", "x"), "k: outputs ['y', 'x'] are not among its parameters ['x', 'y'], in order"),
    ((X, dataclasses.replace(Y, strides=(1, 1))), ("y",),
     "k: strides or halo of 'y' do not have 1 axes"),
    ((X, dataclasses.replace(Y, shape=(-1,))), ("y",), "k: buffer 'y' has a negative extent: [-1]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "outputs", "message"), INTERFACE, ids=[m for *_, m in INTERFACE]
)
def test_interfaces(params: tuple[Buffer, ...], outputs: tuple[str, ...], message: str) -> None:
    assert message in _message(Kernel("k", params, outputs, block()))


def test_halos_are_inside() -> None:
    text = """kernel k(x: f32[4] offset 1 halo[1:2], y: f32[4] output) {{
  for i in 0..4 {{ y[i] = x[i - 1] + x[i + {}] }}
}}"""
    assert not verify_kernel(parse_kernel(text.format(2)))
    assert "leaves -1..6: it takes 3 to 6" in _message(parse_kernel(text.format(3)))


def test_unbound_after_the_loop() -> None:
    body = block(For("a", 2, block()), Store(Y, (index_var("a"),), ONE))
    assert "'a' is not bound" in _message(_of(body))
    inner = For("a", 2, Store(Y, (index_var("a"),), Var(F32, 1, "v")))
    assert "'v' is not bound" in _message(_of(inner))


@settings(deadline=None, max_examples=60)
@given(kernels())
def test_random_kernels_verify(kernel: Kernel) -> None:
    assert not verify_kernel(kernel)
