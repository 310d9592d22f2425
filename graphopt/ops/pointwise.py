"""Pointwise ops: numpy broadcasting over operands of one dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType, TensorType
from graphopt.ops.base import Attrs, NoAttrs, OpDef
from graphopt.ops.define import (
    broadcast,
    check_bool,
    check_discrete,
    check_float,
    check_number,
    check_same_dtype,
    define,
    per_element,
)
from graphopt.ops.erf import erf


@dataclass(frozen=True)
class GeluAttrs(Attrs):
    """`approximate` is "none" (erf) or "tanh"."""

    approximate: str = "none"


@dataclass(frozen=True)
class LeakyReluAttrs(Attrs):
    """x where x > 0, else slope * x."""

    slope: float


@dataclass(frozen=True)
class EluAttrs(Attrs):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    alpha: float


@dataclass(frozen=True)
class ClampAttrs(Attrs):
    """Bounds; an infinite one is open."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class CastAttrs(Attrs):
    """Float to integer truncates towards zero; anything to bool is `!= 0`."""

    dtype: DType


# Inference -------------------------------------------------------------------------------------

Check = Callable[[str, TensorType], None]


def _any(name: str, x: TensorType) -> None:
    del name, x


def _infer(name: str, check: Check, result: DType | None, *args: Any) -> TensorType:
    """Operands of one dtype that passes `check`, broadcast; `result` replaces that dtype."""
    types: tuple[TensorType, ...] = args[:-1]
    check_same_dtype(name, *types)
    check(name, types[0])
    return TensorType(result or types[0].dtype, broadcast(name, *types))


def _gelu_infer(x: TensorType, a: GeluAttrs) -> TensorType:
    if a.approximate not in ("none", "tanh"):
        raise IRError(f"gelu: no approximation {a.approximate!r}", hint='use "none" or "tanh"')
    check_float("gelu", x)
    return x


def _clamp_infer(x: TensorType, a: ClampAttrs) -> TensorType:
    check_number("clamp", x)
    if math.isnan(a.low) or math.isnan(a.high):
        raise IRError(f"clamp: bounds {a.low} and {a.high}", hint="an open bound is -inf or inf")
    return x


def _where_infer(c: TensorType, x: TensorType, y: TensorType, _: NoAttrs) -> TensorType:
    check_bool("where", c)
    check_same_dtype("where", x, y)
    return TensorType(x.dtype, broadcast("where", c, x, y))


# Meaning ---------------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))  # never above 1: no overflow on either side
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def _gelu(x: np.ndarray, a: GeluAttrs) -> np.ndarray:
    if a.approximate == "tanh":
        t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    else:
        t = erf(x * math.sqrt(0.5))
    return np.asarray(0.5 * x * (1 + t))


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _elu(x: np.ndarray, a: EluAttrs) -> np.ndarray:
    return np.where(x > 0, x, a.alpha * np.expm1(np.minimum(x, 0)))


def _clamp(x: np.ndarray, a: ClampAttrs) -> np.ndarray:
    """min(max(x, low), high): `high` wins where low > high, as torch has it."""
    low, high = a.low, a.high
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        low = info.min if low <= info.min else math.ceil(min(low, info.max))
        high = info.max if high >= info.max else math.floor(max(high, info.min))
    out = np.maximum(x, np.asarray(low, x.dtype))
    return np.asarray(np.minimum(out, np.asarray(high, x.dtype)))


def _pow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Integers to a negative power truncate towards zero (only 1 and -1 leave something)."""
    if x.dtype.kind == "f":
        return np.asarray(np.power(x, y))
    power = np.power(x, np.maximum(y, 0))
    odd = np.where(y % 2 == 0, 1, x)
    return np.where(y >= 0, power, np.where(np.abs(x) == 1, odd, 0)).astype(x.dtype)


def _rounding(f: Callable[..., Any]) -> Callable[..., Any]:
    """Identity on integers."""
    return lambda x: f(x) if x.dtype.kind == "f" else x


def _sign(x: np.ndarray) -> np.ndarray:
    """nan gives 0, as in torch."""
    sign = np.sign(x)
    return np.asarray(np.where(np.isnan(x), 0, sign) if x.dtype.kind == "f" else sign)


def _cast(x: np.ndarray, a: CastAttrs) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # nan or out of range to integer
        return x.astype(a.dtype.numpy)


def _plain(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays as the meaning of an op without attributes."""
    return lambda *args: f(*args[:-1])


# The table -------------------------------------------------------------------------------------

_FLOAT_UNARY: dict[str, tuple[Callable[..., Any], int]] = {
    "exp": (np.exp, 8), "exp2": (np.exp2, 8), "expm1": (np.expm1, 10), "log": (np.log, 8),
    "log1p": (np.log1p, 10), "log2": (np.log2, 8), "sqrt": (np.sqrt, 4),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 5), "reciprocal": (lambda x: 1 / x, 4),
    "sin": (np.sin, 10), "cos": (np.cos, 10), "tan": (np.tan, 12), "atan": (np.arctan, 12),
    "tanh": (np.tanh, 10), "erf": (erf, 12), "sigmoid": (_sigmoid, 10),
    "silu": (lambda x: x * _sigmoid(x), 11), "hardswish": (lambda x: x * _hardsigmoid(x), 5),
    "hardsigmoid": (_hardsigmoid, 4), "softplus": (_softplus, 20),
}  # fmt: skip

_NUMBER_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "abs": np.abs, "relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "floor": _rounding(np.floor), "ceil": _rounding(np.ceil), "round": _rounding(np.round),
    "trunc": _rounding(np.trunc), "sign": _sign,
}  # fmt: skip

_PREDICATES: dict[str, tuple[Callable[..., Any], Check]] = {
    "isnan": (np.isnan, check_float), "isinf": (np.isinf, check_float),
    "logical_not": (np.logical_not, _any),
}  # fmt: skip

# name: (meaning, operand check, commutative, cost)
_BINARY: dict[str, tuple[Callable[..., Any], Check, bool, int]] = {
    "add": (np.add, check_number, True, 1), "sub": (np.subtract, check_number, False, 1),
    "mul": (np.multiply, check_number, True, 1), "div": (np.divide, check_float, False, 4),
    "pow": (_pow, check_number, False, 16), "minimum": (np.minimum, _any, True, 1),
    "maximum": (np.maximum, _any, True, 1), "floor_div": (np.floor_divide, check_number, False, 6),
    "mod": (np.mod, check_number, False, 6), "fmod": (np.fmod, check_number, False, 6),
    "atan2": (np.arctan2, check_float, False, 16),
    "and": (np.bitwise_and, check_discrete, True, 1),
    "or": (np.bitwise_or, check_discrete, True, 1),
    "xor": (np.bitwise_xor, check_discrete, True, 1),
}  # fmt: skip

_COMPARISON: dict[str, tuple[Callable[..., Any], bool]] = {
    "eq": (np.equal, True), "ne": (np.not_equal, True), "lt": (np.less, False),
    "le": (np.less_equal, False), "gt": (np.greater, False), "ge": (np.greater_equal, False),
}  # fmt: skip


def _op(
    name: str,
    operands: int,
    meaning: Callable[..., Any],
    check: Check,
    cost: int = 1,
    *,
    result: DType | None = None,
    commutative: bool = False,
) -> OpDef:
    infer = partial(_infer, name, check, result)
    return define(
        name, NoAttrs, infer, _plain(meaning), per_element(cost),
        kind="pointwise", operands=operands, commutative=commutative,
    )  # fmt: skip


def _with_attrs(
    attrs: type[Attrs], name: str, infer: Callable[..., TensorType], meaning: Any, cost: int
) -> OpDef:
    return define(name, attrs, infer, meaning, per_element(cost), kind="pointwise", operands=1)


def _float_infer(name: str) -> Callable[..., TensorType]:
    return partial(_infer, name, check_float, None)


OPS: tuple[OpDef, ...] = (
    *(_op(n, 1, f, check_float, cost) for n, (f, cost) in _FLOAT_UNARY.items()),
    *(_op(n, 1, f, check_number) for n, f in _NUMBER_UNARY.items()),
    *(_op(n, 1, f, check, result=DType.BOOL) for n, (f, check) in _PREDICATES.items()),
    _op("bitwise_not", 1, np.invert, check_discrete),
    *(_op(n, 2, f, check, cost, commutative=c) for n, (f, check, c, cost) in _BINARY.items()),
    *(_op(n, 2, f, _any, result=DType.BOOL, commutative=c) for n, (f, c) in _COMPARISON.items()),
    _with_attrs(GeluAttrs, "gelu", _gelu_infer, _gelu, 14),
    _with_attrs(LeakyReluAttrs, "leaky_relu", _float_infer("leaky_relu"),
                lambda x, a: np.where(x > 0, x, x * a.slope), 2),
    _with_attrs(EluAttrs, "elu", _float_infer("elu"), _elu, 10),
    _with_attrs(ClampAttrs, "clamp", _clamp_infer, _clamp, 2),
    define("where", NoAttrs, _where_infer, _plain(np.where), per_element(1),
           kind="pointwise", operands=3),
    # Not by `define`: a cast must not be computed in float32.
    OpDef("cast", CastAttrs, lambda x, a: TensorType(a.dtype, x.shape), _cast, per_element(1),
          kind="pointwise"),
)  # fmt: skip
