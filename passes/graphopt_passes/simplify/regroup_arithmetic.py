"""regroup-arithmetic: constants that follow each other become one; powers and divisions become
products.

(x + a) + b        →  x + (a + b)             x ** 2, x ** 3  →  x * x, x * x * x
x - a              →  x + -a
(x * a) * b        →  x * (a * b)             x ** -1         →  reciprocal(x)
x / a              →  x * (1 / a)             x ** 0.5        →  sqrt(x)     where x >= 0
(x * a + b) * c    →  x * (a * c) + b * c     x ** -0.5       →  rsqrt(x)    where x >= 0
x / y              →  x * (1 / y)             x + 0           →  x
                      where y is broadcast
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from graphopt.ir.graph import Node, Value
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import (
    Make,
    Recipe,
    Rule,
    RulePass,
    constant,
    full,
    is_known,
    known,
    make,
    producer,
    splat,
    with_known,
)

_BROADCAST = 4
"""x / y is worth a reciprocal when x has at least this many times the elements of y."""

_NEVER_NEGATIVE = frozenset({"abs", "relu", "exp", "exp2", "sigmoid", "softmax", "sqrt"})
_OF_NEVER_NEGATIVE = frozenset({"add", "sum", "mean", "max", "mul", "reshape", "expand"})


def _add(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    pair = with_known(rw, node)
    if pair is None:
        return None
    x, b = pair
    if splat(rw, b) == 0:
        return x
    inner = producer(x, "add")
    found = with_known(rw, inner) if inner is not None else None
    if found is None:
        return None
    total = combined(rw, found[1], b, np.add)
    return total if isinstance(total, Reject) else make("add", found[0], total)


def _sub(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    """A sum, which takes in further constants; exact by itself."""
    x, b = node.operands
    if is_known(rw, x) or not is_known(rw, b):
        return None
    return make("add", x, _negated(rw, b))


def _negated(rw: Rewriter, b: Value) -> Recipe:
    uniform, array = splat(rw, b), known(rw, b)
    assert array is not None
    if uniform is not None and b.type.dtype.is_float:
        return full(-uniform, b.type.dims, b.type.dtype)
    return constant(np.broadcast_to(np.negative(array), b.type.dims), "negated")


def _mul(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    pair = with_known(rw, node)
    if pair is None:
        return None
    x, b = pair
    inner = producer(x, "mul")
    found = with_known(rw, inner) if inner is not None else None
    if found is None:
        return _through_sum(rw, x, b)
    factor = combined(rw, found[1], b, np.multiply)
    return factor if isinstance(factor, Reject) else make("mul", found[0], factor)


def _through_sum(rw: Rewriter, x: Value, c: Value) -> Recipe | Reject | None:
    """(y * a + b) * c: one product fewer."""
    total = producer(x, "add")
    found = with_known(rw, total) if total is not None else None
    scaled = producer(found[0], "mul") if found is not None else None
    inner = with_known(rw, scaled) if scaled is not None else None
    if found is None or inner is None:
        return None
    if not rw.has_one_use(x):
        return Reject("the sum is read elsewhere too")
    factor, offset = (combined(rw, o, c, np.multiply) for o in (inner[1], found[1]))
    for part in (factor, offset):
        if isinstance(part, Reject):
            return part
    assert not isinstance(factor, Reject)
    assert not isinstance(offset, Reject)
    return make("add", make("mul", inner[0], factor), offset)


def _div(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    x, y = node.operands
    if is_known(rw, x):
        return None
    array = known(rw, y)
    if array is not None:
        return _times_inverse(rw, x, y, array)
    if not (x.type.is_static and y.type.is_static):
        return None
    if y.type.numel * _BROADCAST > x.type.numel:
        return Reject("the divisor has about as many elements as the dividend")
    return make("mul", x, make("reciprocal", y))


def _times_inverse(rw: Rewriter, x: Value, y: Value, array: np.ndarray) -> Recipe | Reject:
    with np.errstate(all="ignore"):
        inverse = 1 / array.astype(np.float64)
        rounded = inverse.astype(array.dtype)
        if not (np.abs(rounded) >= ml_dtypes.finfo(array.dtype).tiny).all() or not _finite(rounded):
            return Reject("the divisor has no reciprocal in the normal range")
    uniform = splat(rw, y)
    if uniform is not None:
        return make("mul", x, full(1 / uniform, y.type.dims, y.type.dtype))
    return make("mul", x, constant(rounded, "reciprocal"))


def _pow(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    x, y = node.operands
    exponent = splat(rw, y)
    if exponent == 2:
        return make("mul", x, x)
    if exponent == 3:
        return make("mul", make("mul", x, x), x)
    if not x.type.dtype.is_float or exponent not in (-1, 0.5, -0.5):
        return None
    if exponent == -1:
        return make("reciprocal", x)
    if not never_negative(rw, x):
        return Reject("a root differs from the power for -inf")
    return make("sqrt" if exponent == 0.5 else "rsqrt", x)


def never_negative(rw: Rewriter, x: Value, depth: int = 8) -> bool:
    """Whether a value cannot be below 0, judged by the ops that make it, `depth` deep."""
    node = x.producer
    if node is None or not depth:
        return False
    uniform = splat(rw, x)
    if uniform is not None:
        return uniform >= 0
    if node.op.name == "mul" and node.operands[0] is node.operands[1]:
        return True
    if node.op.name in _OF_NEVER_NEGATIVE:
        return all(never_negative(rw, o, depth - 1) for o in node.operands)
    return node.op.name in _NEVER_NEGATIVE


def combined(
    rw: Rewriter, a: Value, b: Value, f: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Make | Reject:
    """f of two known values: a splat of splats, else an array in their dtype. Floats are combined
    in float64. Refuses what would be larger than both, or overflow."""
    dtype = a.type.dtype
    shape = np.broadcast_shapes(a.type.dims, b.type.dims)
    if int(np.prod(shape)) > max(a.type.numel, b.type.numel):
        return Reject("the combined constant is larger than both")
    with np.errstate(all="ignore"):  # integers wrap, as they would one after the other
        made = f(_data(rw, a), _data(rw, b))
        rounded = made.astype(dtype.numpy)
    if dtype.is_float and not _finite(rounded):
        return Reject("the combined constant is not finite")
    if splat(rw, a) is not None and splat(rw, b) is not None:
        return full(float(made.flat[0]), shape, dtype)
    return constant(np.broadcast_to(rounded, shape), "regrouped")


def _data(rw: Rewriter, value: Value) -> np.ndarray:
    """Floats in float64; the number of a `full` is not yet rounded to its dtype."""
    array, uniform = known(rw, value), splat(rw, value)
    assert array is not None
    if not value.type.dtype.is_float:
        return array
    return array.astype(np.float64) if uniform is None else np.asarray(uniform)


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


RULES: Mapping[str, tuple[Rule, ...]] = {
    "add": (_add,), "sub": (_sub,), "mul": (_mul,), "div": (_div,), "pow": (_pow,),
}  # fmt: skip


@dataclass(frozen=True)
class RegroupArithmetic(RulePass):
    """Numerics: reassociates: a constant is rounded once instead of twice, -0 + 0 may become -0,
    and a quotient becomes a product, which overflows for divisors below the normal range.

    Refuses: combined constants that are larger than both or not finite; roots of what may be
    negative; a sum with other readers.
    """

    name: ClassVar[str] = "regroup-arithmetic"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
