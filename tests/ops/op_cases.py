"""One table of op calls on edge shapes: what the tests of meanings, inference and text run over.

`expect` says the same in torch; None where torch has no such op (then another test pins the value).
torch is passed in, so that importing this table does not import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.types import DType
from graphopt.ops import (
    AdaptiveAvgPoolAttrs,
    AllAttrs,
    AnyAttrs,
    ArgmaxAttrs,
    ArgminAttrs,
    AttentionAttrs,
    Attrs,
    AvgPoolAttrs,
    BatchNormAttrs,
    CastAttrs,
    ClampAttrs,
    ConcatAttrs,
    ConvAttrs,
    ConvTransposeAttrs,
    CumsumAttrs,
    EluAttrs,
    ExpandAttrs,
    FlipAttrs,
    FullAttrs,
    GatherAttrs,
    GeluAttrs,
    GroupNormAttrs,
    IotaAttrs,
    LayerNormAttrs,
    LeakyReluAttrs,
    LogSoftmaxAttrs,
    MaxAttrs,
    MaxPoolAttrs,
    MeanAttrs,
    MinAttrs,
    NoAttrs,
    PadAttrs,
    ProdAttrs,
    ReshapeAttrs,
    ResizeAttrs,
    RmsNormAttrs,
    ScatterAlongAttrs,
    ScatterNdAttrs,
    SliceAttrs,
    SoftmaxAttrs,
    SumAttrs,
    TakeAlongAttrs,
    TopkAttrs,
    TransposeAttrs,
)


@dataclass(frozen=True)
class Case:
    """`op(*operands) {attrs}`; `expect(torch, *tensors)` is torch's answer (a tensor or several)."""

    op: str
    label: str
    operands: tuple[np.ndarray, ...]
    attrs: Attrs
    expect: Callable[..., Any] | None

    @property
    def id(self) -> str:
        return f"{self.op}-{self.label}"


_RNG = np.random.default_rng(0)
_NO = NoAttrs()
_SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1e-8, 88.0, -88.0, 710.0, -745.0,
                     math.inf, -math.inf, math.nan])  # fmt: skip


def _normal(*shape: int) -> np.ndarray:
    return np.asarray(_RNG.standard_normal(shape))


def _positive(*shape: int) -> np.ndarray:
    return np.abs(_normal(*shape)) + 0.1


def _ints(low: int, high: int, *shape: int, dtype: Any = np.int64) -> np.ndarray:
    return np.asarray(_RNG.integers(low, high, shape), dtype)


def _bools(*shape: int) -> np.ndarray:
    return _RNG.random(shape) < 0.5


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
    names = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64",
             "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool"}  # fmt: skip
    return getattr(t, names[dtype.value])


# Pointwise -------------------------------------------------------------------------------------

_FLOAT_UNARY = (
    "neg abs exp exp2 expm1 log log1p log2 sqrt rsqrt reciprocal sin cos tan atan tanh erf sigmoid relu "
    "floor ceil round trunc sign isnan isinf logical_not"
)
_FUNCTIONAL = "silu hardswish hardsigmoid softplus"
_INT_UNARY = "neg abs relu floor ceil round trunc sign logical_not bitwise_not"
_FLOAT_BINARY = "add sub mul div pow minimum maximum atan2 floor_div mod fmod eq ne lt le gt ge"
_INT_BINARY = "add sub mul minimum maximum floor_div mod fmod eq ne lt le gt ge and or xor"
_TORCH_NAMES = {
    "sub": "subtract", "floor_div": "floor_divide", "mod": "remainder", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip


def _named(op: str) -> Callable[..., Any]:
    return lambda t, *xs: getattr(t, _TORCH_NAMES.get(op, op))(*xs)


def _unary() -> Iterator[Case]:
    for op in _FLOAT_UNARY.split():
        yield Case(op, "special", (_SPECIAL,), _NO, _named(op))
        yield Case(op, "normal", (_normal(3, 1, 5),), _NO, _named(op))
    for op in _FUNCTIONAL.split():
        # torch's softplus is linear beyond 20: equal to rounding
        yield Case(
            op, "special", (_SPECIAL,), _NO, lambda t, x, op=op: getattr(t.nn.functional, op)(x)
        )
        yield Case(
            op,
            "normal",
            (_normal(2, 7) * 4,),
            _NO,
            lambda t, x, op=op: getattr(t.nn.functional, op)(x),
        )
    for op in _INT_UNARY.split():
        yield Case(op, "i32", (_ints(-5, 5, 4, 3, dtype=np.int32),), _NO, _named(op))
    yield Case("logical_not", "bool", (_bools(5),), _NO, _named("logical_not"))
    yield Case("bitwise_not", "bool", (_bools(5),), _NO, _named("bitwise_not"))
    yield Case("erf", "scalar", (np.asarray(0.3),), _NO, _named("erf"))
    yield Case("erf", "empty", (_normal(0, 3),), _NO, _named("erf"))


def _with_attrs() -> Iterator[Case]:
    x = np.concatenate([_SPECIAL, _normal(20) * 3])
    for mode in ("none", "tanh"):
        finite = x[
            np.isfinite(x)
        ]  # torch gives gelu(-inf) = nan as we do, but tanh's is not pinned
        yield Case("gelu", mode, (finite,), GeluAttrs(mode),
                   lambda t, x, m=mode: t.nn.functional.gelu(x, approximate=m))  # fmt: skip
    yield Case(
        "leaky_relu", "", (x,), LeakyReluAttrs(0.2), lambda t, x: t.nn.functional.leaky_relu(x, 0.2)
    )
    yield Case("elu", "", (x,), EluAttrs(1.3), lambda t, x: t.nn.functional.elu(x, 1.3))
    yield Case("clamp", "both", (x,), ClampAttrs(-1.0, 0.5), lambda t, x: t.clamp(x, -1.0, 0.5))
    yield Case("clamp", "low", (x,), ClampAttrs(low=0.25), lambda t, x: t.clamp(x, min=0.25))
    yield Case("clamp", "crossed", (x,), ClampAttrs(1.0, -1.0), lambda t, x: t.clamp(x, 1.0, -1.0))
    i = _ints(-9, 9, 6, dtype=np.int8)
    yield Case("clamp", "i8", (i,), ClampAttrs(-3, math.inf), lambda t, x: t.clamp(x, min=-3))
    for source in (x[np.isfinite(x)], _ints(-3, 3, 5, dtype=np.int16), _bools(4)):
        for dtype in ("f32", "i64", "i8", "bool"):
            # what lies outside i8 is not pinned
            values = np.clip(source, -100, 100) if source.dtype.kind == "f" else source
            yield Case("cast", f"{source.dtype}-{dtype}", (values,), CastAttrs(DType(dtype)),
                       lambda t, x, d=dtype: x.to(_torch(t, DType(d))))  # fmt: skip


def _binary() -> Iterator[Case]:
    for op in _FLOAT_BINARY.split():
        a = _positive(4, 1, 5) if op == "pow" else _normal(4, 1, 5) * 3
        yield Case(op, "broadcast", (a, _normal(3, 1)), _NO, _named(op))
        yield Case(op, "scalar", (a, np.asarray(0.75)), _NO, _named(op))
        yield Case(op, "equal", (a, a.copy()), _NO, _named(op))
    nans = np.array([math.nan, 1.0, math.nan]), np.array([1.0, math.nan, math.inf])
    for op in ("minimum", "maximum", "eq", "lt"):
        yield Case(op, "nan", nans, _NO, _named(op))
    for op in _INT_BINARY.split():
        b = _ints(1, 5, 3, dtype=np.int32) * np.array([1, -1, 1], np.int32)
        yield Case(op, "i32", (_ints(-9, 9, 4, 3, dtype=np.int32), b), _NO, _named(op))
    for op in ("and", "or", "xor", "eq", "ne", "minimum", "maximum"):
        yield Case(op, "bool", (_bools(8), _bools(8)), _NO, _named(op))
    base, power = np.array([3, -2, 1, -1, -1, 5]), np.array([4, 3, -2, -2, -3, 0])
    yield Case("pow", "i64", (base, power), _NO, _named("pow"))
    yield Case("where", "f64", (_bools(3, 1), _normal(1, 4), _normal(3, 4)), _NO, _named("where"))
    yield Case("where", "i64", (_bools(4), _ints(0, 9, 4), _ints(0, 9, 1)), _NO, _named("where"))


# Reductions and norms --------------------------------------------------------------------------

_REDUCE_AXES = (((1,), False), ((0, 2), True), ((0, 1, 2), False))


def _reductions() -> Iterator[Case]:
    x = _normal(3, 4, 5)
    for axes, keep in _REDUCE_AXES:
        label = f"{''.join(map(str, axes))}{'k' if keep else ''}"
        for op, attrs, name in (
            ("sum", SumAttrs, "sum"), ("mean", MeanAttrs, "mean"), ("max", MaxAttrs, "amax"),
            ("min", MinAttrs, "amin"),
        ):  # fmt: skip
            yield Case(op, label, (x,), attrs(axes, keep),
                       lambda t, x, n=name, a=axes, k=keep: getattr(t, n)(x, dim=a, keepdim=k))  # fmt: skip
        yield Case("any", label, (x > 1.5,), AnyAttrs(axes, keep),
                   lambda t, x, a=axes, k=keep: t.any(x, dim=a, keepdim=k))  # fmt: skip
        yield Case("all", label, (x > -1.5,), AllAttrs(axes, keep),
                   lambda t, x, a=axes, k=keep: t.all(x, dim=a, keepdim=k))  # fmt: skip
    yield Case("prod", "1", (x,), ProdAttrs((1,)), lambda t, x: t.prod(x, 1))
    yield Case("sum", "no axes", (x,), SumAttrs(()), lambda t, x: x)
    yield Case("sum", "empty", (_normal(2, 0),), SumAttrs((1,)), lambda t, x: t.sum(x, 1))
    i = _ints(-9, 9, 3, 4, dtype=np.int32)
    yield Case("sum", "i32", (i,), SumAttrs((0,)), lambda t, x: t.sum(x, 0, dtype=t.int32))
    yield Case("max", "i32", (i,), MaxAttrs((1,), True), lambda t, x: t.amax(x, 1, keepdim=True))
    nan = np.array([[1.0, math.nan, 3.0], [4.0, 2.0, 4.0]])
    yield Case("max", "nan", (nan,), MaxAttrs((1,)), lambda t, x: t.amax(x, 1))
    for op, attrs in (("argmax", ArgmaxAttrs), ("argmin", ArgminAttrs)):
        for axis, keep in ((0, False), (2, True)):
            yield Case(op, f"{axis}", (x,), attrs(axis, keep),
                       lambda t, x, o=op, a=axis, k=keep: getattr(t, o)(x, a, k))  # fmt: skip
        yield Case(op, "nan", (nan,), attrs(1), _along(op, 1))
        yield Case(op, "size 1", (_normal(3, 1),), attrs(1), _along(op, 1))
    yield Case("cumsum", "1", (x,), CumsumAttrs(1), _along("cumsum", 1))
    yield Case("cumsum", "i64", (_ints(-5, 5, 6),), CumsumAttrs(0), _along("cumsum", 0))
    for largest in (True, False):
        for values in (x, _RNG.permutation(60).reshape(3, 4, 5)):
            yield Case("topk", f"{values.dtype}-{largest}", (values,), TopkAttrs(3, 1, largest),
                       lambda t, x, b=largest: tuple(t.topk(x, 3, 1, b)))  # fmt: skip
    yield Case("topk", "nan", (nan[:1],), TopkAttrs(2, 1), lambda t, x: tuple(t.topk(x, 2, 1)))


def _along(op: str, axis: int) -> Callable[..., Any]:
    return lambda t, x: getattr(t, op)(x, axis)


def _norms() -> Iterator[Case]:
    x = _normal(2, 6, 3, 5)
    for axis in (0, 1, 3):
        yield Case("softmax", f"{axis}", (x,), SoftmaxAttrs(axis), _along("softmax", axis))
        yield Case(
            "log_softmax", f"{axis}", (x,), LogSoftmaxAttrs(axis), _along("log_softmax", axis)
        )
    large = np.array([[1000.0, 999.0, -math.inf], [-math.inf, 0.0, 3.0]])
    yield Case("softmax", "large", (large,), SoftmaxAttrs(1), _along("softmax", 1))
    yield Case("log_softmax", "large", (large,), LogSoftmaxAttrs(1), _along("log_softmax", 1))
    yield Case("softmax", "size 1", (_normal(4, 1),), SoftmaxAttrs(1), _along("softmax", 1))
    for axes in (1, 2):
        shape = x.shape[-axes:]
        w, b = _normal(*shape), _normal(*shape)
        yield Case("layer_norm", f"{axes}", (x, w, b), LayerNormAttrs(axes, 1e-5),
                   lambda t, x, w, b: t.nn.functional.layer_norm(x, w.shape, w, b, 1e-5))  # fmt: skip
        yield Case("rms_norm", f"{axes}", (x, w), RmsNormAttrs(axes, 1e-6),
                   lambda t, x, w: t.nn.functional.rms_norm(x, w.shape, w, 1e-6))  # fmt: skip
    for shape in ((2, 6, 3, 5), (1, 6), (3, 6, 4)):
        x, w, b = _normal(*shape), _normal(6), _normal(6)
        for groups in (1, 3) if len(shape) == 2 else (1, 3, 6):  # torch wants two values a group
            yield Case("group_norm", f"{len(shape)}d-{groups}", (x, w, b), GroupNormAttrs(groups, 1e-5),
                       lambda t, x, w, b, g=groups: t.nn.functional.group_norm(x, g, w, b, 1e-5))  # fmt: skip
        yield Case("batch_norm", f"{len(shape)}d", (x, w, b, _normal(6), _positive(6)), BatchNormAttrs(1e-3),
                   lambda t, x, w, b, m, v: t.nn.functional.batch_norm(x, m, v, w, b, eps=1e-3))  # fmt: skip


# Contractions ----------------------------------------------------------------------------------


def _products() -> Iterator[Case]:
    for a, b in (
        ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 1)), ((2, 1, 3, 4), (5, 4, 2)),
        ((1, 1), (1, 1)), ((2, 3, 0), (2, 0, 4)),
    ):  # fmt: skip
        yield Case("matmul", f"{a}{b}", (_normal(*a), _normal(*b)), _NO, _named("matmul"))
    for dtype in (np.int8, np.int32, np.int64):
        a, b = _ints(-99, 99, 3, 7, dtype=dtype), _ints(-99, 99, 7, 2, dtype=dtype)
        yield Case("matmul", np.dtype(dtype).name, (a, b), _NO, _named("matmul"))
    huge = _ints(-(2**31), 2**31, 2, 3), _ints(-(2**31), 2**31, 3, 2)
    yield Case("matmul", "beyond 2**53", huge, _NO, _named("matmul"))
    for shape in ((4,), (3, 4), (2, 1, 3, 4)):
        x, w = _normal(*shape), _normal(5, 4)
        yield Case(
            "linear", f"{len(shape)}d", (x, w), _NO, lambda t, *xs: t.nn.functional.linear(*xs)
        )
        yield Case("linear", f"{len(shape)}d-bias", (x, w, _normal(5)), _NO,
                   lambda t, *xs: t.nn.functional.linear(*xs))  # fmt: skip


def _conv(
    label: str, x: tuple[int, ...], w: tuple[int, ...], *, bias: bool = True, **attrs: Any
) -> Case:
    spatial = len(x) - 2
    stride, dilation = attrs.get("stride", (1,) * spatial), attrs.get("dilation", (1,) * spatial)
    padding, groups = attrs.get("padding", ((0, 0),) * spatial), attrs.get("groups", 1)
    operands = (_normal(*x), _normal(*w), *((_normal(w[0]),) if bias else ()))

    def expect(t: Any, x: Any, w: Any, *b: Any) -> Any:
        x = t.nn.functional.pad(x, [p for pair in reversed(padding) for p in pair])
        f = getattr(t.nn.functional, f"conv{spatial}d")
        return f(x, w, *(b or (None,)), stride=stride, dilation=dilation, groups=groups)

    return Case("conv", label, operands, ConvAttrs(stride, padding, dilation, groups), expect)


def _convolutions() -> Iterator[Case]:
    yield _conv("1x1", (2, 3, 4, 5), (6, 3, 1, 1), bias=False)
    yield _conv("3x3", (1, 3, 6, 7), (4, 3, 3, 3), padding=((1, 1), (1, 1)))
    yield _conv("stride", (2, 3, 9, 8), (4, 3, 3, 2), stride=(2, 3), padding=((1, 0), (0, 2)))
    yield _conv("dilation", (1, 2, 9, 9), (3, 2, 3, 3), dilation=(2, 3), padding=((2, 2), (3, 3)))
    yield _conv("groups", (2, 6, 5, 5), (4, 3, 3, 3), groups=2)
    yield _conv(
        "depthwise", (1, 4, 6, 6), (4, 1, 3, 3), groups=4, stride=(2, 2), padding=((1, 1), (1, 1))
    )
    yield _conv("multiplier", (1, 3, 5, 5), (6, 1, 3, 3), groups=3)
    yield _conv("1d", (2, 3, 10), (4, 3, 5), stride=(3,), padding=((2, 1),), dilation=(2,))
    yield _conv(
        "3d", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), stride=(1, 2, 1), padding=((0, 1), (1, 1), (0, 0))
    )
    yield _conv("window is image", (1, 2, 3, 3), (2, 2, 3, 3))
    yield _conv("size 1", (1, 1, 1, 1), (1, 1, 1, 1))
    for label, x, w, s, p, op, d, g in (
        ("plain", (2, 3, 4, 5), (3, 2, 3, 3), (1, 1), (0, 0), (0, 0), (1, 1), 1),
        ("stride", (1, 4, 5, 4), (4, 3, 4, 3), (2, 3), (1, 0), (1, 2), (1, 1), 1),
        ("dilation", (1, 2, 4, 4), (2, 3, 3, 2), (2, 1), (1, 1), (1, 0), (2, 3), 1),
        ("groups", (2, 4, 3, 3), (4, 3, 2, 2), (2, 2), (0, 0), (0, 0), (1, 1), 2),
        ("gap", (1, 1, 3, 3), (1, 1, 1, 1), (3, 3), (0, 0), (2, 1), (1, 1), 1),
        ("1d", (1, 2, 6), (2, 2, 3), (2,), (1,), (1,), (1,), 1),
        ("3d", (1, 2, 2, 3, 2), (2, 1, 2, 2, 2), (2, 1, 2), (0, 1, 0), (0, 0, 1), (1, 1, 1), 1),
    ):  # fmt: skip
        for bias in (False, True):
            operands = (_normal(*x), _normal(*w), *((_normal(w[1] * g),) if bias else ()))

            def expect(
                t: Any, x: Any, w: Any, *b: Any, n: int = len(x) - 2, z: Any = (s, p, op, g, d)
            ) -> Any:
                return getattr(t.nn.functional, f"conv_transpose{n}d")(x, w, *(b or (None,)), *z)

            yield Case("conv_transpose", f"{label}{'-bias' if bias else ''}", operands,
                       ConvTransposeAttrs(s, p, op, d, g), expect)  # fmt: skip


# Windows ---------------------------------------------------------------------------------------


def _pools() -> Iterator[Case]:
    for kernel, stride, pad, dilation, extra in (
        ((2, 2), (2, 2), (0, 0), (1, 1), (0, 0)), ((3, 2), (2, 1), (1, 1), (1, 1), (0, 0)),
        ((3, 3), (2, 2), (1, 1), (2, 1), (0, 0)), ((3, 3), (2, 2), (0, 0), (1, 1), (1, 1)),
    ):  # fmt: skip
        ceil = extra != (0, 0)
        padding = tuple((p, p + e) for p, e in zip(pad, extra, strict=True))
        x = _normal(2, 3, 8, 8)
        yield Case("max_pool", f"{kernel}{'-ceil' if ceil else ''}", (x,), MaxPoolAttrs(kernel, stride, padding, dilation),
                   lambda t, x, z=(kernel, stride, pad, dilation, ceil): t.nn.functional.max_pool2d(x, *z))  # fmt: skip
        if dilation == (1, 1):
            for include in (True, False):
                yield Case("avg_pool", f"{kernel}{'-ceil' if ceil else ''}-{include}", (x,),
                           AvgPoolAttrs(kernel, stride, padding, include),
                           lambda t, x, z=(kernel, stride, pad, ceil, include): t.nn.functional.avg_pool2d(x, *z))  # fmt: skip
    for include in (True, False):
        yield Case("avg_pool", f"pad and ceil-{include}", (_normal(1, 2, 6, 7),),
                   AvgPoolAttrs((3, 3), (2, 2), ((1, 2), (1, 1)), include),
                   lambda t, x, i=include: t.nn.functional.avg_pool2d(x, 3, 2, 1, True, i))  # fmt: skip
    yield Case("avg_pool", "divisor", (_normal(1, 2, 4, 4),), AvgPoolAttrs((2, 2), (2, 2), ((0, 0), (0, 0)), True, 3),
               lambda t, x: t.nn.functional.avg_pool2d(x, 2, 2, divisor_override=3))  # fmt: skip
    yield Case("max_pool", "i64", (_ints(-9, 9, 1, 1, 5, 5),), MaxPoolAttrs((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
               lambda t, x: t.nn.functional.max_pool2d(x, 3, 1, 1))  # fmt: skip
    yield Case("max_pool", "1d", (_normal(1, 2, 7),), MaxPoolAttrs((3,), (2,), ((1, 1),), (1,)),
               lambda t, x: t.nn.functional.max_pool1d(x, 3, 2, 1))  # fmt: skip
    yield Case("avg_pool", "3d", (_normal(1, 2, 4, 4, 5),), AvgPoolAttrs((2, 2, 3), (2, 2, 1), ((0, 0),) * 3),
               lambda t, x: t.nn.functional.avg_pool3d(x, (2, 2, 3), (2, 2, 1)))  # fmt: skip
    for size in ((1, 1), (3, 2), (5, 7), (9, 4)):
        yield Case("adaptive_avg_pool", f"{size}", (_normal(2, 3, 5, 7),), AdaptiveAvgPoolAttrs(size),
                   lambda t, x, s=size: t.nn.functional.adaptive_avg_pool2d(x, s))  # fmt: skip
    yield Case("adaptive_avg_pool", "1d", (_normal(2, 3, 5),), AdaptiveAvgPoolAttrs((4,)),
               lambda t, x: t.nn.functional.adaptive_avg_pool1d(x, 4))  # fmt: skip


def _resizes() -> Iterator[Case]:
    for size in ((8, 10), (3, 7), (1, 1), (4, 5), (13, 2)):
        x = _normal(1, 2, 4, 5)
        yield Case("resize", f"nearest-{size}", (x,), ResizeAttrs(size, "nearest"),
                   lambda t, x, s=size: t.nn.functional.interpolate(x, s))  # fmt: skip
        for mode in ("bilinear", "bicubic"):
            for corners in (False, True):
                yield Case("resize", f"{mode}-{size}-{corners}", (x,), ResizeAttrs(size, mode, corners),
                           lambda t, x, s=size, m=mode, c=corners: t.nn.functional.interpolate(
                               x, s, mode=m, align_corners=c))  # fmt: skip
    for scale in (2.0, 1.7, 0.6):
        size = (int(4 * scale), int(5 * scale))
        for mode in ("nearest", "bilinear", "bicubic"):
            yield Case("resize", f"{mode}-x{scale}", (_normal(1, 1, 4, 5),),
                       ResizeAttrs(size, mode, False, (scale, scale)),
                       lambda t, x, s=scale, m=mode: t.nn.functional.interpolate(x, scale_factor=s, mode=m))  # fmt: skip
    yield Case("resize", "linear 1d", (_normal(1, 2, 5),), ResizeAttrs((9,), "bilinear"),
               lambda t, x: t.nn.functional.interpolate(x, 9, mode="linear"))  # fmt: skip
    yield Case("resize", "trilinear", (_normal(1, 2, 3, 4, 2),), ResizeAttrs((5, 2, 4), "bilinear"),
               lambda t, x: t.nn.functional.interpolate(x, (5, 2, 4), mode="trilinear"))  # fmt: skip


# Movement and indexing -------------------------------------------------------------------------


def _movements() -> Iterator[Case]:
    x = _normal(2, 3, 4)
    yield Case("reshape", "", (x,), ReshapeAttrs((4, 6)), lambda t, x: t.reshape(x, (4, 6)))
    yield Case(
        "reshape", "scalar", (_normal(1, 1),), ReshapeAttrs(()), lambda t, x: t.reshape(x, ())
    )
    yield Case("transpose", "", (x,), TransposeAttrs((2, 0, 1)), lambda t, x: x.permute(2, 0, 1))
    yield Case("transpose", "scalar", (np.asarray(1.0),), TransposeAttrs(()), lambda t, x: x)
    yield Case(
        "expand", "", (_normal(3, 1),), ExpandAttrs((2, 3, 4)), lambda t, x: x.expand(2, 3, 4)
    )
    yield Case("expand", "scalar", (np.asarray(2.0),), ExpandAttrs((2,)), lambda t, x: x.expand(2))
    yield Case(
        "slice",
        "",
        (x,),
        SliceAttrs((1, 0, 1), (2, 3, 4), (1, 2, 2)),
        lambda t, x: x[1:2, 0:3:2, 1:4:2],
    )
    yield Case(
        "slice", "empty", (x,), SliceAttrs((0, 3, 0), (2, 3, 4), (1, 1, 1)), lambda t, x: x[:, 3:3]
    )
    yield Case("concat", "1", (x, _normal(2, 1, 4), x), ConcatAttrs(1), lambda t, *xs: t.cat(xs, 1))
    yield Case("concat", "one", (x,), ConcatAttrs(0), lambda t, x: x)
    yield Case("concat", "bool", (_bools(2), _bools(3)), ConcatAttrs(0), lambda t, *xs: t.cat(xs))
    image = _normal(1, 2, 4, 5)
    for mode in ("constant", "reflect", "replicate"):
        yield Case("pad", mode, (image,), PadAttrs((0, 0, 1, 3), (0, 0, 2, 0), 1.5 if mode == "constant" else 0.0, mode),
                   lambda t, x, m=mode: t.nn.functional.pad(x, (3, 0, 1, 2), m, *((1.5,) if m == "constant" else ())))  # fmt: skip
    yield Case("pad", "lowest", (image,), PadAttrs((1, 0, 0, 0), (0, 0, 0, 1), -math.inf),
               lambda t, x: t.nn.functional.pad(x, (0, 1, 0, 0, 0, 0, 1, 0), value=-math.inf))  # fmt: skip
    yield Case(
        "pad",
        "bool",
        (_bools(3),),
        PadAttrs((1,), (2,), 1.0),
        lambda t, x: t.nn.functional.pad(x, (1, 2), value=True),
    )
    yield Case("flip", "", (x,), FlipAttrs((0, 2)), lambda t, x: t.flip(x, (0, 2)))
    yield Case("flip", "none", (x,), FlipAttrs(()), lambda t, x: x)
    yield Case("relayout", "", (x,), _NO, lambda t, x: x)


def _indexings() -> Iterator[Case]:
    x = _normal(3, 4, 5)
    index = np.array([[0, -1], [2, -3]])
    yield Case("gather", "0", (x, index), GatherAttrs(0), lambda t, x, i: x[i])
    yield Case("gather", "1", (x, index), GatherAttrs(1), lambda t, x, i: x[:, i])
    yield Case("gather", "scalar", (x, np.asarray(-1)), GatherAttrs(2), lambda t, x, i: x[:, :, i])
    yield Case(
        "gather",
        "i32 bool",
        (_bools(4), np.array([3, 0], np.int32)),
        GatherAttrs(0),
        lambda t, x, i: x[i],
    )
    for axis in (0, 1, 2):
        at = _ints(0, x.shape[axis], 2, 3, 4)
        yield Case(
            "take_along",
            f"{axis}",
            (x, at),
            TakeAlongAttrs(axis),
            lambda t, x, i, a=axis: t.gather(x, a, i),
        )
        for accumulate in (False, True):
            # distinct targets along the axis unless they accumulate: torch leaves the winner open
            where = at if accumulate else np.argsort(_normal(*x.shape), axis)[:2, :3, :4]
            op = "scatter_add" if accumulate else "scatter"
            yield Case("scatter_along", f"{axis}-{accumulate}", (x, where, _normal(2, 3, 4)), ScatterAlongAttrs(axis, accumulate),
                       lambda t, x, i, u, a=axis, o=op: getattr(t, o)(x, a, i, u))  # fmt: skip
    yield Case(
        "take_along",
        "negative",
        (x, np.full((3, 1, 5), -1)),
        TakeAlongAttrs(1),
        lambda t, x, i: x[:, -1:],
    )
    yield Case(
        "take_along",
        "longer",
        (_normal(2), _ints(0, 2, 7)),
        TakeAlongAttrs(0),
        lambda t, x, i: t.gather(x, 0, i),
    )
    at = np.array([[0, 1], [2, -1], [1, 0]])
    yield Case("gather_nd", "2 of 3", (x, at), _NO, lambda t, x, i: x[i[:, 0], i[:, 1]])
    yield Case(
        "gather_nd",
        "all",
        (x, np.array([[[0, 1, 2]]])),
        _NO,
        lambda t, x, i: x[0, 1, 2].reshape(1, 1),
    )
    yield Case(
        "gather_nd", "none", (x, np.zeros((2, 0), np.int64)), _NO, lambda t, x, i: t.stack((x, x))
    )
    for accumulate in (False, True):
        yield Case("scatter_nd", f"{accumulate}", (x, at, _normal(3, 5)), ScatterNdAttrs(accumulate),
                   lambda t, x, i, u, a=accumulate: x.index_put((i[:, 0], i[:, 1]), u, a))  # fmt: skip
    twice = np.array([[1], [1]])
    yield Case("scatter_nd", "twice", (_normal(3), twice, _normal(2)), ScatterNdAttrs(True),
               lambda t, x, i, u: x.index_put((i[:, 0],), u, True))  # fmt: skip


# Attention -------------------------------------------------------------------------------------


def _attentions() -> Iterator[Case]:
    for label, s, t_, h, hk, causal in (
        ("plain", 5, 5, 2, 2, False), ("causal", 5, 5, 2, 2, True), ("causal s < t", 3, 6, 2, 2, True),
        ("causal s > t", 6, 3, 1, 1, True), ("grouped", 4, 5, 6, 2, False), ("one key", 4, 1, 4, 1, False),
        ("one query", 1, 7, 2, 2, False),
    ):  # fmt: skip
        operands = (_normal(2, h, s, 8), _normal(2, hk, t_, 8), _normal(2, hk, t_, 3))
        yield Case("attention", label, operands, AttentionAttrs(0.3, causal),
                   lambda t, q, k, v, c=causal: t.nn.functional.scaled_dot_product_attention(
                       q, k, v, is_causal=c, scale=0.3, enable_gqa=True))  # fmt: skip
    q, k, v = _normal(2, 4, 3, 8), _normal(2, 4, 5, 8), _normal(2, 4, 5, 8)
    keep = _bools(2, 1, 3, 5)
    keep[..., 0] = True
    holes = keep.copy()
    holes[1, 0, 2] = False  # one row sees nothing
    for label, mask in (
        ("bool", keep),
        ("float", _normal(4, 3, 5)),
        ("row", _normal(1, 5)),
        ("nothing", holes),
    ):
        yield Case("attention", f"mask {label}", (q, k, v, mask), AttentionAttrs(1.0),
                   lambda t, q, k, v, m: t.nn.functional.scaled_dot_product_attention(q, k, v, m, scale=1.0))  # fmt: skip


CASES: tuple[Case, ...] = tuple(
    case
    for family in (
        _sources, _unary, _with_attrs, _binary, _reductions, _norms, _products, _convolutions, _pools,
        _resizes, _movements, _indexings, _attentions,
    )
    for case in family()
)  # fmt: skip
