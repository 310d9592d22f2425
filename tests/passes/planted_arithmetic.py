"""Bugs in arithmetic, logic and the elimination of subexpressions."""

from __future__ import annotations

from graphopt_passes.recipes import Recipe, full, known, make
from graphopt_passes.simplify import (
    cancel_casts,
    eliminate_common_subexpressions,
    eliminate_dead_code,
    eliminate_empties,
    merge_clamps,
    regroup_arithmetic,
    simplify_arithmetic,
    simplify_selects,
)
from planting import TWO, Bugs, number, rule

from graphopt.ir.graph import Node, Value
from graphopt.ops import (
    ClampAttrs,
)
from graphopt.rewrite import Rewriter

BUGS = Bugs()
plant = BUGS.plant


# Arithmetic ---------------------------------------------------------------------------------------


def _negated_plus(node: Node, rw: Rewriter) -> Recipe | None:
    inner = node.operands[0].producer
    if inner is None or inner.op.name != "neg":
        return None
    return make("sub", inner.operands[0], node.operands[1])


plant(
    "operands of a difference swapped",
    "simplify-arithmetic",
    simplify_arithmetic.SimplifyArithmetic,
    "rules",
    rule(simplify_arithmetic.SimplifyArithmetic, "add", _negated_plus),
    TWO + "%n = neg %x\n%y = add %n, %z\nreturn %y",
)
plant(
    "a divisor taken for its reciprocal",
    "simplify-arithmetic",
    simplify_arithmetic,
    "exact_reciprocal",
    lambda x, dtype: x,
    TWO + number(8) + "%y = div %x, %c\nreturn %y",
)
plant(
    "an infinity times zero",
    "simplify-arithmetic",
    simplify_arithmetic,
    "_times_zero",
    lambda node: full(0, node.result.type.dims, node.result.type.dtype),
    TWO
    + number(0)
    + number(1e4, "d")
    + number(1, "e")
    + "%s = mul %x, %d\n%i = exp %s\n%m = mul %i, %c\n%y = mul %m, %e\nreturn %y",
)
plant(
    "abs dropped behind any op",
    "simplify-arithmetic",
    simplify_arithmetic.SimplifyArithmetic,
    "rules",
    rule(
        simplify_arithmetic.SimplifyArithmetic,
        "abs",
        lambda node, rw: node.operands[0] if node.operands[0].producer else None,
    ),
    TWO + "%n = neg %x\n%a = abs %n\n%y = abs %a\nreturn %y",
)
plant(
    "the sign of a subtracted constant lost",
    "regroup-arithmetic",
    regroup_arithmetic,
    "_negated",
    lambda rw, b: b,
    TWO + number(2) + "%y = sub %x, %c\nreturn %y",
)
plant(
    "factors in a row added",
    "regroup-arithmetic",
    regroup_arithmetic,
    "combined",
    lambda rw, a, b, f: full(float(known(rw, a) + known(rw, b)), (), a.type.dtype),
    TWO + number(3) + "%m = mul %x, %c\n%y = mul %m, %c\nreturn %y",
)


def _offset_not_scaled(rw: Rewriter, x: Value, c: Value) -> Recipe | None:
    total = x.producer
    if total is None or total.op.name != "add":
        return None
    return make("add", make("mul", total.operands[0], c), total.operands[1])


plant(
    "a sum scaled without its constant",
    "regroup-arithmetic",
    regroup_arithmetic,
    "_through_sum",
    _offset_not_scaled,
    TWO
    + number(3)
    + number(2, "d")
    + "%m = mul %x, %c\n%s = add %m, %d\n%y = mul %s, %c\nreturn %y",
)
plant(
    "bounds of clamps that are apart merged one by one",
    "merge-clamps",
    merge_clamps.Bounds,
    "after",
    lambda then, first: merge_clamps.Bounds(max(then.low, first.low), min(then.high, first.high)),
    TWO + "%a = clamp %x {low=-1.0, high=0.0}\n%y = clamp %a {low=0.5, high=2.0}\nreturn %y",
)
plant(
    "relu6 without its relu",
    "merge-clamps",
    merge_clamps.Bounds,
    "after",
    lambda then, first: then,
    TWO + "%a = relu %x\n%y = clamp %a {high=0.7}\nreturn %y",
)
plant(
    "tanh taken for positive",
    "merge-clamps",
    merge_clamps,
    "_NEVER_NEGATIVE",
    frozenset({"tanh", "exp"}),
    TWO + "%a = tanh %x\n%r = relu %a\n%y = relu %r\nreturn %y",
)
plant(
    "high bound lost",
    "merge-clamps",
    merge_clamps,
    "clamped",
    lambda x, bounds: make("clamp", x, attrs=ClampAttrs(float(bounds.low))),
    TWO + "%a = clamp %x {low=-1.0, high=0.5}\n%y = clamp %a {low=-2.0, high=0.2}\nreturn %y",
)

LOGIC = "%x = input : f32[3,4]\n%z = input : f32[3,4]\n%i = input : i64[64]\n%j = input : i64[64]\n"
plant(
    "not less taken for greater",
    "simplify-selects",
    simplify_selects,
    "_OPPOSITE",
    {"lt": "gt"},
    LOGIC + "%l = lt %i, %j\n%y = logical_not %l\nreturn %y",
)


def _where_not_swapped(node: Node, rw: Rewriter) -> Recipe | None:
    negated = node.operands[0].producer
    if negated is None or negated.op.name != "logical_not":
        return None
    return make("where", negated.operands[0], *node.operands[1:])


plant(
    "where of a negation keeps its branches",
    "simplify-selects",
    simplify_selects.SimplifySelects,
    "rules",
    rule(simplify_selects.SimplifySelects, "where", _where_not_swapped),
    LOGIC + "%p = lt %x, %z\n%n = logical_not %p\n%y = where %n, %x, %z\nreturn %y",
)
plant(
    "true absorbs in a conjunction",
    "simplify-selects",
    simplify_selects.SimplifySelects,
    "rules",
    rule(
        simplify_selects.SimplifySelects,
        "and",
        lambda node, rw: simplify_selects._lattice(node, rw, neutral=False),
    ),
    LOGIC + "%t = full {value=1, shape=[64], dtype=bool}\n%p = lt %i, %j\n%y = and %p, %t\n"
    "return %y",
)
plant(
    "a cast that truncates cancelled",
    "cancel-casts",
    cancel_casts,
    "holds_all",
    lambda source, wide: True,
    TWO + "%w = cast %x {dtype=f64}\n%i = cast %w {dtype=i32}\n%y = cast %i {dtype=f32}\n"
    "%a = cast %z {dtype=f64}\n%b = cast %a {dtype=f32}\nreturn %y, %b",
)

# Common and dead subexpressions -------------------------------------------------------------------

CSE = "eliminate-common-subexpressions"


def _key_without_attributes(rw: Rewriter, node: Node) -> object:
    return node.op.name, tuple(r.type for r in node.results), tuple(id(o) for o in node.operands)


def _key_of_sorted_operands(rw: Rewriter, node: Node) -> object:
    return node.op.name, repr(node.attrs), tuple(sorted(id(o) for o in node.operands))


TWICE = "%e = exp %x\n%f = exp %x\n%s = add %e, %f\n"
plant(
    "attributes ignored",
    CSE,
    eliminate_common_subexpressions,
    "_key",
    _key_without_attributes,
    TWO + TWICE + "%a = clamp %x {high=0.5}\n%b = clamp %x {high=1.0}\n%t = add %a, %b\n"
    "%y = add %s, %t\nreturn %y",
)
plant(
    "every op taken for commutative",
    CSE,
    eliminate_common_subexpressions,
    "_key",
    _key_of_sorted_operands,
    TWO + TWICE + "%a = sub %x, %z\n%b = sub %z, %x\n%t = maximum %a, %b\n%y = add %s, %t\n"
    "return %y",
)
plant(
    "constants compared by a sample",
    CSE,
    eliminate_common_subexpressions,
    "_same_data",
    lambda rw, a, b: True,
    "%x = input : f32[32]\n"
    + TWICE
    + "".join(
        f'%{n} = constant {{key="{n}", value=[{",".join(["1"] * 31 + [v])}]}} : f32[32]\n'
        for n, v in (("p", "1"), ("q", "9"))
    )
    + "%a = mul %s, %p\n%b = mul %s, %q\n%y = sub %a, %b\nreturn %y",
)
plant(
    "a bias dropped with the products that it was added to",
    "eliminate-empties",
    eliminate_empties,
    "_RULES",
    {"linear": lambda node: full(0, node.result.type.dims, node.result.type.dtype)},
    "%x = input : f32[2,0]\n%w = input : f32[3,0]\n%b = input : f32[3]\n"
    "%y = linear %x, %w, %b\nreturn %y",
)
plant(
    "the smallest of topk taken for the largest",
    "eliminate-dead-code",
    eliminate_dead_code,
    "_refusal",
    lambda node: "",
    TWO + "%d = exp %z\n%v, %i = topk %x {k=1, axis=1, largest=false}\nreturn %v",
)
