"""The cost model: what its default tiles promise, and the rules that measurements gave it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from graphopt_backends.cpu.lower.blocking import passes_once, with_blocks
from graphopt_backends.cpu.lower.spaces import contraction_space, window_space
from graphopt_backends.cpu.lower.streaming import AHEAD, choose_block_tile, choose_streaming_tile
from graphopt_backends.cpu.lower.tiles import (
    Shape,
    Tile,
    choose_even_tile,
    choose_tile,
    choose_window_tile,
    cycles,
    even_split,
    most_rows,
    rows_missed,
)
from graphopt_backends.cpu.targets import TARGETS
from hypothesis import given
from hypothesis import strategies as st

from graphopt.target import Target

V3, V4, NEON = TARGETS["x86-64-v3"], TARGETS["x86-64-v4"], TARGETS["cortex-a76"]
MESH = replace(V4, l2_bytes=2 << 20, l1_bytes=48 << 10, far_gbytes=17.0)
"""A core that reads slowly from beyond its level 2 cache."""
targets = st.sampled_from(sorted(TARGETS.values(), key=lambda t: t.name))
extents = st.lists(st.integers(1, 130), min_size=0, max_size=3).map(tuple)


@given(extents, st.integers(1, 600), st.integers(1, 5000), targets)
def test_default_tiles_are_in_their_spaces(
    m: tuple[int, ...], n: int, k: int, target: Target
) -> None:
    shape = (m, n, k)
    tile = choose_tile(shape, target)
    space = contraction_space(shape, target, tile, packed=True)
    assert tile.at(space.default) == tile
    assert all(p in space for p in space.likely)
    window = choose_window_tile((m, n, k % 50 + 1), target)
    space = window_space((m, n, k % 50 + 1), target, window)
    assert window.at(space.default) == window


@pytest.mark.parametrize(("target", "rows", "vectors"), [(V4, 6, 4), (NEON, 6, 4), (V3, 6, 2)])
def test_large_products_fill_the_registers(target: Target, rows: int, vectors: int) -> None:
    """With 16 registers 12 accumulators, not the 8 that would just hide the latency."""
    tile = choose_tile(((768,), 768, 768), target)
    assert (tile.rows, tile.vectors) == (rows, vectors)


@pytest.mark.parametrize(
    ("rows", "row_bytes", "missed"),
    [(14, 4096, 14), (14, 8192, 14), (7, 4096, 0), (14, 2048, 0), (14, 4160, 0), (14, 0, 0)],
)
def test_rows_a_page_apart_share_a_set(rows: int, row_bytes: int, missed: int) -> None:
    assert rows_missed(rows, row_bytes, V4) == missed


def test_rows_that_share_a_set_are_few() -> None:
    """Measured: 14 rows of 1024 channels run at 84 GFLOP/s where 7 run at 108."""
    shape = (14, 14), 256, 1024
    assert choose_tile(shape, V4, 4160).rows == 14
    assert choose_tile(shape, V4, 4096).rows <= 7


@pytest.mark.parametrize(
    ("shape", "once"),
    [
        (((7, 7), 512, 4608), False),  # a panel of two vectors alone stays in level 2
        (((56, 56), 64, 256), True),
        (((58,), 64, 512), False),
    ],
)
def test_panels_are_narrow_where_every_tile_fetches_them(
    shape: tuple[tuple[int, ...], int, int], once: bool
) -> None:
    """4 vectors by 2 rows, which need as few cycles of multiply-adds, ask for twice the weights."""
    tile = choose_tile(shape, V3, once=once)
    assert (tile.vectors, tile.panel_outer) == (2, not once)
    near = cycles(shape, Tile(2, 4, 8), replace(V3, l1_bytes=1 << 30), once=once)
    far = cycles(shape, Tile(2, 4, 8), V3, once=once)
    assert far > near


def test_weights_of_a_single_tile_are_read_once_wherever_they_are() -> None:
    shape = (4,), 512, 4608
    near = replace(V3, l1_bytes=1 << 30)
    assert cycles(shape, Tile(4, 2, 8), V3) == cycles(shape, Tile(4, 2, 8), near)


@pytest.mark.parametrize("rows", [7, 8])
def test_a_block_of_few_rows_passes_by_its_weights_once(rows: int) -> None:
    usual = choose_tile(((49,), 512, 512), V4)
    assert len(even_split(rows, most_rows(usual.vectors, V4))) > 1 or usual.rows < rows
    tile = choose_block_tile(rows, 512, usual, 512, V4)
    assert (tile.rows, tile.vectors) == (rows, 3)


@pytest.mark.parametrize("rows", [16, 28, 56])
def test_a_block_of_many_rows_keeps_the_usual_tile(rows: int) -> None:
    """And has the time to ask for the next product's weights meanwhile: into level 2 with few rows,
    whose own weights, on their way from there, the others would keep waiting."""
    usual = choose_tile(((196,), 256, 256), V4)
    asked = replace(usual, spread=2 if rows == 16 else 1)
    for units in (1, 2):
        target = replace(V4, vector_units=units)
        assert choose_block_tile(rows, 256, usual, 256, target) == asked


@pytest.mark.parametrize(
    ("channels", "vectors"), [(192, 3), (768, 3), (128, 2), (64, 2), (80, 1), (48, 3)]
)
def test_panels_that_threads_share(channels: int, vectors: int) -> None:
    """Equal ones, an even number if that can be."""
    tile = choose_even_tile(((64,), channels, 192), V4)
    assert tile.vectors == vectors
    assert tile.rows <= most_rows(vectors, V4)


def test_panels_of_several_widths_are_those_of_the_usual_tile() -> None:
    shape = (64,), 150, 192
    assert choose_even_tile(shape, V4) == choose_tile(shape, V4, most_vectors=3)


def test_panels_are_narrow_where_registers_are_few() -> None:
    assert choose_even_tile(((64,), 192, 192), V3).vectors == 2


@pytest.mark.parametrize(("depth", "ahead"), [(64, AHEAD), (16, AHEAD), (1, 0)])
def test_a_block_asks_for_its_weights_however_short_k_is(depth: int, ahead: int) -> None:
    """What follows the weights of one transformed element are those of the next."""
    usual = choose_tile(((8,), 32, depth), V4)
    assert choose_block_tile(8, depth, usual, 32, V4).prefetch == ahead


def test_panels_that_stream_are_asked_for_ahead() -> None:
    """Where there is a next panel, too many weights for level 2, and the time: few rows ask for it
    into level 2, fewer for their own."""
    target = replace(V4, vector_units=1)

    def asked(rows: int, n: int, k: int, *, once: bool = False) -> tuple[int, int]:
        tile = choose_streaming_tile(((rows,), n, k), target, once=once)
        return tile.spread, tile.prefetch

    assert asked(128, 768, 768) == (1, 0)
    assert asked(8, 768, 768) == (2, 0)
    assert asked(2, 768, 768) == (0, AHEAD)
    for rows in (2, 8, 128):
        assert asked(rows, 256, 256) == (0, 0), "they stay in level 2"
        assert asked(rows, 80, 8192) == (0, 0), "there is one whole panel"
        assert asked(rows, 768, 768, once=True) == (0, 0)


def test_few_rows_of_several_axes_keep_their_tile() -> None:
    """A tile is of the rows of one axis, and two panels of few rows fit level 2."""
    one, two = (choose_streaming_tile((m, 768, 768), V3) for m in ((4,), (4, 2)))
    assert (one.rows, one.prefetch) == (4, AHEAD)
    assert (two.rows, two.spread) == (choose_tile(((4, 2), 768, 768), V3).rows, 2)
    assert choose_tile(((8,), 1024, 1024), V4, 4096).vectors == 6
    assert choose_streaming_tile(((8,), 1024, 1024), V4, 4096).vectors <= 4


def test_where_memory_is_slow_weights_are_asked_for_in_streams() -> None:
    """Not by few rows, whose weights may be near: a step of an LSTM's has one."""
    for rows in (4, 49, 128):
        tile = choose_streaming_tile(((rows,), 1024, 1024), MESH)
        assert (tile.spread, tile.k_step, tile.prefetch) == (2, 4, 0)
        assert choose_streaming_tile(((rows,), 1024, 1024), V4).k_step == 1
    assert choose_streaming_tile(((1,), 1024, 1024), MESH).prefetch == AHEAD


def window(size: int, channels: int, taps: int, target: Target) -> Tile:
    return choose_window_tile(((size, size), channels, taps), target)


def test_a_small_window_on_a_small_image_keeps_its_filters() -> None:
    tile = window(14, 384, 9, V4)
    assert (tile.rows, tile.outer_rows, tile.panel_outer) == (2, 4, True)


def test_a_small_window_on_a_large_image_takes_all_channels_of_a_pixel_at_once() -> None:
    for target in (V4, V3, NEON):
        tile = window(112, 96, 9, target)
        assert (tile.rows, tile.outer_rows, tile.panel_outer) == (2, 4, False)


@pytest.mark.parametrize("taps", [25, 49])
def test_a_large_window_shares_its_loads_in_a_wide_tile(taps: int) -> None:
    tile = window(14, 672, taps, V4)
    assert (tile.rows, tile.outer_rows, tile.panel_outer) == (7, 2, False)


def test_a_large_pool_takes_small_tiles() -> None:
    """Measured: 3x3x3 of 16 x 56 x 56 in 440 us, where 2 by 7 positions take 1640."""
    tile = choose_window_tile(((8, 28, 28), 32, 27), V4, filters=False)
    assert (tile.rows, tile.outer_rows, tile.vectors, tile.panel_outer) == (2, 1, 2, False)
    assert choose_window_tile(((8, 28, 28), 32, 9), V4, filters=False).outer_rows == 4


def test_a_pool_streams_by_the_size_of_its_image() -> None:
    """ResNet-50's reads four times what it writes: together they exceed 2 MiB."""
    pool, image_bytes = ((56, 56), 64, 9), 4 * 64 * 114**2
    assert not choose_window_tile(pool, MESH, image_bytes, filters=False).panel_outer
    assert choose_window_tile(pool, MESH, filters=False).panel_outer


@pytest.mark.parametrize(
    ("shape", "left", "once"),
    [
        (((16384,), 150, 256), 2**24, True),
        (((256,), 150, 256), 2**18, False),
        (((4096,), 1024, 1024), 2**24, False),
    ],
)
def test_images_beyond_level_2_are_read_once_where_weights_fit(
    shape: Shape, left: int, once: bool
) -> None:
    """Measured: 16384 x 256 by 256 x 150 in 13.1 ms, panel by panel in 17.4."""
    assert passes_once(shape, left, V4) is once


@pytest.mark.parametrize(
    ("shape", "left", "once"),
    [
        (((56, 56), 256, 64), 4 * 3136 * 64, True),  # 1010 to 810 us
        (((28, 28), 512, 128), 4 * 784 * 128, True),  # 730 to 670
        (((14, 14), 1024, 256), 4 * 196 * 256, False),  # its weights are 1 MB
    ],
)
def test_results_that_stream_are_written_a_line_at_a_time_where_that_is_slow(
    shape: Shape, left: int, once: bool
) -> None:
    assert passes_once(shape, left, MESH) is once
    assert not passes_once(shape, left, V4)


@pytest.mark.parametrize(
    ("shape", "left", "once"),
    [
        (((784,), 512, 128), 4 * 784 * 128, True),  # 0.93, its rows asked for ahead
        (((28, 28), 512, 128), 4 * 784 * 128, False),  # windows: their rows are no stream
        (((300,), 384, 96), 4 * 300 * 96, True),  # 0.98
        (((128,), 384, 96), 4 * 128 * 96, False),  # stays in level 2
        (((784,), 768, 128), 4 * 784 * 128, False),  # weights that do not
    ],
)
def test_rows_that_follow_one_another_pass_weights_that_stay(
    shape: Shape, left: int, once: bool
) -> None:
    assert passes_once(shape, left, replace(V3, l2_bytes=512 << 10)) is once


# Cores that read slowly from beyond level 2 -----------------------------------------------------


def test_panels_of_few_columns_wait_less() -> None:
    """768 x 768 by 128 rows: 9 by 3 takes 870 us, 6 by 4 925."""
    tile = choose_streaming_tile(((128,), 768, 768), MESH)
    assert (tile.vectors, tile.spread) == (3, 2)
    assert choose_streaming_tile(((128,), 768, 768), V4).vectors == 4


def test_streams_have_panels_of_one_width() -> None:
    """512 is ten panels of 48 and one of 32, which nobody would have asked for."""
    tile = choose_streaming_tile(((49,), 512, 2048), MESH)
    assert 512 % (16 * tile.vectors) == 0


@pytest.mark.parametrize(
    ("shape", "outer", "left", "target", "k_block"),
    [
        (((128,), 768, 3072), 0, 4 * 128 * 3072, "MESH", 768),  # 4.4 to 3.7 ms
        (((128,), 3072, 768), 0, 4 * 128 * 768, "MESH", 0),  # one block
        (((128,), 768, 3072), 0, 4 * 128 * 3072, "V4", 0),  # its level 2 holds neither
        (((7, 7), 512, 4608), 3, 4 * 81 * 512, "V4", 1),  # taps and channels: a stream by blocks
        (((9,), 768, 3072), 0, 4 * 9 * 3072, "MESH", 0),  # every panel is read once
        (((20000,), 768, 3072), 0, 4 * 20000 * 3072, "MESH", 768),  # of a block of rows
        (((200, 100), 768, 3072), 0, 4 * 20000 * 3072, "MESH", 0),  # sums would not stay
    ],
)
def test_blocks_of_a_reduction(
    shape: Shape, outer: int, left: int, target: str, k_block: int
) -> None:
    core = {"MESH": MESH, "V4": V4}[target]
    assert with_blocks(Tile(9, 3, 16), shape, outer, left, core).k_block == k_block


@pytest.mark.parametrize(
    ("rows", "columns", "depth", "target", "block"),
    [
        (128, 3072, 768, "V4", 0),
        (4096, 3072, 768, "V4", 171),  # half of level 2, all blocks alike
        (4096, 3072, 4096, "V4", 153),  # fewer would have the weights come too often
        (197, 768, 3072, "MESH", 0),  # too few for two such blocks: 1.02
        (1500, 384, 1536, "MESH", 171),  # 0.95
    ],
)
def test_blocks_of_rows(rows: int, columns: int, depth: int, target: str, block: int) -> None:
    core = {"MESH": MESH, "V4": V4}[target]
    tile = with_blocks(Tile(9, 3, 16), ((rows,), columns, depth), 0, 4 * rows * depth, core)
    assert tile.row_block == block
