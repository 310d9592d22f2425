"""Strassen's products against the direct sum: rows without a partner, halves that no vector
divides, blocks that reach past the last row, and what an epilogue can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower.domain import Sizes
from graphopt_backends.cpu.lower.strassen import choose_groups, choose_pairs, pair_choices
from graphopt_backends.cpu.lower.tiles import Panel
from graphopt_backends.cpu.targets import TARGETS, host
from regions import check_regions, graph_of

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import ConvAttrs, GeluAttrs, LinearAttrs, PadAttrs
from graphopt.ops.strassen import ERROR, halved_weights, multiplied
from graphopt.rewrite import Rewriter

NHWC = Layout.ordered((0, 2, 3, 1))
V4 = TARGETS["x86-64-v4"]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def check_linear(dims: tuple[int, ...], channels: int, target: str, folder: Path) -> None:
    x, out = TensorType(DType.F32, dims), TensorType(DType.F32, (*dims[:-1], channels))

    def body(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
        y = rw.insert("linear", [x, w, b], LinearAttrs(strassen=True), types=[out]).result
        y = rw.insert("gelu", [y], GeluAttrs(approximate=False), types=[out]).result
        return rw.insert("add", [y, r], types=[out]).result

    graph = graph_of([x, out], [random(channels, dims[-1]) / 10, random(channels)], body)
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, [random(*dims), random(*out.dims)], row, folder, tolerance=ERROR)


def check_conv(
    dims: tuple[int, ...], channels: int, stride: int, target: str, folder: Path
) -> None:
    n, c, height, width = dims
    attrs = ConvAttrs((stride, stride), ((0, 0), (0, 0)), (1, 1), strassen=True)
    size = ((height - 1) // stride + 1, (width - 1) // stride + 1)
    out = TensorType(DType.F32, (n, channels, *size), NHWC)
    padded = TensorType(DType.F32, (n, channels, size[0] + 2, size[1] + 1), NHWC)

    def body(rw: Rewriter, x: Value, w: Value) -> Value:
        y = rw.insert("conv", [x, w], attrs, types=[out]).result
        y = rw.insert("relu", [y], types=[out]).result
        border = PadAttrs((0, 0, 1, 0), (0, 0, 1, 1), 0.0, "constant")
        return rw.insert("pad", [y], border, types=[padded]).result

    graph = graph_of([TensorType(DType.F32, dims, NHWC)], [random(channels, c, 1, 1) / 10], body)
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, [random(*dims)], row, folder, tolerance=ERROR)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("dims", "channels"),
    [((2, 2), 2), ((1, 8), 64), ((3, 6), 34), ((2, 13, 34), 80), ((1, 129, 64), 256)],
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_linear_agrees_with_the_direct_sum(
    dims: tuple[int, ...], channels: int, target: str, tmp_path: Path
) -> None:
    check_linear(dims, channels, target, tmp_path)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("dims", "channels", "stride"),
    [((1, 16, 3, 3), 32, 1), ((2, 10, 5, 7), 50, 2), ((3, 64, 9, 9), 130, 1)],
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_convolution_agrees_with_the_direct_sum(
    dims: tuple[int, ...], channels: int, stride: int, target: str, tmp_path: Path
) -> None:
    check_conv(dims, channels, stride, target, tmp_path)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_algorithm_is_exact(rows: int) -> None:
    """In float64 nothing but rounding is left: the matrices are right."""
    x, w = random(2, rows, 12).astype(np.float64), random(12, 10).astype(np.float64)
    np.testing.assert_allclose(multiplied(x, w), x @ w, rtol=0, atol=1e-13)


@pytest.mark.parametrize("depth", [128, 3072])
@pytest.mark.parametrize("floor", [-np.inf, 0.0])
def test_rounding_stays_within_the_declared_bound(depth: int, floor: float) -> None:
    """In float32, a tenth of what the pass declares, for rectified data, too."""
    x, w = np.maximum(random(64, depth), floor), random(depth, 64)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    assert np.abs(multiplied(x, w) - exact).max() <= ERROR / 10 * np.abs(exact).max()


def test_weights_are_summed_by_halves() -> None:
    w = random(4, 6)
    u = halved_weights(w)
    assert u.shape == (7, 2, 3)
    np.testing.assert_array_equal(u[1], w[:2, :3])
    np.testing.assert_allclose(u[2], w[:2, 3:] - w[2:, 3:], atol=1e-6)


@pytest.mark.parametrize("pairs", [1, 25, 64, 97, 1568])
def test_blocks_waste_few_rows(pairs: int) -> None:
    for rows in pair_choices(pairs):
        blocks = -(-pairs // rows)
        assert blocks * rows - pairs < blocks
    assert choose_pairs(pairs, Sizes(7, 384, 384), 32, V4) in pair_choices(pairs)


def test_weights_that_stream_pass_by_few_blocks() -> None:
    """Summed rows that leave the level 2 cache cost less than reading large weights again."""
    assert choose_pairs(64, Sizes(7, 1536, 384), 32, V4) == 64


def test_threads_find_tasks_that_pay_for_their_sums() -> None:
    whole = [Panel(0, 32, 48, 16)]
    assert choose_groups(1, whole) == 8
    assert choose_groups(16, whole) == 1
    assert choose_groups(1, [Panel(0, 32, 12, 16)]) == 3
    assert choose_groups(1, [Panel(0, 32, 1, 16)]) == 1
    assert choose_groups(1, [Panel(0, 32, 12, 16), Panel(384, 16, 1, 16)]) == 1
