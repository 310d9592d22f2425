"""Winograd convolutions against the direct sum: tiles that reach past the image, channels that no
vector divides, several images, and what an epilogue can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower.domain import Sizes
from graphopt_backends.cpu.lower.winograd import choose_tile_rows
from graphopt_backends.cpu.targets import TARGETS, host
from regions import check_regions, graph_of

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import ConvAttrs, PadAttrs
from graphopt.ops.winograd import ERROR, TRANSFORMS, convolved, transformed_weights
from graphopt.rewrite import Rewriter

NHWC = Layout.ordered((0, 2, 3, 1))
NONE = ((0, 0), (0, 0))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def image(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape, NHWC)


def check(m: int, x: tuple[int, ...], channels: int, target: str, folder: Path) -> None:
    n, c, height, width = x
    attrs = ConvAttrs((1, 1), NONE, (1, 1), 1, m)
    out = image(n, channels, height - 2, width - 2)
    padded = image(n, channels, height - 1, width)

    def body(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
        y = rw.insert("conv", [x, w, b], attrs, types=[out]).result
        z = rw.insert("add", [y, r], types=[out]).result
        z = rw.insert("relu", [z], types=[out]).result
        before, after = (0, 0, 1, 1), (0, 0, 0, 1)
        return rw.insert("pad", [z], PadAttrs(before, after, 0.0, "constant"),
                         types=[padded]).result  # fmt: skip

    graph = graph_of([image(*x), out], [random(channels, c, 3, 3) / 10, random(channels)], body)
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, [random(*x), random(*out.dims)], row, folder, tolerance=ERROR[m])


@pytest.mark.compiler
@pytest.mark.parametrize("m", sorted(TRANSFORMS))
@pytest.mark.parametrize(
    ("x", "channels"),
    [
        ((1, 16, 3, 3), 16),
        ((1, 5, 8, 7), 3),
        ((2, 33, 6, 11), 50),
        ((1, 16, 18, 18), 80),
        ((3, 8, 5, 30), 17),
    ],
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_agrees_with_the_direct_sum(
    m: int, x: tuple[int, ...], channels: int, target: str, tmp_path: Path
) -> None:
    check(m, x, channels, target, tmp_path)


@pytest.mark.parametrize("m", sorted(TRANSFORMS))
def test_transforms_are_exact(m: int) -> None:
    """In float64 nothing but rounding is left: the matrices are right."""
    x, w = random(2, 3, 11, 8).astype(np.float64), random(4, 3, 3, 3).astype(np.float64)
    view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    direct = np.einsum("nchwpq,ocpq->nohw", view, w)
    np.testing.assert_allclose(
        convolved(x, w, m), direct, rtol=0, atol=1e-12 * np.abs(direct).max()
    )


@pytest.mark.parametrize("m", sorted(TRANSFORMS))
@pytest.mark.parametrize("channels", [64, 512])
def test_rounding_stays_within_the_declared_bound(m: int, channels: int) -> None:
    """In float32, a twentieth of what the pass declares."""
    x, w = random(1, channels, 16, 16), random(32, channels, 3, 3) / 20
    exact = convolved(x.astype(np.float64), w.astype(np.float64), m)
    error = np.abs(convolved(x, w, m) - exact).max() / np.abs(exact).max()
    assert error <= ERROR[m] / 10


def test_weights_keep_their_order() -> None:
    w = random(4, 3, 3, 3)
    u = transformed_weights(w, 2)
    assert u.shape == (16, 3, 4)
    np.testing.assert_allclose(u[-1], w[:, :, 2, 2].T)  # G's last row picks the last tap


def test_blocks_divide_the_image_and_leave_work_for_threads() -> None:
    for tile_rows in (4, 7, 14, 28):
        rows = choose_tile_rows(tile_rows, tile_rows, Sizes(36, 64, 64), 64, TARGETS["x86-64-v4"])
        assert tile_rows % rows == 0
        assert rows < tile_rows
