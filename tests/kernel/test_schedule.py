"""Every schedule primitive: text before and after, what it refuses, and that meaning stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import Machine, same

from graphopt.check import seeded_arrays
from graphopt.errors import IRError
from graphopt.kernel import schedule as s
from graphopt.kernel.interpret import interpret
from graphopt.kernel.ir import Kernel, Scope
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.text import print_kernel
from graphopt.kernel.verify import verify_kernel

SCALE = "kernel k(x: f32[{n}], y: f32[{n}] output) { for i in 0..{n} { y[i] = x[i] * 2.0 } }"
ROWS = """kernel k(x: f32[{m}, {n}], b: f32[{m}], y: f32[{m}, {n}] output) {{
  for i in 0..{m} {{ for j in 0..{n} {{ y[i, j] = x[i, j] + b[i] }} }}
}}"""
TURN = """kernel k(x: f32[{m}, {n}], y: f32[{n}, {m}] output) {{
  for i in 0..{m} {{ for j in 0..{n} {{ y[j, i] = x[i, j] * 3.0 }} }}
}}"""
PRODUCT = """kernel k(a: f32[{m}, {k}], b: f32[{k}, {n}], y: f32[{m}, {n}] output) {{
  for i in 0..{m} {{
    for j in 0..{n} {{
      alloc acc: f32[] register
      acc[] = 0.0
      for k in 0..{k} {{ acc[] += a[i, k] * b[k, j] }}
      y[i, j] = max(acc[], 0.0)
    }}
  }}
}}"""
WEIGHED = PRODUCT.replace("a: f32", "r: f32[{m}, {n}], a: f32").replace("0.0)", "r[i, j])")
CHOSEN = PRODUCT.replace("y: f32", "n: f32[{m}], y: f32").replace(
    "for k in 0..{k} {{ acc[] += a[i, k] * b[k, j] }}",
    "if n[i] > 0.0 {{ for k in 0..{k} {{ acc[] += a[i, k] * b[k, j] }} }}",
)
SUM = """kernel k(x: f32[{n}], y: f32[1] output) {{
  alloc acc: f32[] register
  acc[] = 1.0
  for r in 0..{n} {{ acc[] += x[r] }}
  y[0] = acc[]
}}"""
PANELS = """kernel k(x: f32[{m}, {n}], z: f32[{m}, {n}] output,
  y: f32[{m}] output) {{
  for i in 0..{m} {{ for j in 0..{n} {{ z[i, j] = x[i, j] * 3.0 }} }}
  for i in 0..{m} {{ y[i] = x[i, 0] }}
}}"""
PARTS = """kernel k(w: f32[1216], x: f32[4], y: f32[1] output) {{
  alloc acc: f32[] register
  acc[] = 0.0
  for e in 0..{n} {{
    for t in 0..2 {{ for k in 0..4 {{ acc[] += w[e * 64 + k * 16] * x[k] }} }}
    for k in 0..4 {{ acc[] += w[e * 64 + k * 16 + 8] * x[k] }}
  }}
  y[0] = acc[]
}}"""
SHIFTED = """kernel k(x: f32[6], y: f32[6] output, z: f32[6] output) {
  for i in 0..6 { y[i] = x[i] * 3.0 }
  for i in 0..6 { z[i] = y[5 - i] }
}"""
LETS = """kernel k(x: f32[{n}], y: f32[{n}] output) {{
  for i in 0..{n} {{
    let v = x[i] * 2.0
    let v = v + 1.0
    y[i] = v * v
  }}
}}"""


def kernel(text: str, **sizes: int) -> Kernel:
    for name, size in sizes.items():
        text = text.replace(f"{{{name}}}", str(size))
    return parse_kernel(text.replace("{{", "{").replace("}}", "}"))


def flat(text: str) -> str:
    return " ".join(text.split())


def body(k: Kernel) -> str:
    """The text of a kernel's body, on one line."""
    return flat(print_kernel(k)).split(") { ", 1)[1].removesuffix(" }")


# Text --------------------------------------------------------------------------------------------

HALVED_BESIDE = """kernel k(y: f32[4] output, z: f32[8] output) {
  for i in 0..8 { y[i // 2] = 1.0 }
  for j in 0..8 { z[j] = 2.0 }
}"""

BEFORE_AFTER: list[tuple[str, Kernel, Callable[[Kernel], Kernel], str]] = [
    ("split", kernel(SCALE, n=50), lambda k: s.split(k, "i", 12, names=("io", "ii")),
     "for io in 0..4 { for ii in 0..12 { y[io * 12 + ii] = x[io * 12 + ii] * 2.0 } } "
     "for ii in 0..2 { y[ii + 48] = x[ii + 48] * 2.0 }"),
    ("split into one", kernel(SCALE, n=8), lambda k: s.split(k, "i", 8, names=("io", "ii")),
     "for ii in 0..8 { y[ii] = x[ii] * 2.0 }"),
    ("split beyond the end", kernel(SCALE, n=5), lambda k: s.split(k, "i", 8, names=("io", "ii")),
     "for ii in 0..5 { y[ii] = x[ii] * 2.0 }"),
    ("split what threads share", s.parallelize(kernel(SCALE, n=8)),
     lambda k: s.split(k, "i", 4, names=("io", "ii")),
     "parallel io in 0..2 { for ii in 0..4 { y[io * 4 + ii] = x[io * 4 + ii] * 2.0 } }"),
    ("fuse", kernel(ROWS, m=3, n=4), lambda k: s.fuse(k, "i", "j", "f"),
     "for f in 0..12 { y[f // 4, f % 4] = x[f // 4, f % 4] + b[f // 4] }"),
    ("jam", kernel(PANELS, m=3, n=4), lambda k: s.jam(k, "i"),
     "for i in 0..3 { for j in 0..4 { z[i, j] = x[i, j] * 3.0 } y[i] = x[i, 0] }"),
    ("jam neighbours alone", s.split(kernel(PANELS, m=5, n=4), "i", 4, names=("io", "ii")),
     lambda k: s.jam(k, "ii"),
     "for ii in 0..4 { for j in 0..4 { z[ii, j] = x[ii, j] * 3.0 } } "
     "for ii in 0..1 { for j in 0..4 { z[ii + 4, j] = x[ii + 4, j] * 3.0 } } "
     "for ii in 0..4 { y[ii] = x[ii, 0] } for ii in 0..1 { y[ii + 4] = x[ii + 4, 0] }"),
    ("reorder", kernel(TURN, m=3, n=4), lambda k: s.reorder(k, ("j", "i")),
     "for j in 0..4 { for i in 0..3 { y[j, i] = x[i, j] * 3.0 } }"),
    ("reorder over tails",
     s.split(kernel(TURN, m=3, n=5), "j", 4, names=("jo", "ji")),
     lambda k: s.reorder(k, ("jo", "ji", "i")),
     "for ji in 0..4 { for i in 0..3 { y[ji, i] = x[i, ji] * 3.0 } } "
     "for ji in 0..1 { for i in 0..3 { y[ji + 4, i] = x[i, ji + 4] * 3.0 } }"),
    ("expand_accumulator", kernel(PRODUCT, m=2, n=3, k=4),
     lambda k: s.expand_accumulator(k, "acc", ("i", "j")),
     "alloc acc: f32[2, 3] register "
     "for i in 0..2 { for j in 0..3 { acc[i, j] = 0.0 } } "
     "for k in 0..4 { for i in 0..2 { for j in 0..3 { acc[i, j] += a[i, k] * b[k, j] } } } "
     "for i in 0..2 { for j in 0..3 { y[i, j] = max(acc[i, j], 0.0) } }"),
    ("block_reduction", kernel(PRODUCT, m=2, n=3, k=10),
     lambda k: s.block_reduction(k, "acc", "k", 4, within="i"),
     "for i in 0..2 { alloc sums: f32[3] scratch for j in 0..3 { sums[j] = 0.0 } "
     "for kb in 0..2 { for j in 0..3 { alloc acc: f32[] register acc[] = sums[j] "
     "for k in 0..4 { acc[] += a[i, kb * 4 + k] * b[kb * 4 + k, j] } sums[j] = acc[] } } "
     "for kb in 0..1 { for j in 0..3 { alloc acc: f32[] register acc[] = sums[j] "
     "for k in 0..2 { acc[] += a[i, (kb + 2) * 4 + k] * b[(kb + 2) * 4 + k, j] } "
     "y[i, j] = max(acc[], 0.0) } } }"),
    ("block_reduction of one block", kernel(PRODUCT, m=2, n=3, k=4),
     lambda k: s.block_reduction(k, "acc", "k", 4, within="i"),
     body(kernel(PRODUCT, m=2, n=3, k=4))),
    ("expand_accumulator around a choice", kernel(CHOSEN, m=2, n=3, k=4),
     lambda k: s.expand_accumulator(k, "acc", ("j",)),
     "for i in 0..2 { alloc acc: f32[3] register for j in 0..3 { acc[j] = 0.0 } "
     "if n[i] > 0.0 { for k in 0..4 { for j in 0..3 { acc[j] += a[i, k] * b[k, j] } } } "
     "for j in 0..3 { y[i, j] = max(acc[j], 0.0) } }"),
    ("expand_accumulator over a choice", kernel(CHOSEN, m=2, n=3, k=4),
     lambda k: s.expand_accumulator(k, "acc", ("i", "j")),
     "alloc acc: f32[2, 3] register "
     "for i in 0..2 { for j in 0..3 { acc[i, j] = 0.0 } } "
     "for i in 0..2 { for j in 0..3 { "
     "if n[i] > 0.0 { for k in 0..4 { acc[i, j] += a[i, k] * b[k, j] } } } } "
     "for i in 0..2 { for j in 0..3 { y[i, j] = max(acc[i, j], 0.0) } }"),
    ("unroll", kernel(SCALE, n=2), lambda k: s.unroll(k, "i"),
     "y[0] = x[0] * 2.0 y[1] = x[1] * 2.0"),
    ("unroll of a loop that is not there", kernel(SCALE, n=2), lambda k: s.unroll(k, "j"),
     "for i in 0..2 { y[i] = x[i] * 2.0 }"),
    ("vectorize", kernel(ROWS, m=2, n=8), lambda k: s.vectorize(k, "j"),
     "for i in 0..2 { y[i, ramp(0, 1, 8)] = x[i, ramp(0, 1, 8)] + splat(b[i], 8) }"),
    ("vectorize one", kernel(SCALE, n=1), lambda k: s.vectorize(k, "i"), "y[0] = x[0] * 2.0"),
    ("vectorize with gathers", kernel(TURN, m=2, n=4), lambda k: s.vectorize(k, "j"),
     "for i in 0..2 { y[ramp(0, 1, 4), i] = x[i, ramp(0, 1, 4)] * 3.0 }"),
    ("vectorize lets", kernel(LETS, n=4), lambda k: s.vectorize(k, "i"),
     "let v = x[ramp(0, 1, 4)] * 2.0 let v = v + 1.0 y[ramp(0, 1, 4)] = v * v"),
    ("vector_reduce", kernel(SUM, n=19), lambda k: s.vector_reduce(k, "r", 8),
     "alloc acc: f32[] register acc[] = 1.0 alloc acc_lanes: f32[8] register "
     "acc_lanes[ramp(0, 1, 8)] = 0.0 "
     "for r in 0..2 { acc_lanes[ramp(0, 1, 8)] += x[ramp(r * 8, 1, 8)] } "
     "acc[] += reduce_add(acc_lanes[ramp(0, 1, 8)]) "
     "for r in 0..3 { acc[] += x[r + 16] } y[0] = acc[]"),
    ("vector_reduce of less than a vector", kernel(SUM, n=7), lambda k: s.vector_reduce(k, "r", 8),
     "alloc acc: f32[] register acc[] = 1.0 for r in 0..7 { acc[] += x[r] } y[0] = acc[]"),
    ("stage", kernel(ROWS, m=2, n=3), lambda k: s.stage(k, "b", "i", (2,), "bs"),
     "for i in 0..2 { alloc bs: f32[2] stack for c0 in 0..2 { bs[c0] = b[c0] } "
     "for j in 0..3 { y[i, j] = x[i, j] + bs[i] } }"),
    ("parallelize", kernel(ROWS, m=2, n=3), s.parallelize,
     "parallel i in 0..2 { for j in 0..3 { y[i, j] = x[i, j] + b[i] } }"),
    ("parallelize enough", kernel(ROWS, m=2, n=3), lambda k: s.parallelize(k, at_least=5),
     "parallel i_j in 0..6 { y[i_j // 3, i_j % 3] = x[i_j // 3, i_j % 3] + b[i_j // 3] }"),
    ("parallelize what is proven", kernel(HALVED_BESIDE),
     lambda k: s.parallelize(k, where_proven=True),
     body(kernel(HALVED_BESIDE)).replace("for j", "parallel j")),
    ("parallelize one tile", kernel(SUM, n=4), s.parallelize, body(kernel(SUM, n=4))),
    ("simplify", s.split(s.fuse(kernel(ROWS, m=3, n=4), "i", "j", "f"), "f", 4, names=("a", "b")),
     s.simplify,
     "for a in 0..3 { for b in 0..4 { y[a, b] = x[a, b] + b[a] } }"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "before", "step", "after"), BEFORE_AFTER,
                         ids=[n for n, *_ in BEFORE_AFTER])  # fmt: skip
def test_text(name: str, before: Kernel, step: Callable[[Kernel], Kernel], after: str) -> None:
    del name
    made = step(before)
    assert body(made) == after
    verify_kernel(made, complete=False)
    same(*(interpret(k, seeded_arrays(before, 1), precision=np.float64) for k in (before, made)))


# Refusals ----------------------------------------------------------------------------------------

IN_PLACE = "kernel k(y: f32[9] output) { for i in 0..8 { y[i + 1] = y[i] * 2.0 } }"
SKEWED = """kernel k(y: f32[9, 9] output) {
  for i in 0..8 { for j in 0..8 { y[i + 1, j] = y[i, j + 1] } }
}"""
LAST = """kernel k(x: f32[4, 4], y: f32[4] output) {
  for i in 0..4 { for j in 0..4 { y[i] = x[i, j] } }
}"""
BRANCH = "kernel k(x: f32[8], y: f32[8] output) { for i in 0..8 { if x[i] > 0.0 { y[i] = 1.0 } } }"
HALVED = "kernel k(y: f32[4] output) { for i in 0..8 { y[i // 2] = 1.0 } }"
ACROSS = (
    "kernel k(x: f32[4], y: f32[4] output) { for i in 0..4 { y[i] = reduce_add(splat(x[i], 4)) } }"
)

REFUSED: list[tuple[Callable[[], Kernel], str]] = [
    (lambda: s.split(kernel(SCALE, n=9), "j", 4, names=("a", "b")),
     "k has no loop 'j'\nhint: its loops are i"),
    (lambda: s.split(kernel(SCALE, n=9), "i", 0, names=("a", "b")),
     "split: factor 0 of loop 'i' is not positive"),
    (lambda: s.split(kernel(SCALE, n=9), "i", 4, names=("a", "b"), tail="exact"),
     "split: 4 does not divide the 9 iterations of 'i'\nhint: use tail=\"peel\""),
    (lambda: s.fuse(kernel(PRODUCT, m=2, n=2, k=2), "j", "k", "f"),
     "fuse: loop 'k' is not directly inside 'j'"),
    (lambda: s.jam(parse_kernel(SHIFTED), "i"),
     "jam: iterations of 'i' may depend on each other through 'y'\n"
     "hint: leave these loops apart"),
    (lambda: s.reorder(kernel(LAST), ("j", "i")),
     "reorder: iterations of 'j' overwrite y\n"
     "hint: make it a reduction, or leave this loop where it is"),
    (lambda: s.reorder(kernel(SKEWED), ("j", "i")),
     "reorder: iterations of 'i' depend on each other through 'y'\n"
     "hint: leave this loop where it is"),
    (lambda: s.expand_accumulator(kernel(SCALE, n=4), "acc", ("i",)),
     "expand_accumulator: no accumulator 'acc' directly inside ['i']"),
    (lambda: s.expand_accumulator(kernel(LETS, n=4), "acc", ("i",)),
     "expand_accumulator: 'acc' is not allocated inside 'i'"),
    (lambda: s.block_reduction(kernel(PRODUCT, m=2, n=2, k=2), "acc", "k", 0, within="i"),
     "block_reduction: blocks of 0 iterations"),
    (lambda: s.block_reduction(kernel(PRODUCT, m=2, n=2, k=2), "acc", "j", 1, within="i"),
     "block_reduction: no sum over 'j' in 'acc'"),
    (lambda: s.block_reduction(kernel(ROWS, m=2, n=2), "acc", "k", 1, within="i"),
     "block_reduction: Store beside the sums of 'acc'"),
    (lambda: s.vectorize(kernel(ROWS, m=4, n=4), "i"),
     "vectorize: loop 'j' is inside 'i'\nhint: reorder first"),
    (lambda: s.vectorize(kernel(SUM, n=4), "r"),
     "vectorize: all lanes of 'r' write one element of acc\nhint: use vector_reduce"),
    (lambda: s.vectorize(kernel(IN_PLACE), "i"),
     "vectorize: lanes of 'i' may depend on each other through 'y'\n"
     "hint: vectorize a loop whose iterations are independent"),
    (lambda: s.vectorize(kernel(BRANCH), "i"),
     "vectorize: the condition of an if differs between lanes of 'i'\nhint: use select"),
    (lambda: s.vectorize(s.unroll(kernel(PRODUCT, m=2, n=2, k=1), "k"), "j"),
     "vectorize: a buffer is allocated inside 'j'\nhint: expand_accumulator first"),
    (lambda: s.vector_reduce(kernel(SCALE, n=16), "i", 4),
     "vector_reduce: loop 'i' is not one accumulation into a register\n"
     "hint: its body must be `acc[..] += value`, the value not reading acc"),
    (lambda: s.stage(kernel(ROWS, m=2, n=2), "y", "i", (2, 2), "t"),
     "stage: 'y' is not an input of k"),
    (lambda: s.stage(kernel(ROWS, m=2, n=2), "b", "i", (3,), "t"),
     "stage: 'b' has shape (2,), not (3,)"),
    (lambda: s.prefetch(kernel(ROWS, m=2, n=2), "b", "j", 4),
     "prefetch: loop 'j' does not read 'b'"),
    (lambda: s.vectorize(kernel(ACROSS), "i"),
     "vectorize: the body of 'i' is on vectors already\n"
     "hint: vectorize before what brings vectors in, as vector_reduce does"),
    (lambda: s.parallelize(kernel(LAST.replace("y[i] =", "y[0] ="))),
     "parallelize: iterations of 'i' write the same y"),
    (lambda: s.parallelize(kernel(IN_PLACE)),
     "parallelize: iterations of 'i' may depend on each other through 'y'"),
    (lambda: s.parallelize(kernel(HALVED)),
     "parallelize: iterations of 'i' may depend on each other through 'y'"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refusal(step: Callable[[], Kernel], message: str) -> None:
    with pytest.raises(IRError) as caught:
        step()
    assert str(caught.value) == message


def test_loop_names() -> None:
    made = s.split(kernel(PRODUCT, m=5, n=4, k=3), "i", 4, names=("io", "ii"))
    assert s.loop_names(made) == ("ii", "j", "k")
    assert s.has_loop(made, "k")
    assert not s.has_loop(made, "io")


# Meaning -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A primitive on a kernel of any size. `exact`: the same bits."""

    text: str
    step: Callable[[Kernel, int], Kernel]
    exact: bool = True


def _tile(k: Kernel, n: int) -> Kernel:
    """The schedule of a product: a register tile of vectors, with tails of every kind."""
    k = s.split(k, "i", max(1, n // 2), names=("io", "ii"))
    k = s.split(k, "j", 8, names=("jr", "jl"))
    k = s.reorder(k, ("io", "ii", "jr", "jl"))
    k = s.expand_accumulator(k, "acc", tuple(x for x in ("ii", "jr", "jl") if s.has_loop(k, x)))
    sizes = [int(e) for e in re.findall(r"for jl in 0\.\.(\d+)", print_kernel(k))]
    powers = all(size & (size - 1) == 0 for size in sizes)
    k = s.vectorize(k, "jl") if powers else s.unroll(k, "jl")
    for name in ("jr", "ii"):
        k = s.unroll(k, name)
    return s.simplify(s.parallelize(k))


def _vectors(k: Kernel, lanes: int) -> Kernel:
    """Vectors of `lanes` and a tail of single elements."""
    k = s.split(k, "i", lanes, names=("io", "il"))
    text = print_kernel(k)
    if f"for il in 0..{lanes} {{" in text and text.count("for il") == 1:
        return s.vectorize(k, "il")
    return s.unroll(k, "il")


CASES = {
    "split": Case(SCALE, lambda k, n: s.split(k, "i", n, names=("io", "ii"))),
    "split twice": Case(ROWS, lambda k, n: s.split(
        s.split(k, "i", n, names=("a", "b")), "j", 3, names=("c", "d"))),
    "fuse": Case(ROWS, lambda k, n: s.fuse(k, "i", "j", "f")),
    "fuse and split": Case(ROWS, lambda k, n: s.simplify(
        s.split(s.fuse(k, "i", "j", "f"), "f", n, names=("a", "b")))),
    "jam": Case(PANELS, lambda k, n: s.jam(k, "i")),
    "reorder": Case(TURN, lambda k, n: s.reorder(
        s.split(k, "j", n, names=("jo", "ji")), ("jo", "ji", "i"))),
    "expand_accumulator": Case(PRODUCT, lambda k, n: s.unroll(s.unroll(
        s.expand_accumulator(k, "acc", ("i", "j")), "i"), "j")),
    "block_reduction": Case(PRODUCT, lambda k, n: s.block_reduction(
        k, "acc", "k", max(1, n // 3), within="i")),
    "block_reduction of tiles": Case(PRODUCT, lambda k, n: s.unroll(s.expand_accumulator(
        s.block_reduction(s.split(k, "j", 3, names=("jo", "ji")), "acc", "k", max(1, n // 2),
                          within="i"), "acc", ("ji",)), "ji")),
    "unroll": Case(SCALE, lambda k, n: s.unroll(k, "i")),
    "vectorize": Case(SCALE, lambda k, n: _vectors(k, 8)),
    "vectorize lets": Case(LETS, lambda k, n: _vectors(k, 4)),
    "vector_reduce": Case(SUM, lambda k, n: s.vector_reduce(k, "r", 8), exact=False),
    "stage": Case(ROWS, lambda k, n: s.stage(k, "b", "j", k.params[1].shape, "t", Scope.SCRATCH)),
    "prefetch": Case(ROWS, lambda k, n: s.prefetch(k, "x", "j", n)),
    "prefetch_next": Case(PARTS, lambda k, n: s.prefetch_next(k, "w", "e", "k")),
    "prefetch_epilogue": Case(WEIGHED, lambda k, n: s.unroll(s.unroll(s.prefetch_epilogue(
        s.expand_accumulator(k, "acc", ("i", "j")), "acc", beyond=0), "i"), "j")),
    "parallelize": Case(ROWS, lambda k, n: s.parallelize(k, at_least=n)),
    "a whole schedule": Case(PRODUCT, _tile),
}  # fmt: skip
Sizes = tuple[int, int, int, int]
SIZES = st.tuples(*(st.integers(1, 19) for _ in range(3)), st.integers(1, 9))


def _pair(case: Case, sizes: Sizes) -> tuple[Kernel, Kernel]:
    m, n, k, factor = sizes
    before = kernel(case.text, m=m, n=n, k=k)
    return before, case.step(before, factor)


def _agree(case: Case, a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    if case.exact:
        same(a, b)
    for name, x in a.items():  # sums of 19 terms of order 1 in f32
        np.testing.assert_allclose(x.ravel(), b[name].ravel(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=25)
@given(sizes=SIZES)
def test_meaning_in_the_interpreter(name: str, sizes: Sizes) -> None:
    case = CASES[name]
    before, after = _pair(case, sizes)
    assert not verify_kernel(after)
    arrays = seeded_arrays(before, sum(sizes))
    _agree(case, interpret(before, arrays), interpret(after, arrays))


@pytest.mark.compiler
@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=2)
@given(sizes=st.lists(SIZES, min_size=4, max_size=4))
def test_meaning_on_the_machine(
    name: str, tmp_path_factory: pytest.TempPathFactory, sizes: list[Sizes]
) -> None:
    """Kernels before and after against the interpreter, several sizes in one library."""
    pairs = [_pair(CASES[name], z) for z in [*sizes, (1, 1, 1, 1), (7, 17, 5, 4), (8, 16, 4, 4)]]
    machine = Machine([k for pair in pairs for k in pair], tmp_path_factory.mktemp("m"))
    for i, (before, _) in enumerate(pairs):
        arrays = seeded_arrays(before, i)
        wanted = interpret(before, arrays, precision=np.float64)
        for run in (machine.run(2 * i, arrays), machine.run(2 * i + 1, arrays)):
            for out in wanted:  # as above; the compiler contracts products and sums
                np.testing.assert_allclose(
                    run[out].ravel(), wanted[out].ravel(), rtol=1e-5, atol=1e-5
                )


@pytest.mark.compiler
def test_the_comparison_can_fail(tmp_path: Path) -> None:
    before, after = kernel(SCALE, n=4), kernel(SCALE.replace("2.0", "2.5"), n=4)
    machine = Machine([before, after], tmp_path / "m")
    arrays = seeded_arrays(before)
    assert not np.allclose(machine.run(0, arrays)["y"], machine.run(1, arrays)["y"])
