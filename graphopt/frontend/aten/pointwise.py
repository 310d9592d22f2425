"""ATen's elementwise operators."""

from __future__ import annotations

import math

from graphopt.frontend.builder import Builder, Mapping, Number, Operand, UnsupportedFormError
from graphopt.frontend.dtypes import promote
from graphopt.ir.graph import Value
from graphopt.ir.types import DType
from graphopt.ops import ClampAttrs, EluAttrs, GeluAttrs, LeakyReluAttrs


def unary(op: str) -> Mapping:
    """`op` on the operand in the result's dtype (ints become float where torch makes them so)."""
    return lambda b, x: b.emit(op, b.cast(x, b.type.dtype))


def binary(op: str) -> Mapping:
    """`op` on both operands in the result's dtype."""

    def run(b: Builder, x: Operand, y: Operand) -> Value:
        return b.emit(op, b.operand(x, b.type.dtype), b.operand(y, b.type.dtype))

    return run


def comparison(op: str) -> Mapping:
    """`op` on both operands in their promoted dtype."""

    def run(b: Builder, x: Operand, y: Operand) -> Value:
        dtype = promote(x, y)
        return b.emit(op, b.operand(x, dtype), b.operand(y, dtype))

    return run


def logical(op: str) -> Mapping:
    return lambda b, x, y: b.emit(op, b.truth(x), b.truth(y))


def rounding(op: str) -> Mapping:
    """floor, ceil, ...: integers are whole already."""
    return lambda b, x: x if not x.type.dtype.is_float else b.emit(op, x)


# Arithmetic ------------------------------------------------------------------------------------


def add(b: Builder, x: Operand, y: Operand, alpha: Number = 1) -> Value:
    dtype = b.type.dtype
    if dtype is DType.BOOL:
        return b.emit("or", b.operand(x, dtype), b.operand(y, dtype))
    return b.emit("add", b.operand(x, dtype), scaled(b, y, alpha))


def sub(b: Builder, x: Operand, y: Operand, alpha: Number = 1) -> Value:
    return b.emit("sub", b.operand(x, b.type.dtype), scaled(b, y, alpha))


def rsub(b: Builder, x: Operand, y: Operand, alpha: Number = 1) -> Value:
    return b.emit("sub", b.operand(y, b.type.dtype), scaled(b, x, alpha))


def scaled(b: Builder, x: Operand, factor: Number) -> Value:
    """factor * x in the result's dtype."""
    x = x * factor if not isinstance(x, Value) and factor != 1 else x
    value = b.operand(x, b.type.dtype)
    return value if factor == 1 or not isinstance(x, Value) else b.mul(value, factor)


def mul(b: Builder, x: Operand, y: Operand) -> Value:
    dtype = b.type.dtype
    return b.emit("and" if dtype is DType.BOOL else "mul", b.operand(x, dtype), b.operand(y, dtype))


def div_mode(b: Builder, x: Operand, y: Operand, rounding_mode: str | None = None) -> Value:
    p, q = b.operand(x, b.type.dtype), b.operand(y, b.type.dtype)
    if rounding_mode is None:
        return b.emit("div", p, q)
    if rounding_mode == "floor":
        return b.emit("floor_div", p, q)
    if b.type.dtype.is_float:
        return b.emit("trunc", b.emit("div", p, q))
    # Without its remainder, which has the sign of p, p divides evenly: floor is then trunc.
    return b.emit("floor_div", b.sub(p, b.emit("fmod", p, q)), q)


def power(b: Builder, x: Operand, exponent: Operand) -> Value:
    """torch too computes these exponents by products and roots."""
    dtype = b.type.dtype
    if isinstance(x, Value) and not isinstance(exponent, Value):
        v = b.cast(x, dtype)
        if exponent == 1:
            return v
        if exponent == 2:
            return b.emit("mul", v, v)
        if exponent == 3:
            return b.emit("mul", b.emit("mul", v, v), v)
        root = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(float(exponent))
        if root and dtype.is_float:
            return b.emit(root, v)
    return b.emit("pow", b.operand(x, dtype), b.operand(exponent, dtype))


def addcmul(b: Builder, x: Value, p: Value, q: Value, value: Number = 1) -> Value:
    product = b.emit("mul", b.cast(p, b.type.dtype), b.cast(q, b.type.dtype))
    return b.add(b.cast(x, b.type.dtype), product if value == 1 else b.mul(product, value))


def addcdiv(b: Builder, x: Value, p: Value, q: Value, value: Number = 1) -> Value:
    quotient = b.emit("div", b.cast(p, b.type.dtype), b.cast(q, b.type.dtype))
    return b.add(b.cast(x, b.type.dtype), quotient if value == 1 else b.mul(quotient, value))


def lerp(b: Builder, x: Value, end: Value, weight: Operand) -> Value:
    return b.add(x, b.mul(b.sub(end, x), weight))


# Choice ----------------------------------------------------------------------------------------


def where(b: Builder, condition: Value, x: Operand, y: Operand) -> Value:
    return b.where(b.truth(condition), x, y, b.type.dtype)


def masked_fill(b: Builder, x: Value, mask: Value, value: Operand) -> Value:
    return b.where(b.truth(mask), value, x, b.type.dtype)


def clamp(b: Builder, x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    x = b.cast(x, b.type.dtype)
    if isinstance(low, Value):
        x, low = b.emit("maximum", x, b.cast(low, x.type.dtype)), None
    if isinstance(high, Value):
        x, high = b.emit("minimum", x, b.cast(high, x.type.dtype)), None
    if low is None and high is None:
        return x
    bounds = ClampAttrs(
        -math.inf if low is None else float(low), math.inf if high is None else float(high)
    )
    return b.emit("clamp", x, attrs=bounds)


def threshold(b: Builder, x: Value, limit: Number, value: Number) -> Value:
    dtype = x.type.dtype
    return b.where(b.emit("gt", x, b.full(limit, dtype)), x, value, dtype)


def nan_to_num(
    b: Builder, x: Value, nan: float | None = None, posinf: float | None = None,
    neginf: float | None = None,
) -> Value:  # fmt: skip
    dtype = x.type.dtype
    if not dtype.is_float:
        return x
    largest = finfo_max(dtype)
    x = b.where(b.emit("isnan", x), nan or 0.0, x, dtype)
    high, low = b.full(math.inf, dtype), b.full(-math.inf, dtype)
    x = b.where(b.emit("eq", x, high), largest if posinf is None else posinf, x, dtype)
    return b.where(b.emit("eq", x, low), -largest if neginf is None else neginf, x, dtype)


def finfo_max(dtype: DType) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)


# Activations -----------------------------------------------------------------------------------


def gelu(b: Builder, x: Value, approximate: str = "none") -> Value:
    return b.emit("gelu", x, attrs=GeluAttrs(approximate))


def leaky_relu(b: Builder, x: Value, slope: Number = 0.01) -> Value:
    return b.emit("leaky_relu", x, attrs=LeakyReluAttrs(float(slope)))


def prelu(b: Builder, x: Value, weight: Value) -> Value:
    """weight: one number, or one per channel (axis 1); `_prelu_kernel` gives it broadcast."""
    if weight.type.rank == 1 and weight.type.numel > 1 and x.type.rank > 1:
        weight = b.reshape(weight, (weight.type.numel, *(1,) * (x.type.rank - 2)))
    elif weight.type.rank == 1 and weight.type.numel == 1:
        weight = b.reshape(weight, ())
    return b.where(b.emit("gt", x, b.full(0, x.type.dtype)), x, b.mul(x, weight), x.type.dtype)


def elu(
    b: Builder, x: Value, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Value:
    if input_scale == 1:
        y = b.emit("elu", x, attrs=EluAttrs(float(alpha)))
    else:
        dtype = x.type.dtype
        low = b.mul(
            b.emit("expm1", b.mul(b.emit("minimum", x, b.full(0, dtype)), input_scale)), alpha
        )
        y = b.where(b.emit("gt", x, b.full(0, dtype)), x, low, dtype)
    return y if scale == 1 else b.mul(y, scale)


def selu(b: Builder, x: Value) -> Value:
    return elu(b, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def celu(b: Builder, x: Value, alpha: Number = 1.0) -> Value:
    return elu(b, x, alpha, 1, 1 / alpha)


def softplus(b: Builder, x: Value, beta: Number = 1, limit: Number = 20) -> Value:
    y = b.emit("softplus", x if beta == 1 else b.mul(x, beta))
    y = y if beta == 1 else b.div(y, beta)
    if limit >= 20:
        # log1p(exp(-20)) is 2e-9, below half an ulp of 20 in f32: torch's cut is a shortcut.
        return y
    above = b.emit("gt", x if beta == 1 else b.mul(x, beta), b.full(limit, x.type.dtype))
    return b.where(above, x, y, x.type.dtype)


def mish(b: Builder, x: Value) -> Value:
    return b.mul(x, b.emit("tanh", b.emit("softplus", x)))


def glu(b: Builder, x: Value, axis: int = -1) -> Value:
    axis += x.type.rank if axis < 0 else 0
    half = x.type.dims[axis] // 2
    gate = b.emit("sigmoid", b.slice(x, axis, half, 2 * half))
    return b.mul(b.slice(x, axis, 0, half), gate)


def log_sigmoid(b: Builder, x: Value) -> Value:
    return b.emit("neg", b.emit("softplus", b.emit("neg", x)))


def hardshrink(b: Builder, x: Value, lambd: Number = 0.5) -> Value:
    inside = b.emit("le", b.emit("abs", x), b.full(lambd, x.type.dtype))
    return b.where(inside, 0, x, x.type.dtype)


def softshrink(b: Builder, x: Value, lambd: Number = 0.5) -> Value:
    return b.sub(x, b.emit("clamp", x, attrs=ClampAttrs(-float(lambd), float(lambd))))


# Functions the IR composes -----------------------------------------------------------------------


def erfc(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.type.dtype)
    return b.emit("sub", b.full(1, x.type.dtype), b.emit("erf", x))


def log10(b: Builder, x: Value) -> Value:
    return b.mul(b.emit("log", b.cast(x, b.type.dtype)), 1 / math.log(10))


def sinh(b: Builder, x: Value) -> Value:
    """(e + e / (e + 1)) / 2 with e = expm1(x): no cancellation near 0."""
    e = b.emit("expm1", b.cast(x, b.type.dtype))
    return b.mul(b.add(e, b.emit("div", e, b.add(e, 1))), 0.5)


def cosh(b: Builder, x: Value) -> Value:
    e = b.emit("exp", b.emit("abs", b.cast(x, b.type.dtype)))
    return b.mul(b.add(e, b.emit("reciprocal", e)), 0.5)


def asin(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.type.dtype)
    return b.emit("atan2", x, _leg(b, x))


def acos(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.type.dtype)
    return b.emit("atan2", _leg(b, x), x)


def _leg(b: Builder, x: Value) -> Value:
    """sqrt((1 - x)(1 + x))."""
    one = b.full(1, x.type.dtype)
    return b.emit("sqrt", b.mul(b.emit("sub", one, x), b.emit("add", one, x)))


def atanh(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.type.dtype)
    return b.mul(b.sub(b.emit("log1p", x), b.emit("log1p", b.emit("neg", x))), 0.5)


def asinh(b: Builder, x: Value) -> Value:
    """Of the magnitude, which cancels nothing: log1p(m + m² / (1 + sqrt(1 + m²)))."""
    x = b.cast(x, b.type.dtype)
    size = b.emit("abs", x)
    square = b.mul(size, size)
    root = b.add(b.emit("sqrt", b.add(square, 1)), 1)
    y = b.emit("log1p", b.add(size, b.div(square, root)))
    return b.mul(y, b.emit("sign", x))


def acosh(b: Builder, x: Value) -> Value:
    x = b.cast(x, b.type.dtype)
    legs = b.emit("sqrt", b.sub(x, 1)), b.emit("sqrt", b.add(x, 1))
    return b.emit("log", b.add(x, b.mul(*legs)))


def hypot(b: Builder, x: Value, y: Value) -> Value:
    """Scaled by the longer leg, whose square may overflow."""
    p, q = (b.emit("abs", b.cast(v, b.type.dtype)) for v in (x, y))
    longer, shorter = b.emit("maximum", p, q), b.emit("minimum", p, q)
    flat = b.emit("eq", longer, b.full(0, b.type.dtype))
    ratio = b.div(shorter, b.where(flat, 1, longer, b.type.dtype))
    return b.mul(longer, b.emit("sqrt", b.add(b.mul(ratio, ratio), 1)))


def copysign(b: Builder, x: Operand, y: Operand) -> Value:
    """The sign of -0 counts."""
    dtype = b.type.dtype
    size, sign = b.emit("abs", b.operand(x, dtype)), b.operand(y, dtype)
    zero = b.full(0, dtype)
    minus_zero = b.emit("lt", b.emit("reciprocal", sign), zero)
    below = b.emit("or", b.emit("lt", sign, zero), minus_zero)
    return b.where(below, b.emit("neg", size), size, dtype)


def ldexp(b: Builder, x: Value, y: Value) -> Value:
    return b.mul(b.cast(x, b.type.dtype), b.emit("exp2", b.cast(y, b.type.dtype)))


def fake_quantize(
    b: Builder, x: Value, scale: Operand, zero_point: Operand, low: int, high: int
) -> tuple[Value, None]:
    """Rounded to a grid of integers and back; gradients' mask is nobody's."""
    dtype = x.type.dtype
    inverse = b.emit("reciprocal", b.operand(scale, dtype))
    zero = b.operand(zero_point, dtype)
    grid = b.add(b.emit("round", b.mul(x, inverse)), zero)
    kept = b.emit("clamp", grid, attrs=ClampAttrs(float(low), float(high)))
    return b.mul(b.sub(kept, zero), scale), None


def fake_quantize_per_channel(
    b: Builder, x: Value, scale: Value, zero_point: Value, axis: int, low: int, high: int
) -> tuple[Value, None]:
    shape = (x.type.dims[axis], *(1,) * (x.type.rank - axis - 1))
    return fake_quantize(b, x, b.reshape(scale, shape), b.reshape(zero_point, shape), low, high)


def rrelu(
    b: Builder, x: Value, _: Value, low: Number = 1 / 8, high: Number = 1 / 3,
    training: bool = False, *__: object,
) -> tuple[Value, None]:  # fmt: skip
    if training:
        raise UnsupportedFormError("rrelu in training: call model.eval()")
    return leaky_relu(b, x, (low + high) / 2), None


def logit(b: Builder, x: Value, eps: float | None = None) -> Value:
    x = b.cast(x, b.type.dtype)
    if eps is not None:
        x = b.emit("clamp", x, attrs=ClampAttrs(eps, 1 - eps))
    return b.sub(b.emit("log", x), b.emit("log1p", b.emit("neg", x)))


def round_decimals(b: Builder, x: Value, decimals: int = 0) -> Value:
    scale = 10.0**decimals
    return b.div(b.emit("round", b.mul(x, scale)), scale)


def isfinite(b: Builder, x: Value) -> Value:
    if not x.type.dtype.is_float:
        return b.full(True, DType.BOOL, x.type.dims)
    return b.emit("logical_not", b.emit("or", b.emit("isnan", x), b.emit("isinf", x)))


def is_special(op: str) -> Mapping:
    """isnan, isinf: never true of integers."""
    return lambda b, x: (
        b.emit(op, x) if x.type.dtype.is_float else b.full(False, DType.BOOL, x.type.dims)
    )


def logical_not(b: Builder, x: Value) -> Value:
    return b.emit("logical_not", b.truth(x))


def bitwise_not(b: Builder, x: Value) -> Value:
    return b.emit("logical_not" if x.type.dtype is DType.BOOL else "bitwise_not", x)


def shift_left(b: Builder, x: Operand, y: Operand) -> Value:
    """x * 2**y, which wraps as shifting does."""
    dtype = b.type.dtype
    two_to = b.full(2**y, dtype) if not isinstance(y, Value) else b.emit("pow", b.full(2, dtype), y)
    return b.emit("mul", b.operand(x, dtype), two_to)


def shift_right(b: Builder, x: Operand, y: Operand) -> Value:
    """Arithmetic shift: floor(x / 2**y)."""
    dtype = b.type.dtype
    two_to = b.full(2**y, dtype) if not isinstance(y, Value) else b.emit("pow", b.full(2, dtype), y)
    return b.emit("floor_div", b.operand(x, dtype), two_to)


def _overloads(name: str, mapping: Mapping, overloads: str = "default") -> dict[str, Mapping]:
    return {f"aten.{name}.{o}": mapping for o in overloads.split()}


_PLAIN = """
neg abs exp exp2 expm1 log log1p log2 sqrt rsqrt reciprocal sin cos tan atan tanh erf sigmoid relu
silu hardswish hardsigmoid
"""
_BOTH = "Tensor Scalar"
_EITHER = "Tensor Scalar Tensor_Scalar Scalar_Tensor default"

POINTWISE: dict[str, Mapping] = {
    **{f"aten.{n}.default": unary(n) for n in _PLAIN.split()},
    **{f"aten.{n}.default": rounding(n) for n in ("floor", "ceil", "round", "trunc")},
    **{k: v for n in ("eq", "ne", "lt", "le", "gt", "ge")
       for k, v in _overloads(n, comparison(n), _BOTH).items()},
    **{f"aten.logical_{n}.default": logical(n) for n in ("and", "or", "xor")},
    **{k: v for n in ("and", "or", "xor")
       for k, v in _overloads(f"bitwise_{n}", binary(n), _EITHER).items()},
    **{f"aten.__{n}__.{o}": binary(n) for n in ("and", "or", "xor") for o in ("Tensor", "Scalar")},
    **_overloads("add", add, _BOTH), **_overloads("sub", sub, _BOTH),
    **_overloads("rsub", rsub, _BOTH), **_overloads("mul", mul, _BOTH),
    **_overloads("div", div_mode, "Tensor Scalar Tensor_mode Scalar_mode"),
    **_overloads("true_divide", binary("div"), _BOTH),
    **_overloads("floor_divide", binary("floor_div"), "default Scalar"),
    **_overloads("remainder", binary("mod"), "Tensor Scalar Scalar_Tensor"),
    **_overloads("fmod", binary("fmod"), _BOTH),
    **_overloads("pow", power, "Tensor_Tensor Tensor_Scalar Scalar"),
    **_overloads("square", lambda b, x: power(b, x, 2)),
    **_overloads("maximum", binary("maximum")), **_overloads("minimum", binary("minimum")),
    **_overloads("max", binary("maximum"), "other"),
    **_overloads("min", binary("minimum"), "other"),
    **_overloads("fmax", binary("maximum")), **_overloads("fmin", binary("minimum")),
    **_overloads("atan2", binary("atan2")), **_overloads("arctan2", binary("atan2")),
    **_overloads("bitwise_left_shift", shift_left, "Tensor Tensor_Scalar Scalar_Tensor"),
    **_overloads("bitwise_right_shift", shift_right, "Tensor Tensor_Scalar Scalar_Tensor"),
    **_overloads("__lshift__", shift_left, _BOTH), **_overloads("__rshift__", shift_right, _BOTH),
    **_overloads("_neg_view", unary("neg")),
    **_overloads("sign", unary("sign")), **_overloads("sgn", unary("sign")),
    **_overloads("addcmul", addcmul), **_overloads("addcdiv", addcdiv),
    **_overloads("lerp", lerp, _BOTH),
    **_overloads("where", where, "self Scalar ScalarSelf ScalarOther"),
    **_overloads("masked_fill", masked_fill, _BOTH),
    **_overloads("clamp", clamp, "default Tensor"), **_overloads("clip", clamp, "default Tensor"),
    **_overloads("clamp_min", clamp, "default Tensor"),
    **_overloads("clamp_max", lambda b, x, high: clamp(b, x, None, high), "default Tensor"),
    **_overloads("hardtanh", lambda b, x, low=-1, high=1: clamp(b, x, low, high)),
    **_overloads("relu6", lambda b, x: clamp(b, x, 0, 6)),
    **_overloads("threshold", threshold), **_overloads("nan_to_num", nan_to_num),
    **_overloads("gelu", gelu), **_overloads("leaky_relu", leaky_relu),
    **_overloads("prelu", prelu), **_overloads("_prelu_kernel", prelu),
    **_overloads("elu", elu), **_overloads("selu", selu), **_overloads("celu", celu),
    **_overloads("softplus", softplus), **_overloads("mish", mish), **_overloads("glu", glu),
    **_overloads("log_sigmoid", log_sigmoid),
    **_overloads("log_sigmoid_forward", lambda b, x: (log_sigmoid(b, x), None)),
    **_overloads("hardshrink", hardshrink), **_overloads("softshrink", softshrink),
    **_overloads("erfc", erfc), **_overloads("log10", log10), **_overloads("logit", logit),
    **_overloads("sinh", sinh), **_overloads("cosh", cosh),
    **_overloads("asin", asin), **_overloads("acos", acos), **_overloads("atanh", atanh),
    **_overloads("asinh", asinh), **_overloads("acosh", acosh), **_overloads("hypot", hypot),
    **_overloads("copysign", copysign, _BOTH), **_overloads("ldexp", ldexp, "Tensor"),
    **_overloads("fake_quantize_per_tensor_affine_cachemask", fake_quantize),
    **_overloads("fake_quantize_per_channel_affine_cachemask", fake_quantize_per_channel),
    **_overloads("rrelu_with_noise_functional", rrelu),
    **_overloads("round", round_decimals, "decimals"),
    **_overloads("isnan", is_special("isnan")), **_overloads("isinf", is_special("isinf")),
    **_overloads("isfinite", isfinite),
    **_overloads("logical_not", logical_not), **_overloads("bitwise_not", bitwise_not),
}  # fmt: skip
