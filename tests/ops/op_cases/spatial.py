"""Convolutions, pools and resizing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphopt.ops import (
    AdaptiveAvgPoolAttrs,
    AvgPoolAttrs,
    ConvAttrs,
    ConvTransposeAttrs,
    MaxPoolAttrs,
    ResizeAttrs,
)
from op_cases.base import Case, ints, normal


def _conv(
    label: str, x: tuple[int, ...], w: tuple[int, ...], *, bias: bool = True, **attrs: Any
) -> Case:
    spatial = len(x) - 2
    stride, dilation = attrs.get("stride", (1,) * spatial), attrs.get("dilation", (1,) * spatial)
    padding, groups = attrs.get("padding", ((0, 0),) * spatial), attrs.get("groups", 1)
    operands = (normal(*x), normal(*w), *((normal(w[0]),) if bias else ()))

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
    ):
        for bias in (False, True):
            operands = (normal(*x), normal(*w), *((normal(w[1] * g),) if bias else ()))

            def expect(
                t: Any, x: Any, w: Any, *b: Any, n: int = len(x) - 2, z: Any = (s, p, op, g, d)
            ) -> Any:
                return getattr(t.nn.functional, f"conv_transpose{n}d")(x, w, *(b or (None,)), *z)

            yield Case(
                "conv_transpose",
                f"{label}{'-bias' if bias else ''}",
                operands,
                ConvTransposeAttrs(s, p, op, d, g),
                expect,
            )


# Windows ---------------------------------------------------------------------------------------


def _pools() -> Iterator[Case]:
    for kernel, stride, pad, dilation, extra in (
        ((2, 2), (2, 2), (0, 0), (1, 1), (0, 0)),
        ((3, 2), (2, 1), (1, 1), (1, 1), (0, 0)),
        ((3, 3), (2, 2), (1, 1), (2, 1), (0, 0)),
        ((3, 3), (2, 2), (0, 0), (1, 1), (1, 1)),
    ):
        ceil = extra != (0, 0)
        padding = tuple((p, p + e) for p, e in zip(pad, extra, strict=True))
        x = normal(2, 3, 8, 8)
        yield Case(
            "max_pool",
            f"{kernel}{'-ceil' if ceil else ''}",
            (x,),
            MaxPoolAttrs(kernel, stride, padding, dilation),
            lambda t, x, z=(kernel, stride, pad, dilation, ceil): t.nn.functional.max_pool2d(x, *z),
        )
        if dilation == (1, 1):
            for include in (False,) if ceil else (True, False):
                yield Case(
                    "avg_pool",
                    f"{kernel}{'-ceil' if ceil else ''}-{include}",
                    (x,),
                    AvgPoolAttrs(kernel, stride, padding, include),
                    lambda t, x, z=(kernel, stride, pad, ceil, include): t.nn.functional.avg_pool2d(
                        x, *z
                    ),
                )
    yield Case(
        "avg_pool",
        "pad and ceil",
        (normal(1, 2, 6, 7),),
        AvgPoolAttrs((3, 3), (2, 2), ((1, 2), (1, 1)), count_include_pad=False),
        lambda t, x: t.nn.functional.avg_pool2d(x, 3, 2, 1, True, False),
    )
    yield Case(
        "avg_pool",
        "divisor",
        (normal(1, 2, 4, 4),),
        AvgPoolAttrs((2, 2), (2, 2), ((0, 0), (0, 0)), True, 3),
        lambda t, x: t.nn.functional.avg_pool2d(x, 2, 2, divisor_override=3),
    )
    yield Case(
        "max_pool",
        "i64",
        (ints(-9, 9, 1, 1, 5, 5),),
        MaxPoolAttrs((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        lambda t, x: t.nn.functional.max_pool2d(x, 3, 1, 1),
    )
    yield Case(
        "max_pool",
        "1d",
        (normal(1, 2, 7),),
        MaxPoolAttrs((3,), (2,), ((1, 1),), (1,)),
        lambda t, x: t.nn.functional.max_pool1d(x, 3, 2, 1),
    )
    yield Case(
        "avg_pool",
        "3d",
        (normal(1, 2, 4, 4, 5),),
        AvgPoolAttrs((2, 2, 3), (2, 2, 1), ((0, 0),) * 3),
        lambda t, x: t.nn.functional.avg_pool3d(x, (2, 2, 3), (2, 2, 1)),
    )
    for size in ((1, 1), (3, 2), (5, 7), (9, 4)):
        yield Case(
            "adaptive_avg_pool",
            f"{size}",
            (normal(2, 3, 5, 7),),
            AdaptiveAvgPoolAttrs(size),
            lambda t, x, s=size: t.nn.functional.adaptive_avg_pool2d(x, s),
        )
    yield Case(
        "adaptive_avg_pool",
        "1d",
        (normal(2, 3, 5),),
        AdaptiveAvgPoolAttrs((4,)),
        lambda t, x: t.nn.functional.adaptive_avg_pool1d(x, 4),
    )


def _resizes() -> Iterator[Case]:
    for size in ((8, 10), (3, 7), (1, 1), (4, 5), (13, 2)):
        x = normal(1, 2, 4, 5)
        yield Case(
            "resize",
            f"nearest-{size}",
            (x,),
            ResizeAttrs(size, "nearest"),
            lambda t, x, s=size: t.nn.functional.interpolate(x, s),
        )
        for mode in ("bilinear", "bicubic"):
            for corners in (False, True):
                yield Case(
                    "resize",
                    f"{mode}-{size}-{corners}",
                    (x,),
                    ResizeAttrs(size, mode, corners),
                    lambda t, x, s=size, m=mode, c=corners: t.nn.functional.interpolate(
                        x, s, mode=m, align_corners=c
                    ),
                )
    for scale in (2.0, 1.7, 0.6):
        size = (int(4 * scale), int(5 * scale))
        for mode in ("nearest", "bilinear", "bicubic"):
            yield Case(
                "resize",
                f"{mode}-x{scale}",
                (normal(1, 1, 4, 5),),
                ResizeAttrs(size, mode, False, (scale, scale)),
                lambda t, x, s=scale, m=mode: t.nn.functional.interpolate(
                    x, scale_factor=s, mode=m
                ),
            )
    yield Case(
        "resize",
        "linear 1d",
        (normal(1, 2, 5),),
        ResizeAttrs((9,), "bilinear"),
        lambda t, x: t.nn.functional.interpolate(x, 9, mode="linear"),
    )
    yield Case(
        "resize",
        "trilinear",
        (normal(1, 2, 3, 4, 2),),
        ResizeAttrs((5, 2, 4), "bilinear"),
        lambda t, x: t.nn.functional.interpolate(x, (5, 2, 4), mode="trilinear"),
    )


CASES: tuple[Case, ...] = tuple(
    case for family in (_convolutions, _pools, _resizes) for case in family()
)
