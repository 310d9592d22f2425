"""Pointwise ops as kernel expressions: one row per op, shared by every backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    Expr,
    binary,
    call,
    cast,
    const,
    select,
)

Rule = Callable[..., Expr]
"""`rule(node, *operands)`: the op on scalars or vectors of its operand dtypes."""


def pointwise(node: Node, operands: list[Expr]) -> Expr:
    """The value of a pointwise node. Raises: UnsupportedError for an op with no row."""
    rule = RULES.get(node.op.name)
    if rule is None:
        raise UnsupportedError(
            f"no pointwise lowering for {node.op.name}", hint="this op must not be fused"
        )
    return rule(node, *operands)


def _like(x: Expr, value: float) -> Expr:
    return const(value if x.dtype.is_float else int(value), x.dtype, x.lanes)


def _operator(op: str) -> Rule:
    return lambda _, a, b: binary(op, a, b)


def _intrinsic(name: str) -> Rule:
    return lambda _, *xs: call(name, *xs)


def _predicate(name: str) -> Rule:
    return lambda _, x: call(name, x, dtype=DType.BOOL)


def _neg(_: Node, x: Expr) -> Expr:
    # -1 * x, not 0 - x: the sign of zero survives
    return binary("*", x, _like(x, -1))


def _relu(_: Node, x: Expr) -> Expr:
    return binary("max", x, _like(x, 0))


def _clamp_to(x: Expr, low: float, high: float) -> Expr:
    if low != -math.inf:
        x = binary("max", x, _like(x, low))
    return x if high == math.inf else binary("min", x, _like(x, high))


def _hardsigmoid(_: Node, x: Expr) -> Expr:
    shifted = _clamp_to(binary("+", x, _like(x, 3)), 0, 6)
    return binary("*", shifted, _like(x, 1 / 6))


def _gelu(node: Node, x: Expr) -> Expr:
    if node.attrs.approximate == "tanh":  # type: ignore[attr-defined]
        cube = binary("*", binary("*", x, x), x)
        inner = binary("+", x, binary("*", cube, _like(x, 0.044715)))
        # (1 + tanh(y)) / 2 = sigmoid(2 y)
        factor = call("logistic_cdf", binary("*", inner, _like(x, 2 * math.sqrt(2 / math.pi))))
        return binary("*", x, factor)
    return binary("*", x, call("normal_cdf", x))


def _softplus(_: Node, x: Expr) -> Expr:
    # max(x, 0) + log1p(exp(-|x|)): no overflow for large x
    tail = call("log1p", call("exp", _neg(_, call("abs", x))))
    return binary("+", binary("max", x, _like(x, 0)), tail)


def _elu(node: Node, x: Expr) -> Expr:
    negative = binary("*", call("expm1", x), _like(x, node.attrs.alpha))  # type: ignore[attr-defined]
    return select(binary(">", x, _like(x, 0)), x, negative)


def _leaky_relu(node: Node, x: Expr) -> Expr:
    scaled = binary("*", x, _like(x, node.attrs.slope))  # type: ignore[attr-defined]
    return select(binary(">", x, _like(x, 0)), x, scaled)


def _sign(_: Node, x: Expr) -> Expr:
    zero = _like(x, 0)
    negative = select(binary("<", x, zero), _like(x, -1), zero)
    return select(binary(">", x, zero), _like(x, 1), negative)


def _abs(_: Node, x: Expr) -> Expr:
    return call("abs", x) if x.dtype.is_float else binary("max", x, _neg(_, x))


def _mod(_: Node, a: Expr, b: Expr) -> Expr:
    if not a.dtype.is_float:
        return binary("%", a, b)
    return binary("-", a, binary("*", call("floor", binary("/", a, b)), b))


def _floor_div(_: Node, a: Expr, b: Expr) -> Expr:
    return call("floor", binary("/", a, b)) if a.dtype.is_float else binary("//", a, b)


def _fmod(_: Node, a: Expr, b: Expr) -> Expr:
    if a.dtype.is_float:
        return call("fmod", a, b)
    quotient = cast(call("trunc", binary("/", cast(a, DType.F64), cast(b, DType.F64))), a.dtype)
    return binary("-", a, binary("*", quotient, b))


def _div(_: Node, a: Expr, b: Expr) -> Expr:
    return binary("/", a, b)


def _not(_: Node, x: Expr) -> Expr:
    if x.dtype is DType.BOOL:
        return binary("xor", x, const(True, DType.BOOL, x.lanes))
    return binary("==", x, _like(x, 0))


def _bitwise_not(_: Node, x: Expr) -> Expr:
    if x.dtype is DType.BOOL:
        return _not(_, x)
    return binary("xor", x, _like(x, -1))


def _cast(node: Node, x: Expr) -> Expr:
    target = node.attrs.dtype  # type: ignore[attr-defined]
    if target is DType.BOOL and x.dtype is not DType.BOOL:
        return binary("!=", x, _like(x, 0))
    return cast(x, target)


def _float_only(rule: Rule, otherwise: Rule) -> Rule:
    return lambda n, *xs: (rule if xs[0].dtype.is_float else otherwise)(n, *xs)


def _identity(_: Node, x: Expr) -> Expr:
    return x


RULES: Mapping[str, Rule] = {
    **{n: _intrinsic(n) for n in ("exp", "exp2", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt")},
    **{n: _intrinsic(n) for n in ("sin", "cos", "tan", "atan", "tanh", "erf", "pow", "atan2")},
    **{n: _float_only(_intrinsic(n), _identity) for n in ("floor", "ceil", "round", "trunc")},
    **{n: _predicate(n) for n in ("isnan", "isinf")},
    "add": _operator("+"),
    "sub": _operator("-"),
    "mul": _operator("*"),
    "div": _div,
    "minimum": _operator("min"),
    "maximum": _operator("max"),
    "and": _operator("and"),
    "or": _operator("or"),
    "xor": _operator("xor"),
    **{
        n: _operator(op)
        for n, op in zip(
            ("eq", "ne", "lt", "le", "gt", "ge"), ("==", "!=", "<", "<=", ">", ">="), strict=True
        )
    },
    "neg": _neg,
    "abs": _abs,
    "reciprocal": lambda n, x: binary("/", _like(x, 1), x),
    "sigmoid": _intrinsic("sigmoid"),
    "silu": lambda _, x: binary("*", x, call("logistic_cdf", x)),
    "relu": _relu,
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda n, x: binary("*", x, _hardsigmoid(n, x)),
    "softplus": _softplus,
    "gelu": _gelu,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "clamp": lambda n, x: _clamp_to(x, n.attrs.low, n.attrs.high),
    "sign": _sign,
    "mod": _mod,
    "fmod": _fmod,
    "floor_div": _floor_div,
    "logical_not": _not,
    "bitwise_not": _bitwise_not,
    "where": lambda _, c, a, b: select(c, a, b),
    "cast": _cast,
}
