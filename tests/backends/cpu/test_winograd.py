"""Winograd convolutions against the direct sum: tiles that reach past the image, channels that no
vector divides, several images, and what an epilogue can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import winograd
from graphopt_backends.cpu.lower.domain import Sizes
from graphopt_backends.cpu.lower.tiles import Tile, choose_even_tile
from graphopt_backends.cpu.lower.winograd import Grid, choose_tile_rows
from graphopt_backends.cpu.targets import TARGETS, host
from hypothesis import given, settings
from hypothesis import strategies as st
from regions import check_regions, graph_of

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import ConvAttrs, PadAttrs
from graphopt.ops.winograd import ERROR, TRANSFORMS, Transform, convolved, transformed_weights
from graphopt.rewrite import Rewriter
from graphopt.target import Target

NHWC = Layout.ordered((0, 2, 3, 1))
NONE = ((0, 0), (0, 0))
V3, V4 = TARGETS["x86-64-v3"], TARGETS["x86-64-v4"]


def taps(transform: Transform) -> int:
    return len(transform.weight[0])


def declared(transform: Transform) -> float:
    return ERROR[taps(transform), transform.stride][transform.m]


ALL = [t for by_tile in TRANSFORMS.values() for t in by_tile.values()]
every_transform = pytest.mark.parametrize(
    "transform", ALL, ids=[f"taps{taps(t)}-stride{t.stride}-tile{t.m}" for t in ALL]
)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def image(*shape: int) -> TensorType:
    """Channels last."""
    return TensorType(DType.F32, shape, Layout.ordered((0, *range(2, len(shape)), 1)))


def check(
    transform: Transform, x: tuple[int, ...], channels: int, target: str, folder: Path,
    groups: int = 1, parts: int = 1, dilation: int = 1,
) -> None:  # fmt: skip
    """`x` has one spatial axis or two, of an output pixel at least."""
    reach = (taps(transform) - 1) * dilation
    n, c, *extents = x = (*x[:2], *(max(e, reach + 1) for e in x[2:]))
    rank = len(extents)
    none = ((0, 0),) * rank
    attrs = ConvAttrs((transform.stride,) * rank, none, (dilation,) * rank, groups, transform.m)
    results = [(e - reach - 1) // transform.stride + 1 for e in extents]
    before, after = (0, 0, *(1,) * rank), (0, 0, *(0,) * (rank - 1), 1)
    out = image(n, channels, *results)
    padded = image(n, channels, *(e + 1 for e in results[:-1]), results[-1] + 2)

    def body(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
        y = rw.insert("conv", [x, w, b], attrs, types=[out]).result
        z = rw.insert("add", [y, r], types=[out]).result
        z = rw.insert("relu", [z], types=[out]).result
        return rw.insert("pad", [z], PadAttrs(before, after, 0.0, "constant"),
                         types=[padded]).result  # fmt: skip

    weights = [random(channels, c // groups, *(taps(transform),) * rank) / 10, random(channels)]
    graph = graph_of([image(*x), out], weights, body)
    row = host() if target == "host" else TARGETS[target]
    inputs = [random(*x), random(*out.dims)]
    check_regions(graph, inputs, row, folder, tolerance=declared(transform), parts=parts)


@pytest.mark.compiler
@every_transform
@pytest.mark.parametrize(
    ("x", "channels"),
    [
        ((1, 16, 3, 3), 16),
        ((1, 5, 8, 7), 3),
        ((2, 33, 6, 11), 50),
        ((1, 16, 18, 18), 80),
        ((3, 8, 5, 30), 17),
        ((1, 16, 3), 16),  # along one axis
        ((2, 33, 39), 50),
        ((3, 5, 60), 3),
    ],
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_agrees_with_the_direct_sum(
    transform: Transform, x: tuple[int, ...], channels: int, target: str, tmp_path: Path
) -> None:
    check(transform, x, channels, target, tmp_path)


@pytest.mark.compiler
@every_transform
@pytest.mark.parametrize(
    ("x", "channels", "groups"),
    [
        ((1, 32, 3, 3), 32, 2),
        ((1, 10, 8, 7), 6, 2),  # 5 channels of a group to 3
        ((2, 66, 6, 11), 100, 2),  # a panel of vectors, then short ones
        ((3, 24, 5, 30), 51, 3),
        ((1, 64, 18, 18), 64, 4),
        ((1, 6, 9, 10), 12, 6),  # one channel to two
        ((1, 7, 9, 10), 7, 7),
        ((1, 40, 130), 24, 2),  # along one axis
    ],
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_groups_agree_with_the_direct_sum(
    transform: Transform,
    x: tuple[int, ...],
    channels: int,
    groups: int,
    target: str,
    tmp_path: Path,
) -> None:
    check(transform, x, channels, target, tmp_path, groups)


@pytest.mark.compiler
@every_transform
@pytest.mark.parametrize("images", [1, 2, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_block_may_be_several_images(
    transform: Transform,
    images: int,
    groups: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(winograd, "choose_tile_rows", lambda grid, *_: images * grid.tile_rows)
    check(transform, (4, 18, 9, 11), 20, "host", tmp_path, groups, parts=3)


@pytest.mark.compiler
@every_transform
@pytest.mark.parametrize("groups", [1, 2])
def test_panels_that_pass_over_tiles_together(
    transform: Transform, groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tile(rows: int, sizes: Sizes, usual: Tile, target: Target) -> Tile:
        return replace(usual, vectors=1, together=2)

    monkeypatch.setattr(winograd, "choose_domain_tile", tile)
    check(transform, (1, 18, 9, 11), 128, "x86-64-v3", tmp_path, groups, parts=3)


@pytest.mark.compiler
@pytest.mark.parametrize("transform", [t for t in ALL if t.stride == 1])
@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize(
    "x", [(1, 16, 7), (2, 20, 101), (1, 16, 7, 8), (2, 20, 13, 18), (1, 18, 9, 25)]
)
def test_dilated(transform: Transform, dilation: int, x: tuple[int, ...], tmp_path: Path) -> None:
    """The phases of the pixels, some of them longer than others; and threads that share them."""
    check(transform, x, 20, "host", tmp_path, parts=3, dilation=dilation)


def test_blocks_are_parts_of_an_image_or_images() -> None:
    assert Grid(1, 14, 14).blocks == (1, 2, 7, 14)
    assert Grid(6, 4, 4).blocks == (1, 2, 4, 8, 12, 24)


def test_images_share_a_block_where_each_would_read_all_weights() -> None:
    assert tile_rows_of(2, Sizes(36, 512, 512), V4, images=8) >= 4 * 2
    assert tile_rows_of(14, Sizes(36, 64, 64), V4, images=8) <= 14


@pytest.mark.compiler
@pytest.mark.parametrize("parts", [2, 5, 7])
def test_threads_share_the_blocks_of_all_groups(parts: int, tmp_path: Path) -> None:
    check(TRANSFORMS[3, 1][4], (2, 54, 11, 14), 36, "host", tmp_path, 3, parts)


def exact_sum(x: np.ndarray, w: np.ndarray, groups: int, stride: int, dilation: int) -> np.ndarray:
    """Of each group by itself."""
    rank = x.ndim - 2
    span = ((w.shape[2] - 1) * dilation + 1,) * rank
    windows = np.lib.stride_tricks.sliding_window_view(x, span, tuple(range(2, 2 + rank)))
    steps = (slice(None, None, stride),) * rank, (slice(None, None, dilation),) * rank
    windows = windows[(slice(None), slice(None), *steps[0], *steps[1])]
    views = zip(np.split(windows, groups, 1), np.split(w, groups), strict=True)
    sums = {1: "nchp,ocp->noh", 2: "nchwpq,ocpq->nohw"}[rank]
    return np.concatenate([np.einsum(sums, v, u) for v, u in views], 1)


@given(
    transform=st.sampled_from(ALL),
    n=st.integers(1, 2),
    groups=st.integers(1, 4),
    inputs=st.integers(1, 4),
    channels=st.integers(1, 4),
    size=st.lists(st.integers(7, 14), min_size=1, max_size=2),
    dilation=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_transforms_are_exact(
    transform: Transform, n: int, groups: int, inputs: int, channels: int, size: list[int],
    dilation: int,
) -> None:  # fmt: skip
    """In float64 nothing but rounding is left: the matrices are right."""
    dilation = dilation if transform.stride == 1 else 1
    size = [max(e, (taps(transform) - 1) * dilation + 1) for e in size]
    x = random(n, groups * inputs, *size).astype(np.float64)
    w = random(groups * channels, inputs, *(taps(transform),) * len(size)).astype(np.float64)
    direct = exact_sum(x, w, groups, transform.stride, dilation)
    got = convolved(x, w, transform, groups, (dilation,) * len(size))
    np.testing.assert_allclose(got, direct, rtol=0, atol=1e-12 * np.abs(direct).max())


@every_transform
@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (512, 1), (512, 8), (512, 32)])
def test_rounding_stays_within_the_declared_bound(
    transform: Transform, channels: int, groups: int
) -> None:
    """In float32, a tenth of what the pass declares."""
    r = taps(transform)
    x, w = random(1, channels, 16, 16), random(32, channels // groups, r, r) / 20
    exact = convolved(x.astype(np.float64), w.astype(np.float64), transform, groups)
    error = np.abs(convolved(x, w, transform, groups) - exact).max() / np.abs(exact).max()
    assert error <= declared(transform) / 10


def test_weights_keep_their_order() -> None:
    w = random(4, 3, 3, 3)
    u = transformed_weights(w, TRANSFORMS[3, 1][2])
    assert u.shape == (16, 3, 4)
    np.testing.assert_allclose(u[-1], w[:, :, 2, 2].T)  # G's last row picks the last tap


def tile_rows_of(tile_rows: int, sizes: Sizes, target: Target, images: int = 1) -> int:
    """Those of a block in square images."""
    grid = Grid(images, tile_rows, tile_rows)
    usual = choose_even_tile(((grid.tiles,), sizes.channels, sizes.inputs), target)
    return choose_tile_rows(grid, sizes, usual, target)


def test_blocks_divide_the_image_and_leave_work_for_threads() -> None:
    for tile_rows in (4, 7, 14, 28):
        rows = tile_rows_of(tile_rows, Sizes(36, 64, 64), replace(V4, vector_units=1))
        assert tile_rows % rows == 0
        assert rows < tile_rows


def test_groups_are_work_for_threads() -> None:
    """All tile rows of a small image in one block: its weights are read once."""
    assert tile_rows_of(4, Sizes(36, 64, 64, groups=8), V4) == 4


@pytest.mark.parametrize("target", [V3, V4, replace(V4, vector_units=1)])
def test_a_small_image_is_one_block_where_its_weights_would_come_twice(target: Target) -> None:
    """Threads share its panels then."""
    assert tile_rows_of(4, Sizes(16, 512, 512), target) == 4
    if target is not V3:  # whose level 2 cache holds half of these rows
        assert tile_rows_of(4, Sizes(36, 256, 256), target) == 4
