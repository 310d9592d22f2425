"""Pointwise ops: numpy broadcasting over operands of one dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.types import DType, TensorType, broadcast_shapes
from graphopt.ops.base import Attrs, NoAttrs, OpDef


@dataclass(frozen=True)
class GeluAttrs(Attrs):
    """`approximate` is "none" (erf) or "tanh"."""

    approximate: str = "none"


@dataclass(frozen=True)
class LeakyReluAttrs(Attrs):
    slope: float


@dataclass(frozen=True)
class EluAttrs(Attrs):
    alpha: float


@dataclass(frozen=True)
class ClampAttrs(Attrs):
    """Bounds; an infinite one is open."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class CastAttrs(Attrs):
    dtype: DType


# Inference -------------------------------------------------------------------------------------


def _same(*args: Any) -> TensorType:
    types: tuple[TensorType, ...] = args[:-1]
    dtypes = {t.dtype for t in types}
    if len(dtypes) > 1:
        text = " and ".join(map(str, types))
        raise IRError(f"operands {text} differ in dtype", hint="insert a cast")
    return TensorType(types[0].dtype, broadcast_shapes(*(t.shape for t in types)))


def _float(*args: Any) -> TensorType:
    out = _same(*args)
    if not out.dtype.is_float:
        raise IRError(f"operand {args[0]} is not a float tensor", hint="insert a cast")
    return out


def _predicate(*args: Any) -> TensorType:
    return _same(*args).with_dtype(DType.BOOL)


def _discrete(*args: Any) -> TensorType:
    out = _same(*args)
    if out.dtype.is_float:
        raise IRError(f"operand {args[0]} is a float tensor", hint="use a bool or integer tensor")
    return out


def _where(c: TensorType, a: TensorType, b: TensorType, attrs: NoAttrs) -> TensorType:
    if c.dtype is not DType.BOOL:
        raise IRError(f"where: condition {c} is not bool", hint="compare it with 0 first")
    out = _same(a, b, attrs)
    return TensorType(out.dtype, broadcast_shapes(c.shape, out.shape))


def _cast(x: TensorType, a: CastAttrs) -> TensorType:
    return TensorType(a.dtype, x.shape)


# Meaning ---------------------------------------------------------------------------------------

_P = (
    3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02,
    3.20937758913846947e03, 1.85777706184603153e-1,
)  # fmt: skip
_Q = (
    2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03,
    2.84423683343917062e03,
)  # fmt: skip
_C = (
    5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01,
    2.98635138197400131e02, 8.81952221241769090e02, 1.71204761263407058e03,
    2.05107837782607147e03, 1.23033935479799725e03, 2.15311535474403846e-8,
)  # fmt: skip
_D = (
    1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02,
    1.62138957456669019e03, 3.29079923573345963e03, 4.36261909014324716e03,
    3.43936767414372164e03, 1.23033935480374942e03,
)  # fmt: skip
_R = (
    3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4, 1.63153871373020978e-2,
)  # fmt: skip
_S = (
    2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1,
    6.05183413124413191e-2, 2.33520497626869185e-3,
)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """Error function to about 1e-16 in float64, elementwise.

    Source: W. J. Cody, Rational Chebyshev approximations for the error function, 1969 (CALERF).
    """
    y = np.abs(np.asarray(x, np.float64))
    out = np.where(y <= 0.46875, _erf_small(y), 1.0 - _erfc_large(np.maximum(y, 0.46875)))
    return (np.sign(x) * out).astype(np.asarray(x).dtype)


def _erf_small(y: np.ndarray) -> np.ndarray:
    z = np.minimum(y, 0.46875) ** 2
    top, bottom = _P[4] * z, z
    for i in range(3):
        top, bottom = (top + _P[i]) * z, (bottom + _Q[i]) * z
    return y * (top + _P[3]) / (bottom + _Q[3])


def _erfc_large(y: np.ndarray) -> np.ndarray:
    top, bottom = _C[8] * y, y
    for i in range(7):
        top, bottom = (top + _C[i]) * y, (bottom + _D[i]) * y
    middle = (top + _C[7]) / (bottom + _D[7])
    far = np.maximum(y, 4.0)
    z = 1.0 / (far * far)
    top, bottom = _R[5] * z, z
    for i in range(4):
        top, bottom = (top + _R[i]) * z, (bottom + _S[i]) * z
    tail = z * (top + _R[4]) / (bottom + _S[4])
    tail = (1.0 / math.sqrt(math.pi) - tail) / far
    cut = np.trunc(np.minimum(y, 27.0) * 16) / 16  # y*y split so that exp stays exact
    scale = np.exp(-cut * cut) * np.exp(-(np.minimum(y, 27.0) - cut) * (np.minimum(y, 27.0) + cut))
    return scale * np.where(y <= 4.0, middle, tail)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _gelu(x: np.ndarray, a: GeluAttrs) -> np.ndarray:
    if a.approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return (0.5 * x * (1 + np.tanh(inner))).astype(x.dtype)
    return (0.5 * x * (1 + erf(x * math.sqrt(0.5)))).astype(x.dtype)


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return (np.clip(x + 3, 0, 6) / 6).astype(x.dtype)


def _softplus(x: np.ndarray) -> np.ndarray:
    return (np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))).astype(x.dtype)


def _elu(x: np.ndarray, a: EluAttrs) -> np.ndarray:
    return np.where(x > 0, x, a.alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


def _clamp(x: np.ndarray, a: ClampAttrs) -> np.ndarray:
    low, high = a.low, a.high
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        low, high = max(low, info.min), min(high, info.max)
    return np.minimum(np.maximum(x, np.asarray(low, x.dtype)), np.asarray(high, x.dtype))


def cast_array(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numeric conversion; what C leaves undefined (nan to integer) is silent here."""
    with np.errstate(invalid="ignore"):
        return x.astype(dtype)


def _quiet(f: Callable[..., Any]) -> Callable[..., Any]:
    """The IEEE result without numpy's warnings; operands without the attributes."""

    def run(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            out = f(*args[:-1])
        x = args[0]
        keeps = out.dtype != np.bool_ and hasattr(x, "dtype")
        return out.astype(np.result_type(*args[:-1]), copy=False) if keeps else out

    return run


# The table -------------------------------------------------------------------------------------


def _cost(weight: int) -> Callable[..., int]:
    def flops(*args: Any) -> int:
        return weight * _numel(args[:-1])

    return flops


def _numel(types: tuple[TensorType, ...]) -> int:
    return TensorType(types[0].dtype, broadcast_shapes(*(t.shape for t in types))).numel


def _op(
    name: str, meaning: Callable[..., Any], infer: Callable[..., TensorType] = _same,
    cost: int = 1, commutative: bool = False,
) -> OpDef:  # fmt: skip
    return OpDef(
        name, NoAttrs, infer, _quiet(meaning), _cost(cost), kind="pointwise", commutative=commutative
    )


_FLOAT_UNARY: dict[str, tuple[Callable[..., Any], int]] = {
    "exp": (np.exp, 8), "exp2": (np.exp2, 8), "expm1": (np.expm1, 10), "log": (np.log, 8),
    "log1p": (np.log1p, 10), "log2": (np.log2, 8), "sqrt": (np.sqrt, 4),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 5), "reciprocal": (lambda x: 1 / x, 4),
    "sin": (np.sin, 10), "cos": (np.cos, 10), "tan": (np.tan, 12), "atan": (np.arctan, 12),
    "tanh": (np.tanh, 10), "erf": (erf, 12), "sigmoid": (_sigmoid, 10),
    "silu": (lambda x: x * _sigmoid(x), 11), "hardswish": (lambda x: x * _hardsigmoid(x), 5),
    "hardsigmoid": (_hardsigmoid, 4), "softplus": (_softplus, 20),
}  # fmt: skip

_ANY_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "abs": np.abs, "relu": lambda x: np.maximum(x, np.zeros((), x.dtype)),
    "floor": np.floor, "ceil": np.ceil, "round": np.round, "trunc": np.trunc, "sign": np.sign,
}  # fmt: skip

_BINARY: dict[str, tuple[Callable[..., Any], Callable[..., TensorType], bool]] = {
    "add": (np.add, _same, True), "sub": (np.subtract, _same, False),
    "mul": (np.multiply, _same, True), "div": (np.divide, _float, False),
    "pow": (np.power, _same, False), "minimum": (np.minimum, _same, True),
    "maximum": (np.maximum, _same, True), "floor_div": (np.floor_divide, _same, False),
    "mod": (np.mod, _same, False), "fmod": (np.fmod, _same, False),
    "atan2": (np.arctan2, _float, False),
    "eq": (np.equal, _predicate, True), "ne": (np.not_equal, _predicate, True),
    "lt": (np.less, _predicate, False), "le": (np.less_equal, _predicate, False),
    "gt": (np.greater, _predicate, False), "ge": (np.greater_equal, _predicate, False),
    "and": (np.bitwise_and, _discrete, True), "or": (np.bitwise_or, _discrete, True),
    "xor": (np.bitwise_xor, _discrete, True),
}  # fmt: skip


def _with(
    name: str, attrs: type[Attrs], meaning: Callable[..., Any],
    infer: Callable[..., TensorType] = _same, cost: int = 1,
) -> OpDef:  # fmt: skip
    def run(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return meaning(*args)

    return OpDef(name, attrs, infer, run, _cost(cost), kind="pointwise")


OPS: tuple[OpDef, ...] = (
    *(_op(n, f, _float, cost) for n, (f, cost) in _FLOAT_UNARY.items()),
    *(_op(n, f) for n, f in _ANY_UNARY.items()),
    *(_op(n, f, infer, commutative=c) for n, (f, infer, c) in _BINARY.items()),
    _op("isnan", np.isnan, lambda *a: _float(*a).with_dtype(DType.BOOL)),
    _op("isinf", np.isinf, lambda *a: _float(*a).with_dtype(DType.BOOL)),
    _op("logical_not", np.logical_not, _predicate),
    _op("bitwise_not", np.invert, _discrete),
    _with("gelu", GeluAttrs, _gelu, _float, 14),
    _with("leaky_relu", LeakyReluAttrs, lambda x, a: np.where(x > 0, x, x * x.dtype.type(a.slope)), _float),
    _with("elu", EluAttrs, _elu, _float, 10),
    _with("clamp", ClampAttrs, _clamp, _same, 2),
    OpDef("where", NoAttrs, _where, lambda c, x, y, _: np.where(c, x, y), _cost(1), kind="pointwise"),
    OpDef("cast", CastAttrs, _cast, lambda x, a: cast_array(x, a.dtype.numpy), _cost(1), kind="pointwise"),
)
