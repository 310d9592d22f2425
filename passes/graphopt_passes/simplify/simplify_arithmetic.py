"""simplify-arithmetic: identities of arithmetic that hold to the last bit.

x * 1, x / 1, x ** 1, x - 0   →  x            -(-x)            →  x
x + -y                        →  x - y        -x * -y          →  x * y
x / 8                         →  x * 0.125    x * -1, x / -1   →  -x
x * sigmoid(x)                →  silu(x)      abs(-x)          →  abs(x)
1 / x                         →  reciprocal   1 / sqrt(x)      →  rsqrt(x)
floor(round(x))               →  round(x)     x ** 0           →  1
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import (
    Recipe,
    Rule,
    RulePass,
    full,
    full_like,
    make,
    producer,
    splat,
)

_ROUNDINGS = ("floor", "ceil", "round", "trunc")


def _add(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    for x, y in (node.operands, node.operands[::-1]):
        zero = splat(rw, y)
        if zero == 0:
            # -0.0 + 0.0 is 0.0: of the two float zeros only the negative one changes nothing.
            neutral = not x.type.dtype.is_float or math.copysign(1, zero) < 0
            return x if neutral else Reject("x + 0 turns -0 into 0; regroup-arithmetic drops it")
        negated = producer(y, "neg")
        if negated is not None:
            return make("sub", x, negated.operands[0])
    return None


def _sub(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    x, y = node.operands
    zero = splat(rw, y)
    if zero == 0 and (not x.type.dtype.is_float or math.copysign(1, zero) > 0):
        return x
    negated = producer(y, "neg")
    if negated is not None:
        return make("add", x, negated.operands[0])
    if x is not y:
        return None
    if x.type.dtype.is_float:
        return Reject("x - x of an infinity or nan is nan")
    return full_like(x.type, 0)


def _mul(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    for x, y in (node.operands, node.operands[::-1]):
        factor = splat(rw, y)
        if factor == 1:
            return x
        if factor == -1:
            return make("neg", x)
        if factor == 0:
            return _times_zero(node)
    return _mul_of(node)


def _times_zero(node: Node) -> Recipe | Reject | None:
    if node.result.type.dtype.is_float:
        return Reject("x * 0 of an infinity or nan is nan")
    return full_like(node.result.type, 0)


def _mul_of(node: Node) -> Recipe | None:
    """Products of two computed factors."""
    for x, y in (node.operands, node.operands[::-1]):
        sigmoid = producer(y, "sigmoid")
        if sigmoid is not None and sigmoid.operands[0] is x:
            return make("silu", x)
    p, q = (producer(o, "neg") for o in node.operands)
    return make("mul", p.operands[0], q.operands[0]) if p is not None and q is not None else None


def _div(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    x, y = node.operands
    divisor = splat(rw, y)
    if divisor == 1:
        return x
    if divisor == -1:
        return make("neg", x)
    if divisor is not None:
        factor = exact_reciprocal(divisor, x.type.dtype)
        if factor is None:
            return Reject(f"1 / {divisor:g} is rounded; regroup-arithmetic multiplies by it")
        return make("mul", x, full(factor, y.type.dims, y.type.dtype))
    if splat(rw, x) == 1:
        root = producer(y, "sqrt")
        return make("reciprocal", y) if root is None else make("rsqrt", root.operands[0])
    return None


def exact_reciprocal(x: float, dtype: DType) -> float | None:
    """1 / x where that is a power of two within the normal range of the dtype, else None."""
    if not math.isfinite(x) or x == 0 or abs(math.frexp(x)[0]) != 0.5:
        return None
    info = ml_dtypes.finfo(dtype.numpy)
    return 1 / x if float(info.tiny) <= abs(1 / x) <= float(info.max) else None


def _pow(node: Node, rw: Rewriter) -> Recipe | None:
    x, y = node.operands
    exponent = splat(rw, y)
    if exponent == 1:
        return x
    return full_like(node.result.type, 1) if exponent == 0 else None  # nan ** 0 is 1 too


def _neg(node: Node, rw: Rewriter) -> Recipe | None:
    inner = producer(node.operands[0], "neg")
    return None if inner is None else inner.operands[0]


def _abs(node: Node, rw: Rewriter) -> Recipe | None:
    (x,) = node.operands
    negated = producer(x, "neg")
    if negated is not None and not np.issubdtype(x.type.dtype.numpy, np.unsignedinteger):
        return make("abs", negated.operands[0])
    # Not relu or sqrt: they keep -0, which abs turns into 0.
    return x if producer(x, "abs", "exp", "exp2", "sigmoid", "softmax") else None


def _round(node: Node, rw: Rewriter) -> Recipe | None:
    (x,) = node.operands
    whole = not x.type.dtype.is_float or producer(x, *_ROUNDINGS, "sign") is not None
    return x if whole else None


def _sign(node: Node, rw: Rewriter) -> Recipe | None:
    return node.operands[0] if producer(node.operands[0], "sign") is not None else None


def _reciprocal(node: Node, rw: Rewriter) -> Recipe | None:
    root = producer(node.operands[0], "sqrt")
    return None if root is None else make("rsqrt", root.operands[0])


RULES: Mapping[str, tuple[Rule, ...]] = {
    "add": (_add,), "sub": (_sub,), "mul": (_mul,), "div": (_div,), "pow": (_pow,),
    "neg": (_neg,), "abs": (_abs,), "sign": (_sign,), "reciprocal": (_reciprocal,),
    **dict.fromkeys(_ROUNDINGS, (_round,)),
}  # fmt: skip


@dataclass(frozen=True)
class SimplifyArithmetic(RulePass):
    """Numerics: exact, signs of zeros and infinities included. Refuses: identities that fail for
    -0, infinities or nan (x + 0, x - x and x * 0 of floats).
    """

    name: ClassVar[str] = "simplify-arithmetic"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
