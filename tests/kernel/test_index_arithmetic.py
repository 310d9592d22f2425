"""Index arithmetic against plain evaluation: simplification, bounds, independence of iterations."""

from __future__ import annotations

import itertools
import operator
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.types import DType
from graphopt.kernel import schedule
from graphopt.kernel.affine import bounds, linear, simplify_index
from graphopt.kernel.bounds import interval
from graphopt.kernel.dependence import conflicts
from graphopt.kernel.ir import (
    INDEX,
    Binary,
    Broadcast,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Load,
    Ramp,
    Store,
    Var,
    block,
    const,
    index_const,
    index_var,
    load,
    loops,
)
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.scope import IndexScope
from graphopt.kernel.text import print_expr, print_kernel

RANGES = {"i": 5, "j": 8, "k": 3}
OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv,
    "%": operator.mod, "min": min, "max": max,
}  # fmt: skip


def evaluate(e: Expr, at: dict[str, int]) -> list[int]:
    """Every lane."""
    match e:
        case Const():
            return [int(e.value)] * e.lanes
        case Var():
            return [at[e.name]]
        case Ramp():
            (base,) = evaluate(e.base, at)
            return [base + n * e.stride for n in range(e.lanes)]
        case Broadcast():
            return evaluate(e.a, at) * e.lanes
        case Binary():
            pairs = zip(evaluate(e.a, at), evaluate(e.b, at), strict=True)
            return [OPERATORS[e.op](x, y) for x, y in pairs]
        case _:
            raise TypeError(type(e))


def random_index(r: random.Random, depth: int, lanes: int = 1) -> Expr:
    if depth == 0 or r.random() < 0.15:
        if lanes > 1 and r.random() < 0.6:
            return Ramp(INDEX, lanes, random_index(r, 2), r.choice([1, 1, 2, -1]))
        if lanes > 1 and r.random() < 0.5:
            return Broadcast(INDEX, lanes, index_var("i"))
        if lanes == 1 and r.random() < 0.6:
            return index_var(r.choice(list(RANGES)))
        return Const(INDEX, lanes, r.randrange(30))
    op = r.choice(["+", "+", "-", "*", "//", "%", "//", "%", "min", "max"])
    by_constant = op in ("*", "//", "%")
    divisor = Const(INDEX, lanes, r.choice([1, 2, 3, 4, 6, 8, 16, 22]))
    b = divisor if by_constant else random_index(r, depth - 1, lanes)
    return Binary(INDEX, lanes, op, random_index(r, depth - 1, lanes), b)


def points() -> list[dict[str, int]]:
    return [
        dict(zip(RANGES, p, strict=True)) for p in itertools.product(*map(range, RANGES.values()))
    ]


POINTS = points()


@settings(deadline=None, max_examples=400)
@given(st.integers(0, 1 << 32), st.sampled_from([1, 1, 4, 8]))
def test_simplified_is_equal(seed: int, lanes: int) -> None:
    e = random_index(random.Random(seed), 4, lanes)
    simple = simplify_index(e, RANGES)
    found = interval(e, RANGES)
    known = bounds(e, RANGES)
    for at in POINTS[:: 1 + seed % 5]:
        values = evaluate(e, at)
        assert evaluate(simple, at) == values, print_expr(e)
        assert found[0] <= min(values)
        assert max(values) <= found[1]
        assert known is None or (known[0] <= min(values) and max(values) <= known[1])


SIMPLIFIED = [
    ("i * 8 + j - i * 8", "j"),
    ("j * 6 - j % 4 * 6 + i", "j // 4 * 24 + i"),
    ("(i * 8 + j) // 8", "i"),
    ("(i * 8 + j) % 8", "j"),
    ("i // 2 * 2 + i % 2", "i"),
    ("(j + 4) % 7 + (j + 4) // 7 * 7", "j + 4"),
    ("i * 16 // 352", "i * 16 // 352"),
    ("(i * 4 + k) // 8", "i // 2"),
    ("(i * 4 + k) % 8", "i % 2 * 4 + k"),
    ("i * 6 % 4", "i * 3 % 2 * 2"),
    ("min(j, 7)", "j"),
    ("max(j - 8, 0)", "0"),
    ("ramp(i * 8, 1, 8) // 8", "splat(i, 8)"),
    ("ramp(i * 16, 1, 8) // 4 * 4 + ramp(i * 16, 1, 8) % 4", "ramp(i * 16, 1, 8)"),
    (
        "ramp(j * 4, 1, 4) // 6 % 2 * 6 + (ramp(j * 4, 1, 4) // 12 * 12 + ramp(j * 4, 1, 4) % 6)",
        "ramp(j * 4, 1, 4)",
    ),
    (
        "ramp(i * 8, 1, 8) // 4 % 3 * 4 + (ramp(i * 8, 1, 8) // 12 * 12 + ramp(i * 8, 1, 8) % 4)",
        "ramp(i * 8, 1, 8)",
    ),
    ("ramp(i * 4, 1, 4) % 8", "ramp(i % 2 * 4, 1, 4)"),
    ("ramp(0, 4, 4) // 2", "ramp(0, 2, 4)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), SIMPLIFIED)
def test_simplified_text(text: str, wanted: str) -> None:
    kernel = parse_kernel(f"kernel k() {{ let v = {text} }}")
    simple = simplify_index(kernel.body.value, RANGES)  # type: ignore[attr-defined]
    if text.startswith("i * 16 //"):
        assert linear(simple, RANGES).is_constant  # i is below 5
    else:
        assert print_expr(simple) == wanted


def test_division_by_what_is_no_positive_constant_stays() -> None:
    for d in (0, -2):
        e = Binary(INDEX, 1, "//", index_var("i"), index_const(d))
        assert simplify_index(e, RANGES) == e


def test_a_simple_kernel_is_returned_as_it_is() -> None:
    kernel = parse_kernel("kernel k(y: f32[8] output) { for i in 0..8 { y[i] = 1.0 } }")
    assert schedule.simplify(kernel) is kernel


def test_simplify_reaches_every_statement() -> None:
    text = """kernel k(x: f32[8], y: f32[8] output) {{
  for i in 0..8 {{
    let v = x[{0}]
    prefetch x[{0}]
    if x[{0}] > 0.0 {{
      y[{0}] = v
    }} else {{
      y[{0}] += x[{0}]
    }}
  }}
}}
"""
    simple = schedule.simplify(parse_kernel(text.format("i + 3 - 3")))
    assert print_kernel(simple) == text.format("i")


# Independence ------------------------------------------------------------------------------------

SIZE = 400
BUFFER = Buffer.dense("y", DType.F32, (SIZE,))


def touched(e: Expr, outer: int) -> dict[int, set[int]]:
    """Iteration of `i` → elements, over all iterations of the loops inside, `j` and `k`."""
    out: dict[int, set[int]] = {}
    for at in POINTS:
        out.setdefault(at["i"], set()).update(evaluate(e, {**at, "o": outer}))
    return out


def random_access(r: random.Random) -> Expr:
    e: Expr = index_const(r.randrange(4))
    names = ["i", "j", "k", "o"]
    for name in r.sample(names, r.randint(1, 4)):
        step = r.choice([1, 2, 3, 8, 15, 24, 40])
        v: Expr = index_var(name)
        if r.random() < 0.3:
            v = Binary(INDEX, 1, r.choice(["//", "%"]), v, index_const(r.choice([2, 4])))
        e = Binary(INDEX, 1, "+", e, Binary(INDEX, 1, "*", v, index_const(step)))
    if r.random() < 0.2:
        return Ramp(INDEX, 4, e, r.choice([1, 2]))
    return e


@settings(deadline=None, max_examples=400)
@given(st.integers(0, 1 << 32))
def test_iterations_said_to_be_apart_are(seed: int) -> None:
    """Against brute force: no iteration touches what another one writes."""
    r = random.Random(seed)
    indices = [random_access(r) for _ in range(r.randint(1, 3))]
    stores = [Store(BUFFER, (e,), const(1.0, DType.F32, e.lanes)) for e in indices[:1]]
    body = [loops([("j", 8), ("k", 3)], s) for s in stores]
    other = Buffer.dense("z", DType.F32, (SIZE,))
    for e in indices[1:]:
        body.append(
            loops([("j", 8), ("k", 3)], Store(other, (e,), Load(DType.F32, e.lanes, BUFFER, (e,))))
        )
    loop = For("i", 5, block(*body))
    found = {c.buffer.name: c.certain for c in conflicts(loop, IndexScope({"o": 2}))}
    for outer in range(2):
        writes = touched(indices[0], outer)
        reads = [touched(e, outer) for e in indices]
        meet = any(writes[a] & t[b] for t in reads for a in writes for b in t if a != b)
        if "y" not in found:
            assert not meet, print_kernel(Kernel("k", (BUFFER, other), ("y", "z"), loop))
        elif found["y"]:
            assert meet


def test_most_independent_iterations_are_recognized() -> None:
    """The proof must not be so careful that it is of no use."""
    r, apart, proved = random.Random(0), 0, 0
    for _ in range(300):
        e = random_access(r)
        body = loops([("j", 8), ("k", 3)], Store(BUFFER, (e,), const(1.0, DType.F32, e.lanes)))
        writes = touched(e, 0)
        if not any(writes[a] & writes[b] for a in writes for b in writes if a != b):
            apart += 1
            proved += not conflicts(For("i", 5, body), IndexScope({"o": 2}))
    assert apart > 30
    assert proved > 0.7 * apart  # the others are accidents of gcds


def test_other_lets_and_shadowed_loops() -> None:
    """A let is what it was bound to, and an inner loop of the same name is another variable."""
    text = """kernel k(y: f32[64] output) {
  for i in 0..8 {
    let at = i * 8
    for i in 0..8 {
      y[at + i] = 1.0
    }
  }
}"""
    loop = parse_kernel(text).body
    assert isinstance(loop, For)
    assert not conflicts(loop, IndexScope())
    shadowing = parse_kernel(text.replace("let at = i * 8", "let at = 0")).body
    assert isinstance(shadowing, For)
    assert [c.certain for c in conflicts(shadowing, IndexScope())] == [True]


@pytest.mark.parametrize(("below", "apart"), [(3, True), (4, False)])
def test_a_condition_says_which_values_a_variable_has(below: int, apart: bool) -> None:
    """Rows of 10, in blocks of 3: three whole ones stay inside, a fourth reaches the next row."""
    text = f"""kernel k(y: f32[64] output) {{
  for r in 0..5 {{
    for b in 0..4 {{
      if b < {below} {{
        for i in 0..3 {{ y[r * 10 + b * 3 + i] = 1.0 }}
      }}
    }}
  }}
}}"""
    loop = parse_kernel(text).body
    assert isinstance(loop, For)
    assert (not conflicts(loop, IndexScope())) is apart


def test_data_dependent_stores_are_not_proved() -> None:
    ids = Buffer.dense("ids", INDEX, (8,))
    store = Store(BUFFER, (load(ids, index_var("i")),), const(1.0, DType.F32))
    assert [c.certain for c in conflicts(For("i", 8, store), IndexScope())] == [False]
