"""The legalizing passes: what kernels do not know is said in terms of what they know."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from graphopt_passes.legalize.clip_windows import Axis
from graphopt_passes.pipelines import text
from real_graphs import attribute, count, fires, prepared, tiny

from graphopt.check import check_pass as run_check
from graphopt.check import random_constant
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.ops import FusedAttrs
from graphopt.pipeline import Pipeline

Check = Callable[..., object]
UNKNOWN_TO_KERNELS = {"conv_transpose", "resize", "adaptive_avg_pool", "batch_norm"}


def transformed(pass_: str, text: str) -> Graph:
    return run_check(pass_, parse(text, fill=random_constant))


# Transposed convolutions -------------------------------------------------------------------------


def _turned(kernel: int, stride: int, padding: int, extra: int, dilation: int, groups: int,
            bias: bool = True, size: int = 5, rank: int = 1) -> str:  # fmt: skip
    def each(n: int) -> str:
        return "[" + ",".join([str(n)] * rank) + "]"

    sizes, kernels = ",".join([str(size)] * rank), ",".join([str(kernel)] * rank)
    text = f"%x = input : f32[2,4,{sizes}]\n"
    text += f'%w = constant {{key="w"}} : f32[4,{6 // groups},{kernels}]\n'
    text += '%b = constant {key="b"} : f32[6]\n' if bias else ""
    attrs = f"stride={each(stride)}, padding={each(padding)}, output_padding={each(extra)}, "
    attrs += f"dilation={each(dilation)}, groups={groups}"
    return text + f"%y = conv_transpose %x, %w{', %b' if bias else ''} {{{attrs}}}\nreturn %y"


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_every_phase_of_a_transposed_convolution(kernel: int, stride: int) -> None:
    """Each kernel with the paddings that it allows, and what a stride may add at the end."""
    for padding, extra, groups in itertools.product(range(kernel), range(stride), (1, 2)):
        result = transformed("decompose-conv-transpose",
                             _turned(kernel, stride, padding, extra, 1, groups))  # fmt: skip
        assert count(result)["conv_transpose"] == 0
        assert count(result)["conv"] <= stride


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 2), (3, 2, 3), (2, 2, 2), (3, 3, 2)]
)
def test_dilated_transposed_convolutions(kernel: int, stride: int, dilation: int) -> None:
    transformed("decompose-conv-transpose", _turned(kernel, stride, 1, 0, dilation, 1))


@pytest.mark.parametrize("rank", [2, 3])
def test_transposed_convolutions_of_images(rank: int) -> None:
    text = _turned(3, 2, 1, 1, 1, 2, rank=rank, size=3)
    result = transformed("decompose-conv-transpose", text)
    assert count(result)["conv"] == 2**rank


def test_a_phase_without_taps_is_the_bias() -> None:
    for bias in (True, False):
        result = transformed("decompose-conv-transpose", _turned(1, 2, 0, 1, 1, 1, bias))
        assert count(result)["conv"] == 1
        assert count(result)["full"] == 1


def test_one_phase_is_a_convolution(check_pass: Check) -> None:
    """With stride 1: the kernel flipped, input and output channels exchanged."""
    head = "%x = input : f32[1,1,4]\n"
    attrs = "stride=[1], padding=[1], output_padding=[0], dilation=[1]"
    before = head + '%w = constant {key="w", value=[1,2,3]} : f32[1,1,3]\n'
    after = head + "%p = pad %x {before=[0,0,1], after=[0,0,1]}\n"
    after += '%w = constant {key="v", value=[3,2,1]} : f32[1,1,3]\n'
    after += "%y = conv %p, %w {stride=[1], padding=[[0,0]], dilation=[1]}\nreturn %y"
    check_pass("decompose-conv-transpose",
               before + f"%y = conv_transpose %x, %w {{{attrs}}}\nreturn %y", after)  # fmt: skip


def test_phases_share_one_border_and_lie_interleaved(check_pass: Check) -> None:
    """Neighbouring pieces of channels, and of rows; what moves them apart is a view, channels
    last."""
    attrs = "stride=[2,2], padding=[1,1], output_padding=[0,0], dilation=[1,1]"
    text = '%x = input : f32[1,8,5,6]\n%w = constant {key="w"} : f32[8,4,4,4]\n'
    text += f"%t = conv_transpose %x, %w {{{attrs}}}\n%y = leaky_relu %t {{slope=0.1}}\nreturn %y"
    found = count(transformed("decompose-conv-transpose", text))
    assert (found["pad"], found["conv"], found["concat"], found["slice"]) == (1, 4, 3, 4)
    found = count(transformed("decompose-conv-transpose{share-border=false}", text))
    assert (found["pad"], found["conv"], found["concat"], found["slice"]) == (4, 4, 3, 0)
    passes = "decompose-conv-transpose,sink-views,sink-concats,assign-layouts,fuse,join-concats"
    graph = Pipeline.parse(passes).run(parse(text, fill=random_constant))
    copies = [
        n for n in graph.nodes if isinstance(n.attrs, FusedAttrs) and n.attrs.kind != "contraction"
    ]
    assert [n.results[0].name for n in copies] == ["pad", "relayout"]  # in and out, nothing between


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 1), (1, 2)])
def test_transposed_convolutions_with_computed_weights(
    kernel: int, stride: int, groups: int
) -> None:
    text = _turned(kernel, stride, 0, 0, 1, groups, rank=2)
    text = text.replace('%w = constant {key="w"}', "%w = input")
    assert count(transformed("decompose-conv-transpose", text))["conv_transpose"] == 0


# Resizing and pooling ----------------------------------------------------------------------------


@pytest.mark.parametrize("corners", ["true", "false"])
@pytest.mark.parametrize("size", ["[3,5]", "[9,7]", "[6,4]", "[1,1]"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_resizes(mode: str, size: str, corners: str) -> None:
    corners = "false" if mode == "nearest" else corners
    attrs = f'size={size}, mode="{mode}", align_corners={corners}, scales=none'
    text = f"%x = input : f32[1,2,6,4]\n%y = resize %x {{{attrs}}}\nreturn %y"
    result = transformed("decompose-resize", text)
    assert set(count(result)) <= {"gather", "mul", "add", "constant"}


def test_resize_refuses_chosen_layouts(check_refuses: Check) -> None:
    attrs = 'size=[3,5], mode="nearest", align_corners=false, scales=none'
    text = (
        f"%x = input : f32[1,2,6,4]\n%y = resize %x {{{attrs}}} : f32[1,2,3,5]@[0,2,3,1]\nreturn %y"
    )
    check_refuses("decompose-resize", text, reason="its layout is chosen already")


@pytest.mark.parametrize(
    ("size", "ops"),
    [
        ("[1,1]", {"mean"}),
        ("[3,2]", {"avg_pool"}),
        ("[4,3]", {"transpose", "linear", "constant"}),
        ("[7,1]", {"transpose", "linear", "constant"}),
    ],
)
def test_adaptive_pools(size: str, ops: set[str]) -> None:
    text = f"%x = input : f32[1,2,6,4]\n%y = adaptive_avg_pool %x {{size={size}}}\nreturn %y"
    assert set(count(transformed("decompose-pooling", text))) == ops


def _pool(op: str, kernel: int, stride: int, padding: str, more: str = "", size: int = 6) -> str:
    attrs = f"kernel=[{kernel},{kernel}], stride=[{stride},{stride}], "
    attrs += f"padding=[{padding},{padding}]{more}"
    return f"%x = input : f32[1,2,{size},{size}]\n%y = {op} %x {{{attrs}}}\nreturn %y"


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("padding", ["[1,1]", "[0,1]", "[1,0]"])
def test_pools_that_count_what_is_inside(kernel: int, padding: str) -> None:
    text = _pool("avg_pool", kernel, 2, padding, ", count_include_pad=false")
    assert count(transformed("decompose-pooling", text)) == {"avg_pool": 1, "mul": 1, "constant": 1}


def test_a_window_as_large_as_the_image_is_a_mean() -> None:
    text = _pool("avg_pool", 6, 1, "[0,0]", ", count_include_pad=true, divisor=7")
    assert count(transformed("decompose-pooling", text)) == {"mean": 1, "mul": 1, "constant": 1}


@pytest.mark.parametrize(
    "more", [", count_include_pad=true", ", count_include_pad=false, divisor=5"]
)
def test_pooling_refuses_one_divisor(more: str, check_refuses: Check) -> None:
    text = _pool("avg_pool", 3, 2, "[1,1]", more)
    check_refuses("decompose-pooling", text, reason="its divisor is the same everywhere")


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(9, 9, "[0,3]"), (8, 8, "[1,1]")])
def test_windows_larger_than_the_image_are_clipped(kernel: int, stride: int, padding: str) -> None:
    """What a window of padding was divided by, it still is."""
    count_all = _pool("avg_pool", kernel, stride, padding, ", count_include_pad=true")
    result = transformed("clip-windows", count_all)
    assert attribute(result, "avg_pool", "kernel") == [(6, 6)]
    assert attribute(result, "avg_pool", "divisor") == [kernel * kernel]
    most = _pool("max_pool", kernel, stride, padding, ", dilation=[1,1]")
    result = transformed("clip-windows", most)
    assert attribute(result, "max_pool", "kernel") == [(6, 6)]
    assert attribute(result, "max_pool", "padding") == [((0, 0), (0, 0))]


@pytest.mark.parametrize(
    ("extent", "taps", "stride", "padding", "dilation", "left"),
    [
        (7, 3, 1, (12, 12), 12, (1, (0, 0), 1)),
        (4, 5, 1, (6, 6), 3, (3, (3, 3), 3)),
        (4, 5, 2, (6, 6), 3, (2, (0, 2), 3)),
        (4, 5, 1, (2, 2), 1, (5, (2, 2), 1)),
        (3, 5, 1, (0, 4), 1, (3, (0, 2), 1)),
        (2, 2, 1, (1, 0), 2, (2, (1, 0), 2)),
        (5, 3, 1, (8, 0), 4, (2, (4, 0), 4)),
        (1, 7, 3, (3, 3), 1, (1, (0, 0), 1)),
    ],
)
def test_an_axis_keeps_the_taps_that_meet_its_elements(
    extent: int, taps: int, stride: int, padding: tuple[int, int], dilation: int,
    left: tuple[int, tuple[int, int], int],
) -> None:  # fmt: skip
    """And as many windows, that see the same."""
    out = (extent + sum(padding) - dilation * (taps - 1) - 1) // stride + 1
    axis = Axis(extent, out, taps, stride, *padding, dilation)
    clipped = axis.clipped() or axis
    assert (clipped.kernel, (clipped.before, clipped.after), clipped.dilation) == left
    assert (clipped.clipped() or clipped) == clipped, "nothing is left to clip"

    def seen(a: Axis) -> set[tuple[int, int, int]]:
        """Window, tap by its first number, and the element that they meet."""
        taps = itertools.product(range(out), range(a.kernel))
        meet = ((w, t + a.first, w * stride + t * a.dilation - a.before) for w, t in taps)
        return {(w, t, e) for w, t, e in meet if 0 <= e < extent}

    assert seen(clipped) == seen(axis)


def _wide(weights: str, kernel: str, groups: int = 1) -> str:
    text = f"%x = input : f32[2,4,7,5]\n%w = {weights} : f32[6,{4 // groups},{kernel}]\n"
    text += '%b = constant {key="b"} : f32[6]\n%y = conv %x, %w, %b {stride=[1,2], '
    return text + f"padding=[[8,8],[3,4]], dilation=[8,3], groups={groups}}}\nreturn %y"


@pytest.mark.parametrize("weights", ['constant {key="w"}', "input"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_forget_taps_in_padding(weights: str, groups: int) -> None:
    """Of three rows of taps 8 apart the middle one, two of three columns."""
    result = transformed("clip-windows", _wide(weights, "3,3", groups))
    (conv,) = [n for n in result.nodes if n.op.name == "conv"]
    assert conv.operands[1].type.dims == (6, 4 // groups, 1, 3)
    assert conv.attrs.padding[0] == (0, 0)  # type: ignore[attr-defined]
    assert conv.attrs.dilation == (1, 3)  # type: ignore[attr-defined]
    assert count(result)["slice"] == (1 if weights == "input" else 0)


def test_clipping_refuses(check_refuses: Check) -> None:
    plain = _wide('constant {key="w"}', "1,3")
    check_refuses("clip-windows", plain.replace("[8,8]", "[0,0]"), reason="meets the input")
    check_refuses(
        "clip-windows", _pool("avg_pool", 3, 2, "[1,1]"), reason="meets the input somewhere"
    )
    dilated = _pool("max_pool", 3, 2, "[1,1]", ", dilation=[2,2]")
    check_refuses("clip-windows", dilated, reason="its window is dilated")


# Batch norms and padding -------------------------------------------------------------------------

NORM = "".join(f'%{n} = constant {{key="{n}"}} : f32[3]\n' for n in "gsmv")


def test_batch_norm_becomes_scale_and_shift(check_pass: Check) -> None:
    """scale = 2 / sqrt(0.24 + 0.01) = 4, shift = 1 - 3 * 4 = -11."""
    head = "%x = input : f32[2,1,5]\n"
    numbers = {"g": 2, "s": 1, "m": 3, "v": 0.24}
    parts = (f'%{n} = constant {{key="{n}", value=[{v}]}} : f32[1]\n' for n, v in numbers.items())
    before = head + "".join(parts) + "%y = batch_norm %x, %g, %s, %m, %v {eps=0.01}\nreturn %y"
    after = head + '%a = constant {key="a", value=[4]} : f32[1,1]\n'
    after += '%b = constant {key="b", value=[-11]} : f32[1,1]\n'
    after += "%c = mul %x, %a\n%y = add %c, %b\nreturn %y"
    check_pass("decompose-batch-norm", before, after)


@pytest.mark.parametrize("shape", ["2,3", "2,3,5", "2,3,4,5", "2,3,2,2,2"])
def test_batch_norms_of_every_rank(shape: str) -> None:
    text = f"%x = input : f32[{shape}]\n" + NORM
    text += "%y = batch_norm %x, %g, %s, %m, %v {eps=0.001}\nreturn %y"
    assert count(transformed("decompose-batch-norm", text)) == {"constant": 2, "mul": 1, "add": 1}


@pytest.mark.parametrize("name", ["g", "m"])
def test_batch_norm_with_computed_parameters(name: str) -> None:
    norm = NORM.replace(f'%{name} = constant {{key="{name}"}}', f"%{name} = input")
    text = f"%x = input : f32[2,3,5]\n{norm}"
    text += "%y = batch_norm %x, %g, %s, %m, %v {eps=0.001}\nreturn %y"
    assert count(transformed("decompose-batch-norm", text))["batch_norm"] == 0


def _padded(op: str, attrs: str, padding: str, dtype: str = "f32") -> str:
    return f"%y = {op} %x {{{attrs}, padding=[{padding}]}}\nreturn %y".replace(
        "conv %x", "conv %x, %w"
    )


PADDED = {
    "conv": ("stride=[1,1], dilation=[1,1]", "0.0"),
    "max_pool": ("kernel=[3,3], stride=[2,2], dilation=[1,1]", "-inf"),
    "avg_pool": ("kernel=[3,3], stride=[2,2], count_include_pad=true", "0.0"),
}


@pytest.mark.parametrize("op", PADDED)
def test_padding_is_written_out(op: str, check_pass: Check) -> None:
    attrs, fill = PADDED[op]
    head = "%x = input : f32[1,2,6,6]\n"
    head += '%w = constant {key="w"} : f32[4,2,3,3]\n' if op == "conv" else ""
    pad = f'%p = pad %x {{before=[0,0,1,0], after=[0,0,2,1], value={fill}, mode="constant"}}\n'
    after = _padded(op, attrs, "[0,0],[0,0]").replace("%x", "%p")
    check_pass("explicit-padding", head + _padded(op, attrs, "[1,2],[0,1]"), head + pad + after)


def test_integers_are_padded_with_the_least(check_pass: Check) -> None:
    attrs = "kernel=[2], stride=[1], dilation=[1]"
    head = "%x = input : i8[1,2,6]\n"
    pad = '%p = pad %x {before=[0,0,1], after=[0,0,1], value=-128.0, mode="constant"}\n'
    after = head + pad + f"%y = max_pool %p {{{attrs}, padding=[[0,0]]}}\nreturn %y"
    check_pass(
        "explicit-padding",
        head + f"%y = max_pool %x {{{attrs}, padding=[[1,1]]}}\nreturn %y",
        after,
    )


def test_equal_pads_are_shared() -> None:
    text = '%x = input : f32[1,2,6,6]\n%w = constant {key="w"} : f32[4,2,3,3]\n'
    conv = "conv %x, %w {stride=[1,1], dilation=[1,1], padding=[[1,1],[1,1]]}\n"
    result = transformed(
        "explicit-padding", text + f"%a = {conv}%b = {conv}%y = sub %a, %b\nreturn %y"
    )
    assert count(result)["pad"] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            _pool("avg_pool", 3, 2, "[1,1]", ", count_include_pad=false"),
            "counts only elements inside",
        ),
        (_pool("avg_pool", 3, 2, "[0,0]"), "it has no padding"),
    ],
)
def test_padding_refuses(text: str, reason: str, check_refuses: Check) -> None:
    check_refuses("explicit-padding", text, reason=reason)


# Real models -------------------------------------------------------------------------------------


@pytest.mark.transformers
@pytest.mark.parametrize(
    ("pass_", "name", "op"),
    [
        ("decompose-conv-transpose", "tiny_unet", "conv_transpose"),
        ("decompose-resize", "tiny_resizer", "resize"),
        ("decompose-pooling", "tiny_resizer", "adaptive_avg_pool"),
        ("decompose-batch-norm", "tiny_resnet", "batch_norm"),
        ("explicit-padding", "tiny_resnet", ""),
    ],
)
def test_fires_on_real_models(pass_: str, name: str, op: str) -> None:
    graph = tiny(name)
    result, rewrites = fires(pass_, graph)
    assert rewrites >= max(1, count(graph)[op])
    assert count(result)[op] == 0


@pytest.mark.transformers
def test_clipping_fires_on_a_real_model() -> None:
    """EfficientNet ends in a pool as large as its full image, over the small one of the test, where
    kernels of 5x5 and 3x3 see 2x2 and 1x1 pixels."""
    result, rewrites = fires("clip-windows", tiny("tiny_efficientnet"))
    assert rewrites == 3
    assert count(result)["avg_pool"] == 1


@pytest.mark.transformers
@pytest.mark.parametrize("name", ["tiny_unet", "tiny_resizer", "tiny_efficientnet"])
def test_nothing_is_left_that_kernels_do_not_know(name: str) -> None:
    pipeline = text("O0").split(",assign-layouts")[0]
    graph = prepared(name, pipeline)
    assert not UNKNOWN_TO_KERNELS & set(count(graph))
    for node in graph.nodes:
        assert not any(map(any, getattr(node.attrs, "padding", ()))), node
    assert Pipeline.parse(pipeline).run(graph) == graph  # all of them together are idempotent
