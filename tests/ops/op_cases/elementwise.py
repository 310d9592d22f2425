"""Sources and pointwise ops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphopt.ir.types import DType
from graphopt.ops import (
    CastAttrs,
    ClampAttrs,
    EluAttrs,
    FullAttrs,
    GeluAttrs,
    IotaAttrs,
    LeakyReluAttrs,
)
from op_cases.base import NO, SPECIAL, Case, bools, ints, named, normal, positive

# Sources ---------------------------------------------------------------------------------------


def _sources() -> Iterator[Case]:
    for value, dtype in ((1.5, "f64"), (-math.inf, "f32"), (3.0, "i32"), (1.0, "bool")):
        attrs = FullAttrs(value, (2, 1), DType(dtype))
        yield Case(
            "full",
            dtype,
            (),
            attrs,
            lambda t, a=attrs: t.full(a.shape, a.value, dtype=_torch(t, a.dtype)),
        )
    yield Case(
        "full", "scalar", (), FullAttrs(2.0, (), DType.F64), lambda t: t.tensor(2.0).double()
    )
    yield Case("iota", "i64", (), IotaAttrs(3, -2, 5, DType.I64), lambda t: t.arange(3, -7, -2))
    yield Case(
        "iota",
        "f64",
        (),
        IotaAttrs(0.5, 0.25, 4, DType.F64),
        lambda t: t.arange(0.5, 1.5, 0.25).double(),
    )
    yield Case(
        "iota", "empty", (), IotaAttrs(0, 1, 0, DType.I32), lambda t: t.arange(0, dtype=t.int32)
    )


def _torch(t: Any, dtype: DType) -> Any:
    names = {
        "f64": "float64",
        "f32": "float32",
        "f16": "float16",
        "bf16": "bfloat16",
        "i64": "int64",
        "i32": "int32",
        "i16": "int16",
        "i8": "int8",
        "u8": "uint8",
        "bool": "bool",
    }
    return getattr(t, names[dtype.value])


# Pointwise -------------------------------------------------------------------------------------

_FLOAT_UNARY = (
    "neg abs exp exp2 expm1 log log1p log2 sqrt rsqrt reciprocal sin cos tan atan tanh erf sigmoid "
    "relu floor ceil round trunc sign isnan isinf logical_not"
)
_FUNCTIONAL = "silu hardswish hardsigmoid softplus"
_INT_UNARY = "neg abs relu floor ceil round trunc sign logical_not bitwise_not"
_FLOAT_BINARY = "add sub mul div pow minimum maximum atan2 floor_div mod fmod eq ne lt le gt ge"
_INT_BINARY = "add sub mul minimum maximum floor_div mod fmod eq ne lt le gt ge and or xor"


def _unary() -> Iterator[Case]:
    for op in _FLOAT_UNARY.split():
        yield Case(op, "special", (SPECIAL,), NO, named(op))
        yield Case(op, "normal", (normal(3, 1, 5),), NO, named(op))
    for op in _FUNCTIONAL.split():
        # torch's softplus is linear beyond 20: equal to rounding
        yield Case(
            op, "special", (SPECIAL,), NO, lambda t, x, op=op: getattr(t.nn.functional, op)(x)
        )
        yield Case(
            op,
            "normal",
            (normal(2, 7) * 4,),
            NO,
            lambda t, x, op=op: getattr(t.nn.functional, op)(x),
        )
    for op in _INT_UNARY.split():
        yield Case(op, "i32", (ints(-5, 5, 4, 3, dtype=np.int32),), NO, named(op))
    yield Case("logical_not", "bool", (bools(5),), NO, named("logical_not"))
    yield Case("bitwise_not", "bool", (bools(5),), NO, named("bitwise_not"))
    yield Case("erf", "scalar", (np.asarray(0.3),), NO, named("erf"))
    yield Case("erf", "empty", (normal(0, 3),), NO, named("erf"))


def _with_attrs() -> Iterator[Case]:
    x = np.concatenate([SPECIAL, normal(20) * 3])
    for mode in ("none", "tanh"):
        finite = x[
            np.isfinite(x)
        ]  # torch gives gelu(-inf) = nan as we do, but tanh's is not pinned
        yield Case(
            "gelu",
            mode,
            (finite,),
            GeluAttrs(mode),
            lambda t, x, m=mode: t.nn.functional.gelu(x, approximate=m),
        )
    yield Case(
        "leaky_relu", "", (x,), LeakyReluAttrs(0.2), lambda t, x: t.nn.functional.leaky_relu(x, 0.2)
    )
    yield Case("elu", "", (x,), EluAttrs(1.3), lambda t, x: t.nn.functional.elu(x, 1.3))
    yield Case("clamp", "both", (x,), ClampAttrs(-1.0, 0.5), lambda t, x: t.clamp(x, -1.0, 0.5))
    yield Case("clamp", "low", (x,), ClampAttrs(low=0.25), lambda t, x: t.clamp(x, min=0.25))
    yield Case("clamp", "crossed", (x,), ClampAttrs(1.0, -1.0), lambda t, x: t.clamp(x, 1.0, -1.0))
    i = ints(-9, 9, 6, dtype=np.int8)
    yield Case("clamp", "i8", (i,), ClampAttrs(-3, math.inf), lambda t, x: t.clamp(x, min=-3))
    for source in (x[np.isfinite(x)], ints(-3, 3, 5, dtype=np.int16), bools(4)):
        for dtype in ("f32", "i64", "i8", "bool"):
            # what lies outside i8 is not pinned
            values = np.clip(source, -100, 100) if source.dtype.kind == "f" else source
            yield Case(
                "cast",
                f"{source.dtype}-{dtype}",
                (values,),
                CastAttrs(DType(dtype)),
                lambda t, x, d=dtype: x.to(_torch(t, DType(d))),
            )


def _binary() -> Iterator[Case]:
    for op in _FLOAT_BINARY.split():
        a = positive(4, 1, 5) if op == "pow" else normal(4, 1, 5) * 3
        yield Case(op, "broadcast", (a, normal(3, 1)), NO, named(op))
        yield Case(op, "scalar", (a, np.asarray(0.75)), NO, named(op))
        yield Case(op, "equal", (a, a.copy()), NO, named(op))
    nans = np.array([math.nan, 1.0, math.nan]), np.array([1.0, math.nan, math.inf])
    for op in ("minimum", "maximum", "eq", "lt"):
        yield Case(op, "nan", nans, NO, named(op))
    for op in _INT_BINARY.split():
        b = ints(1, 5, 3, dtype=np.int32) * np.array([1, -1, 1], np.int32)
        yield Case(op, "i32", (ints(-9, 9, 4, 3, dtype=np.int32), b), NO, named(op))
    for op in ("and", "or", "xor", "eq", "ne", "minimum", "maximum"):
        yield Case(op, "bool", (bools(8), bools(8)), NO, named(op))
    base, power = np.array([3, -2, 1, -1, -1, 5]), np.array([4, 3, -2, -2, -3, 0])
    yield Case("pow", "i64", (base, power), NO, named("pow"))
    yield Case("where", "f64", (bools(3, 1), normal(1, 4), normal(3, 4)), NO, named("where"))
    yield Case("where", "i64", (bools(4), ints(0, 9, 4), ints(0, 9, 1)), NO, named("where"))


CASES: tuple[Case, ...] = tuple(
    case for family in (_sources, _unary, _with_attrs, _binary) for case in family()
)
