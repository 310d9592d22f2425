"""Kernel text: what it looks like, that it comes back, and what is wrong with bad text."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt.kernel
from graphopt.check import kernels, random_kernel
from graphopt.errors import IRError, ParseError
from graphopt.ir.types import DType
from graphopt.kernel.grammar import PRECEDENCE, SCOPES
from graphopt.kernel.intrinsics import INTRINSICS
from graphopt.kernel.ir import (
    INDEX,
    Binary,
    Broadcast,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Let,
    Load,
    LoopKind,
    Ramp,
    Scope,
    Store,
    Var,
    binary,
    block,
    call,
    cast,
    const,
    index_const,
    index_var,
    load,
    select,
)
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.text import print_expr, print_kernel
from graphopt.kernel.verify import verify_kernel

F32 = DType.F32

EVERYTHING = """kernel go_all(
    x: f32[4, 16] strides[18, 1] offset 19 halo[1:1, 1:1],
    ids: i32[16],
    flags: bool[16],
    y: f32[64] output,
    "in": f16[8] output
) {
  parallel i in 0..4 {
    alloc row: f32[16] scratch
    alloc acc: f32[] register
    acc[] = 0.0
    for k in 0..16 {
      prefetch x[i, k + 8]
      prefetch x[i, k + 32] l2
      row[k] = x[i, k] * 2.0 - 1e-05
      acc[] += row[k]
    }
    let total = acc[]
    let v = row[ramp(0, 1, 16)]
    let low = -inf
    if i < 2 and total > 0.5 {
      y[ramp(i * 16, 1, 16)] = max(v, 0.0) / splat(total, 16) nontemporal
    } else {
      y[i * 16] min= select(flags[i], total, low)
    }
    unroll u in 0..2 {
      "in"[u] max= cast:f16(exp(x[i, -1] + total)) * 0.5:f16
      "in"[ids[u] % 3:i32 // 1:i32] = nan:f16
    }
  }
}
"""
# An i32 index is for the verifier to refuse; the text can say it.


def test_everything_comes_back() -> None:
    assert print_kernel(parse_kernel(EVERYTHING)) == EVERYTHING


def test_newlines_and_comments_are_spaces() -> None:
    text = (
        "kernel k ( y : f32 [ 4 ] output ) { # four\n for i in 0 .. 4 { y [ i ] = 1.0 # one\n } }"
    )
    assert print_kernel(parse_kernel(text)) == (
        "kernel k(y: f32[4] output) {\n  for i in 0..4 {\n    y[i] = 1.0\n  }\n}\n"
    )


EXPRESSIONS: list[tuple[str, Expr]] = [
    ("i + 1", binary("+", index_var("i"), index_const(1))),
    ("i - -1", Const(INDEX, 1, -1)),
    ("(i + 1) * 2", binary("*", binary("+", index_var("i"), index_const(1)), index_const(2))),
    ("i - (j - 1)", binary("-", index_var("i"), binary("-", index_var("j"), index_const(1)))),
    ("i // 4 % 2", binary("%", binary("//", index_var("i"), index_const(4)), index_const(2))),
    ("1 << i", binary("<<", index_const(1), index_var("i"))),
    ("x:f32 < 1.0", binary("<", Var(F32, 1, "x"), const(1.0, F32))),
    ("x:f32x8 * 0.5", binary("*", Var(F32, 8, "x"), const(0.5, F32, 8))),
    ("splat(0.5, 8)", const(0.5, F32, 8)),
    ("splat(x:f32, 8)", Broadcast(F32, 8, Var(F32, 1, "x"))),
    ("ramp(i, -2, 4)", Ramp(INDEX, 4, index_var("i"), -2)),
    ("isnan(x:f32)", call("isnan", Var(F32, 1, "x"), dtype=DType.BOOL)),
    ("reduce_add(x:f32x8)", call("reduce_add", Var(F32, 8, "x"))),
    ("cast:i8(x:f32)", cast(Var(F32, 1, "x"), DType.I8)),
    ("select(c:boolx4, x:f32x4, inf)",
     select(Var(DType.BOOL, 4, "c"), Var(F32, 4, "x"), const(math.inf, F32))),
    ("min(x:bf16, -2.5:bf16)", binary("min", Var(DType.BF16, 1, "x"), const(-2.5, DType.BF16))),
    ("c:bool xor true", binary("xor", Var(DType.BOOL, 1, "c"), const(True, DType.BOOL))),
    ("7:u8 and b:u8", binary("and", const(7, DType.U8), Var(DType.U8, 1, "b"))),
    ('"for" + "a b"', binary("+", index_var("for"), index_var("a b"))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expr"), EXPRESSIONS, ids=[t for t, _ in EXPRESSIONS])
def test_expressions(text: str, expr: Expr) -> None:
    if text == "i - -1":
        expr = dataclasses.replace(EXPRESSIONS[0][1], op="-", b=expr)  # type: ignore[call-arg]
    if text.startswith("reduce"):
        expr = dataclasses.replace(expr, lanes=1)
    assert print_expr(expr) == text
    body = f"kernel k(y: f32[1] output) {{ let v = {text} y[0] = 0.0 }}"
    let = parse_kernel(body).body.body[0]  # type: ignore[attr-defined]
    assert let == Let("v", expr)


def test_variables_have_the_type_of_what_binds_them() -> None:
    text = "kernel k(x: f32[8], y: f32[8] output) {\n  let v = x[ramp(0, 1, 8)]\n"
    kernel = parse_kernel(text + "  y[ramp(0, 1, 8)] = v + v\n}")
    assert isinstance(kernel.body.body[1].value.a, Var)  # type: ignore[attr-defined]
    assert kernel.body.body[1].value.a == Var(F32, 8, "v")  # type: ignore[attr-defined]
    assert print_kernel(kernel).endswith("= v + v\n}\n")


def test_inner_names_end_with_their_block() -> None:
    text = """kernel k(y: f32[4] output) {
  for i in 0..4 {
    let i = 1.5
    y[0] = i
  }
  y[i] = 0.0
}
"""
    assert print_kernel(parse_kernel(text)) == text


def _chain(length: int) -> Kernel:
    """x*x + x, again and again: 2^length terms, `length` different ones."""
    x, y = Buffer.dense("x", F32, (4,)), Buffer.dense("y", F32, (4,))
    e: Expr = load(x, index_var("i"))
    for _ in range(length):
        e = binary("+", binary("*", e, e), e)
    return Kernel("chain", (x, y), ("y",), For("i", 4, Store(y, (index_var("i"),), e)))


def test_large_statements_say_once_what_they_repeat() -> None:
    text = print_kernel(_chain(40))
    assert text.count("\n") < 50
    assert "    $3 = $2 * $2 + $2\n" in text
    kernel = parse_kernel(text)
    assert print_kernel(kernel) == text
    value = kernel.body.body.value  # type: ignore[attr-defined]
    assert value.b is value.a.a is value.a.b


def test_text_depends_on_structure_alone() -> None:
    """Two equal trees print alike, whichever objects they share."""
    shared = _chain(7)
    apart = parse_kernel(print_kernel(shared))
    i = index_var("i")
    x = shared.params[0]
    e: Expr = load(x, i)
    for _ in range(7):
        copy = _copied(e)
        e = binary("+", binary("*", e, copy), _copied(copy))
    rebuilt = dataclasses.replace(shared, body=For("i", 4, Store(shared.params[1], (i,), e)))
    assert print_kernel(rebuilt) == print_kernel(shared) == print_kernel(apart)


def _copied(e: Expr) -> Expr:
    parts = {
        f.name: _copied(v)
        for f in dataclasses.fields(e)
        if isinstance(v := getattr(e, f.name), Expr)
    }
    return dataclasses.replace(e, **parts)


@settings(deadline=None, max_examples=100)
@given(kernels())
def test_random_kernels_come_back(kernel: Kernel) -> None:
    assert parse_kernel(print_kernel(kernel)) == kernel


# Errors ------------------------------------------------------------------------------------------


def _k(body: str) -> str:
    return f"kernel k(x: f32[8], y: f32[8] output) {{\n{body}\n}}"


ERRORS = [
    ("", "line 1, column 1: expected 'kernel', found the end of the text\n"
     "hint: a text starts with `kernel name(`"),
    ("kernel for() {}", "line 1, column 8: expected a kernel name, found the keyword 'for'\n"
     'hint: write "for" in quotes to use it as a name'),
    ("kernel k(x: f23[4]) {}", "line 1, column 13: 'f23' is no type\n"
     "hint: dtypes are f64, f32, f16, bf16, i64, i32, i16, i8, u8, bool"),
    ("kernel k(x: f32[4], x: f32[4]) {}", "line 1, column 21: there are two parameters 'x'"),
    ("kernel k(x: f32[4] strides[1, 1]) {}",
     "line 1, column 20: strides has 2 entries for 1 axes"),
    ("kernel k(x: f32[4 ,]) {}", "line 1, column 20: expected an extent, found ']'"),
    (_k("y[0] = x[0]") + " y", "line 3, column 3: expected the end of the text, found 'y'"),
    ("kernel k() {\n  for i in 0..4 {\n", "line 2, column 17: this { is never closed\n"
     "hint: end it with }"),
    (_k("for i in 1..4 { }"), "line 2, column 10: loops start at 0\n"
     "hint: add the start to the index instead"),
    (_k("y[0] = xx[0]"), "line 2, column 8: there is no buffer 'xx' here\nhint: did you mean 'x'?"),
    (_k("y[0] = z[0]"), "line 2, column 8: there is no buffer 'z' here\n"
     "hint: the buffers here are x, y"),
    (_k("y[0] -= 1.0"), "line 2, column 6: expected an assignment, found '-'\n"
     "hint: write one of =, +=, *=, min=, max=, and=, or="),
    (_k("y[0] = exq(x[0])"), "line 2, column 8: there is no intrinsic 'exq'\n"
     "hint: did you mean 'exp'?"),
    (_k("y[0] = pow(x[0])"), "line 2, column 8: pow takes 2 arguments, not 1"),
    (_k("y[0] = cast(x[0])"), "line 2, column 8: cast needs a dtype\nhint: write cast:f32(x)"),
    (_k("y[0] = 300:u8"), "line 2, column 8: 300 does not fit u8"),
    (_k("y[0] = 1.5:i32"), "line 2, column 8: 1.5 does not fit i32"),
    (_k("y[0] = -true"), "line 2, column 9: expected a number, found 'true'"),
    (_k("y[0] = splat(1.0, 1)"), "line 2, column 19: 1 is no number of lanes\nhint: 2 to 4096"),
    (_k("y[0] = x[0] +"), "line 3, column 1: expected an expression, found '}'"),
    (_k("y[0] = $3"), "line 2, column 8: $3 is not defined above"),
    (_k("y[0] = x[0] ; y[1]"), "line 2, column 13: unexpected character ';'"),
    (_k('y[0] = "x'), "line 2, column 8: this string has no closing quote\nhint: end it with \""),
    (_k("alloc t: f32[4]"), "line 3, column 1: expected a scope, found '}'\n"
     "hint: a local buffer is one of scratch, stack, register, shared"),
    (_k("alloc t: f32[4] heap"), "line 2, column 17: expected a scope, found 'heap'\n"
     "hint: choose scratch, stack, register, shared"),
    (_k("else { }"), "line 2, column 1: expected a statement, found 'else'\n"
     "hint: write for, let, if, alloc, a[i] = .."),
    (_k("y[0] = " + "(" * 200 + "1.0" + ")" * 200),
     "line 2, column 108: expressions are nested deeper than 100"),
    (_k("if true {" * 100 + "}" * 100),
     "line 2, column 576: statements are nested deeper than 64"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_error_text(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_kernel(text)
    assert str(caught.value) == message


TEXTS = [EVERYTHING, *(print_kernel(random_kernel(s)) for s in range(6))]
_PIECES = [
    "for", "let", "alloc", "if", "{", "}", "(", ")", "[", "]", "=", "+=", "min", "-", "0", "1.5",
    "x", "y", ":", "f32", "f32x8", "ramp", "splat", "$0", '"', "..", "%", "9" * 5000, "\n", "#",
    "\u00e9", "exp", "cast", "inf", ",",
]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_text_is_refused_or_read(data: st.DataObject) -> None:
    """Never anything but a kernel or a ParseError; what is read prints and comes back."""
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 12)))
        text = text[:at] + data.draw(st.sampled_from(["", *_PIECES])) + text[end:]
    try:
        kernel = parse_kernel(text)
    except ParseError as error:
        place = error.line, error.column
        kernel = None
    if kernel is None:
        assert min(place) >= 1
        return
    printed = print_kernel(kernel)
    assert print_kernel(parse_kernel(printed)) == printed


def test_what_is_broken_prints_for_errors() -> None:
    assert print_expr(Expr(F32, 1)) == "?Expr"
    assert print_expr(Binary(F32, 1, "^", const(1.0, F32), const(2.0, F32))) == "^(1.0, 2.0)"


def test_parse_errors_are_ir_errors() -> None:
    with pytest.raises(IRError):
        parse_kernel("kernel")


def test_every_loop_kind_and_scope() -> None:
    for kind in LoopKind:
        text = f"kernel k() {{\n  {kind.value} i in 0..2 {{\n  }}\n}}\n"
        assert print_kernel(parse_kernel(text)) == text
    for scope in set(Scope) - {Scope.PARAM}:
        text = f"kernel k() {{\n  alloc t: bool[] {scope.value}\n}}\n"
        assert print_kernel(parse_kernel(text)) == text


def test_loads_of_a_buffer_are_loads_of_the_nearest() -> None:
    text = """kernel k(x: f32[4], y: f32[4] output) {
  y[0] = x[0]
  alloc x: f32[2] stack
  x[0] = 1.0
  y[1] = x[0]
}
"""
    kernel = parse_kernel(text)
    assert print_kernel(kernel) == text
    last = kernel.body.body[-1].value  # type: ignore[attr-defined]
    assert isinstance(last, Load)
    assert last.buffer.shape == (2,)
    assert block() == block(block())


def test_readme() -> None:
    """Its example is a kernel as it prints, and it names every intrinsic, loop and scope."""
    text = (Path(graphopt.kernel.__path__[0]) / "README.md").read_text()
    example = text.split("```\n")[1]
    kernel = parse_kernel(example)
    assert print_kernel(kernel) == example
    assert not verify_kernel(kernel)
    words = set(re.findall(r"\w+", text))
    known = {
        *INTRINSICS,
        *(k.value for k in LoopKind),
        *SCOPES,
        *PRECEDENCE,
        *(d.value for d in DType),
    }
    assert {w for w in known if w.isidentifier()} <= words
