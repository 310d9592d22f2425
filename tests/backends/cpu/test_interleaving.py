"""Copies whose result has few elements side by side that come from far apart, and the other way
round: colours and pixels, shuffled channels, rotated pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.emit import emit_kernel
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of
from test_turning import V4, text, turned

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import For, Kernel
from graphopt.kernel.visit import walk
from graphopt.ops import CastAttrs, ExpandAttrs, ReshapeAttrs, TransposeAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target

pytestmark = pytest.mark.compiler


@pytest.fixture(params=["host", "x86-64-v3", "scalar"])
def target(request: pytest.FixtureRequest) -> Target:
    return host() if request.param == "host" else TARGETS[request.param]


def reshaped(inside: tuple[int, ...], perm: tuple[int, ...], *shape: int) -> Graph:
    """[..] as `inside`, its axes exchanged, and flattened but for the first."""

    def body(rw: Rewriter, x: Value) -> Value:
        y = rw.emit("reshape", x, attrs=ReshapeAttrs(inside))
        y = rw.emit("transpose", y, attrs=TransposeAttrs(perm))
        return rw.emit("reshape", y, attrs=ReshapeAttrs((shape[0], int(np.prod(shape[1:])))))

    return graph_of([TensorType(DType.F32, shape)], [], body)


def kernel_of(graph: Graph) -> Kernel:
    fused = Fuse().run(graph, PassContext(target=V4))
    (node,) = (n for n in fused.nodes if n.body is not None)
    return lower_region(node, V4).kernel


def shuffled(groups: int, channels: int) -> Graph:
    """Channels c of g groups, in the order in which the groups take turns."""
    return reshaped((5, groups, channels), (0, 2, 1), 5, groups * channels)


@pytest.mark.parametrize("pixels", [3, 4, 7, 31, 64, 150])
@pytest.mark.parametrize("colours", [2, 3, 4, 5, 6, 8])
def test_colours_of_pixels(colours: int, pixels: int, target: Target, tmp_path: Path) -> None:
    x = np.arange(2 * pixels * colours, dtype=np.float32)
    there, back = turned(2, colours, pixels), turned(2, pixels, colours)
    check_regions(there, [x.reshape(2, colours, pixels)], target, tmp_path / "a", tolerance=0)
    check_regions(back, [x.reshape(2, pixels, colours)], target, tmp_path / "b", tolerance=0)


@pytest.mark.parametrize(
    "dtype", [DType.F64, DType.F16, DType.BF16, DType.I64, DType.I8, DType.BOOL]
)
def test_dtypes(dtype: DType, tmp_path: Path) -> None:
    x = (np.arange(3 * 70) % 120).astype(dtype.numpy)
    there, back = turned(3, 70, dtype=dtype), turned(70, 3, dtype=dtype)
    check_regions(there, [x.reshape(3, 70)], host(), tmp_path / "a", tolerance=0)
    check_regions(back, [x.reshape(70, 3)], host(), tmp_path / "b", tolerance=0)


@pytest.mark.parametrize("parts", [1, 3])
def test_with_a_border_and_threads(parts: int, tmp_path: Path) -> None:
    x = np.arange(4 * 3 * 50, dtype=np.float32).reshape(4, 3, 50)
    check_regions(turned(4, 3, 50, pad=1), [x], host(), tmp_path, tolerance=0, parts=parts)


@pytest.mark.parametrize("groups", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("channels", [3, 16, 29])
def test_shuffled_channels(groups: int, channels: int, target: Target, tmp_path: Path) -> None:
    x = np.arange(5 * groups * channels, dtype=np.float32).reshape(5, -1)
    check_regions(shuffled(groups, channels), [x], target, tmp_path, tolerance=0)


def test_an_axis_of_three_parts(target: Target, tmp_path: Path) -> None:
    """A place is read from (i // 6), (i // 2) % 3 and i % 2."""
    x = np.arange(2 * 2 * 3 * 20, dtype=np.float32).reshape(2, -1)
    graph = reshaped((2, 2, 3, 20), (0, 3, 2, 1), 2, 120)
    check_regions(graph, [x], target, tmp_path, tolerance=0)


@pytest.mark.parametrize("channels", [8, 64, 70])
@pytest.mark.parametrize("parts", [1, 3])
def test_channels_that_become_pixels(
    channels: int, parts: int, target: Target, tmp_path: Path
) -> None:
    """[y, x, channels, dy, dx] as [y, dy, x, dx, channels]."""
    x = np.arange(3 * 5 * channels * 4, dtype=np.float32).reshape(3, -1)
    graph = reshaped((3, 5, channels, 2, 2), (0, 3, 1, 4, 2), 3, 5 * channels * 4)
    check_regions(graph, [x], target, tmp_path, tolerance=0, parts=parts)


def test_blocks_stay_inside_loops_that_read_other_lines() -> None:
    """Of pixels that come from one place, a block of channels at a time; a colour for all pixels
    reads the lines of the one before."""
    pixels = reshaped((30, 5, 64, 2, 2), (0, 3, 1, 4, 2), 30, 5 * 64 * 4)
    assert _loops(pixels) == ["i0", "i2", "xb", "i1", "i3", "xi"]
    assert _loops(turned(640, 3)) == ["xb", "i0", "xi"]


def _loops(graph: Graph) -> list[str]:
    return [s.var for s in walk(kernel_of(graph).body) if isinstance(s, For)]


def test_each_element_several_times(target: Target, tmp_path: Path) -> None:
    def body(rw: Rewriter, x: Value) -> Value:
        y = rw.emit("reshape", x, attrs=ReshapeAttrs((3, 37, 1)))
        y = rw.emit("expand", y, attrs=ExpandAttrs((3, 37, 2)))
        return rw.emit("reshape", y, attrs=ReshapeAttrs((3, 74)))

    x = np.arange(3 * 37, dtype=np.float32).reshape(3, 37)
    graph = graph_of([TensorType(DType.F32, (3, 37))], [], body)
    check_regions(graph, [x], target, tmp_path, tolerance=0)


def test_with_arithmetic_on_the_way(target: Target, tmp_path: Path) -> None:
    """Bytes become numbers, and each colour has a factor of its own."""

    def body(rw: Rewriter, x: Value, factors: Value) -> Value:
        y = rw.emit("cast", x, attrs=CastAttrs(DType.F32))
        return rw.emit("mul", rw.emit("transpose", y, attrs=TransposeAttrs((1, 0))), factors)

    types = [TensorType(DType.U8, (3, 45)), TensorType(DType.F32, (3,))]
    x = (np.arange(3 * 45) % 251).astype(np.uint8).reshape(3, 45)
    factors = np.array([0.5, 2, 3], np.float32)
    check_regions(graph_of(types, [], body), [x, factors], target, tmp_path)


@pytest.mark.parametrize(
    ("graph", "by_turns"),
    [
        (turned(3, 64), True),
        (turned(6, 64), True),
        (turned(5, 64), False),  # no shuffles for five
        (turned(3, 64, dtype=DType.BOOL), False),
        (shuffled(2, 16), True),
        (shuffled(5, 16), False),
    ],
    ids=["3", "6", "5", "booleans", "2 groups", "5 groups"],
)
def test_which_way_it_is_done(graph: Graph, by_turns: bool) -> None:
    kernel = text(graph, V4)
    assert ("zip" in kernel) == by_turns
    assert " % " not in kernel


@pytest.mark.parametrize(("apart", "how"), [(3, "gather_every3"), (5, "gather_step")])
def test_that_what_lies_near_is_shuffled(apart: int, how: str) -> None:
    assert how in emit_kernel(kernel_of(turned(64, apart)), V4)
