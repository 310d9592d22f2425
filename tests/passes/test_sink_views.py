"""sink-views: reshapes and transposes between a kernel and its epilogue move behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

Check = Callable[..., object]
LINEAR = '%x = input : f32[1,6,5,4]\n%w = constant {key="w"} : f32[8,4]\n%p = linear %x, %w\n'
NCHW = "{perm=[0,3,1,2]}"
CONV = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"
IMAGE = '%x = input : f32[1,4,6,5]\n%w = constant {key="w"} : f32[8,4,1,1]\n'


def test_activation(check_pass: Check) -> None:
    before = LINEAR + f'%t = transpose %p {NCHW}\n%y = gelu %t {{approximate="none"}}\nreturn %y'
    after = LINEAR + f'%g = gelu %p {{approximate="none"}}\n%y = transpose %g {NCHW}\nreturn %y'
    check_pass("sink-views", before, after)


def test_residual(check_pass: Check) -> None:
    residual = "%r = input : f32[1,8,6,5]\n"
    before = residual + LINEAR + f"%t = transpose %p {NCHW}\n%y = add %t, %r\nreturn %y"
    after = residual + LINEAR + "%u = transpose %r {perm=[0,2,3,1]}\n%s = add %p, %u\n"
    check_pass("sink-views", before, after + f"%y = transpose %s {NCHW}\nreturn %y")


def test_reshape_and_scalar(check_pass: Check) -> None:
    half = "%h = full {value=0.5, shape=[1,1], dtype=f32}\n"
    before = LINEAR + half + "%r = reshape %p {shape=[30,8]}\n%y = mul %h, %r\nreturn %y"
    after = LINEAR + half + "%s = reshape %h {shape=[]}\n%m = mul %s, %p\n"
    check_pass("sink-views", before, after + "%y = reshape %m {shape=[30,8]}\nreturn %y")


def test_two_views_of_an_image(check_pass: Check) -> None:
    """Channels last, [n, c, h, w] as [n, h * w, c] is free."""
    conv = IMAGE + f"%p = conv %x, %w {CONV}\n"
    before = conv + "%r = reshape %p {shape=[1,8,30]}\n%t = transpose %r {perm=[0,2,1]}\n"
    after = (
        conv + "%y = relu %p\n%r = reshape %y {shape=[1,8,30]}\n%t = transpose %r {perm=[0,2,1]}\n"
    )
    check_pass("sink-views", before + "%y = relu %t\nreturn %y", after + "return %t")


def test_equal_views_need_no_inverse(check_pass: Check) -> None:
    head = LINEAR + '%v = constant {key="v"} : f32[8,4]\n%q = linear %x, %v\n'
    before = (
        head + f"%t = transpose %p {NCHW}\n%u = transpose %q {NCHW}\n%y = add %t, %u\nreturn %y"
    )
    after = head + f"%s = add %p, %q\n%y = transpose %s {NCHW}\nreturn %y"
    check_pass("sink-views", before, after)


def test_equal_reshapes_of_different_shapes(check_pass: Check) -> None:
    head = LINEAR + "%z = input : f32[30,1,8]\n"
    before = head + (
        "%r = reshape %p {shape=[2,15,8]}\n%u = reshape %z {shape=[2,15,8]}\n%y = add %r, %u\n"
    )
    after = head + "%u = reshape %z {shape=[2,15,8]}\n%v = reshape %u {shape=[1,6,5,8]}\n"
    after += "%s = add %p, %v\n%y = reshape %s {shape=[2,15,8]}\n"
    check_pass("sink-views", before + "return %y", after + "return %y")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LINEAR + f"%t = transpose %p {NCHW}\n%y = relu %t\nreturn %y, %t", "read here alone"),
        (LINEAR + f"%t = transpose %p {NCHW}\n%y = relu %t\nreturn %y, %p", "read here alone"),
        (LINEAR + f'%c = constant {{key="c"}} : f32[8,1,1]\n%t = transpose %p {NCHW}\n'
         "%y = mul %t, %c\nreturn %y", "another operand is broadcast"),
        (LINEAR + "%c = input : f32[2,8,6,5]\n" + f"%t = transpose %p {NCHW}\n"
         "%y = mul %t, %c\nreturn %y",
         "the view is broadcast"),
        ("%z = input : f32[1,8,6,5]\n" + LINEAR + IMAGE.replace("%x", "%i").replace("%w", "%k")
         .replace('"w"', '"k"') + f"%q = conv %i, %k {CONV}\n%t = transpose %p {NCHW}\n"
         "%y = add %t, %q\nreturn %y", "both operands are kernels' results"),
        # Windows of an image: [h, w] as [h/2, 2, w/5, 5] with the axes in another order.
        (LINEAR + "%r = reshape %p {shape=[3,2,1,5,8]}\n%t = transpose %r {perm=[0,2,1,3,4]}\n"
         "%u = transpose %t {perm=[0,1,3,2,4]}\n%v = reshape %u {shape=[3,10,8]}\n%y = relu %v\n"
         "return %y", "the view is a copy"),
        ("%p = input : f32[4,8]\n%t = transpose %p {perm=[1,0]}\n%y = relu %t\nreturn %y",
         "no operand is a view"),
        ('%x = input : f32[n:1..4,4]\n%w = constant {key="w"} : f32[8,4]\n%p = linear %x, %w\n'
         "%t = transpose %p {perm=[1,0]}\n%y = relu %t\nreturn %y", "a dimension is symbolic"),
    ],
)  # fmt: skip
def test_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("sink-views", text, reason=reason)


@pytest.mark.transformers
@pytest.mark.parametrize(("name", "moves"), [("tiny_convnext", 5), ("tiny_segformer", 4)])
def test_fires_on_real_models(name: str, moves: int) -> None:
    """Residuals around channels-last blocks; the gelu behind SegFormer's depthwise convolutions."""
    graph = prepared(name, "fold-constants,fold-scale")
    result, rewrites = fires("sink-views", graph)
    assert rewrites >= moves
    settled, _ = fires("cancel-transposes", result)
    again, more = fires("sink-views", settled)
    assert more == 0
    assert count(again) == count(settled)
