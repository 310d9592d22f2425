"""Strassen-like products against the direct sum: groups that lack rows, parts that no vector
divides, blocks that reach past the last row, and what an epilogue can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region, strassen
from graphopt_backends.cpu.lower.domain import Sizes, choose_domain_tile, odd_lines, shared_time
from graphopt_backends.cpu.lower.strassen import block_choices, choose_block
from graphopt_backends.cpu.lower.tiles import TOGETHER, Panel, Tile
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.check import random_constant
from graphopt.ir.graph import Value
from graphopt.ir.text import parse
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.ir import For
from graphopt.kernel.visit import walk
from graphopt.ops import ConvAttrs, GeluAttrs, LinearAttrs, PadAttrs
from graphopt.ops.strassen import ERROR, SCHEMES, Scheme, multiplied, summed_weights
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target

NHWC = Layout.ordered((0, 2, 3, 1))
V3, V4 = TARGETS["x86-64-v3"], TARGETS["x86-64-v4"]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def check_linear(
    scheme: int, dims: tuple[int, ...], channels: int, target: str, folder: Path
) -> None:
    x, out = TensorType(DType.F32, dims), TensorType(DType.F32, (*dims[:-1], channels))

    def body(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
        y = rw.insert("linear", [x, w, b], LinearAttrs(scheme), types=[out]).result
        y = rw.insert("gelu", [y], GeluAttrs(approximate=False), types=[out]).result
        return rw.insert("add", [y, r], types=[out]).result

    graph = graph_of([x, out], [random(channels, dims[-1]) / 10, random(channels)], body)
    row = host() if target == "host" else TARGETS[target]
    check_regions(graph, [random(*dims), random(*out.dims)], row, folder, tolerance=ERROR[scheme])


def check_conv(
    scheme: int, dims: tuple[int, ...], channels: int, stride: int, target: str, folder: Path
) -> None:
    n, c, height, width = dims
    attrs = ConvAttrs((stride, stride), ((0, 0), (0, 0)), (1, 1), strassen=scheme)
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
    check_regions(graph, [random(*dims)], row, folder, tolerance=ERROR[scheme])


LINEARS = {
    7: [
        ((2, 2), 2),
        ((1, 8), 64),
        ((3, 6), 34),
        ((2, 13, 34), 80),
        ((1, 129, 64), 256),
        ((3, 6), 33),
        ((2, 13, 34), 95),
        ((1, 129, 64), 257),
    ],
    15: [
        ((2, 3), 3),
        ((1, 9), 96),
        ((3, 6), 33),
        ((2, 13, 51), 84),
        ((1, 129, 48), 192),
        ((3, 6), 49),
        ((2, 13, 51), 143),
        ((1, 129, 48), 193),
    ],
    26: [
        ((2, 4), 4),
        ((1, 8), 64),
        ((3, 12), 36),
        ((2, 13, 68), 80),
        ((1, 129, 64), 256),
        ((3, 12), 65),
        ((2, 13, 68), 127),
        ((1, 129, 64), 257),
    ],
}
CONVS = {
    7: [((1, 16, 3, 3), 32, 1), ((2, 10, 5, 7), 50, 2), ((3, 64, 9, 9), 131, 1)],
    15: [((1, 18, 3, 3), 48, 1), ((2, 21, 5, 7), 52, 2)],
    26: [((1, 16, 3, 3), 32, 1), ((2, 20, 5, 7), 67, 2), ((3, 64, 9, 9), 132, 1)],
}


def test_every_scheme_is_tested_and_has_a_bound() -> None:
    assert set(LINEARS) == set(CONVS) == set(ERROR) == set(SCHEMES)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("scheme", "dims", "channels"), [(s, *case) for s, cases in LINEARS.items() for case in cases]
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_linear_agrees_with_the_direct_sum(
    scheme: int, dims: tuple[int, ...], channels: int, target: str, tmp_path: Path
) -> None:
    check_linear(scheme, dims, channels, target, tmp_path)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("scheme", "dims", "channels", "stride"),
    [(s, *case) for s, cases in CONVS.items() for case in cases],
)
@pytest.mark.parametrize("target", ["host", "x86-64-v3", "scalar"])
def test_convolution_agrees_with_the_direct_sum(
    scheme: int, dims: tuple[int, ...], channels: int, stride: int, target: str, tmp_path: Path
) -> None:
    check_conv(scheme, dims, channels, stride, target, tmp_path)


@pytest.mark.compiler
@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
def test_panels_that_pass_over_rows_together(
    together: int, spread: bool, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More columns than a panel has, and a number of them that only 1 and 2 divide."""

    def tile(rows: int, sizes: Sizes, usual: Tile, target: Target) -> Tile:
        return replace(usual, rows=3, vectors=1, together=together, spread=spread, prefetch=0)

    monkeypatch.setattr(strassen, "choose_domain_tile", tile)
    check_linear(26, (1, 29, 64), 512, target, tmp_path)
    check_linear(7, (1, 29, 64), 96, target, tmp_path)


def test_rows_that_spill_are_passed_by_for_several_panels_at_once() -> None:
    """Unless they stay in level 2, or too few panels are left for threads."""
    tile, large = Tile(6, 2, 8), Sizes(26, 192, 768)
    assert choose_domain_tile(64, large, tile, V3).together == 2
    assert choose_domain_tile(8, large, tile, V3).together == 1
    assert choose_domain_tile(64, Sizes(26, 256, 16), tile, V3).together == 1
    assert choose_domain_tile(64, Sizes(26, 192, 760), tile, V3).together == 1
    assert choose_domain_tile(64, large, Tile(9, 3, 16), V4).together == 1


def test_a_pass_over_rows_is_a_loop_over_its_panels() -> None:
    graph = parse(
        "%x = input : f32[128,768]\n"
        '%w = constant {key="w"} : f32[3072,768]\n'
        "%y = linear %x, %w {strassen=26}\nreturn %y",
        fill=random_constant,
    )
    fused = Fuse().run(graph, PassContext(target=V3)).nodes[-1]
    kernel = lower_region(fused, V3).kernel
    assert {p.extent for p in walk(kernel.body) if isinstance(p, For) and p.var == "js"} == {2}


every_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=map(str, SCHEMES))


@every_scheme
def test_the_algorithm_is_exact(scheme: Scheme) -> None:
    """The coefficients satisfy Brent's equations: every product of a left and a right block is in
    the blocks of the result where it belongs, once, and nowhere else."""
    left, right, result = (np.array(m) for m in (scheme.left, scheme.right, scheme.result))
    found = np.einsum("pa,pb,cp->abc", left, right, result)
    m, k, n = scheme.rows, scheme.depth, scheme.columns
    wanted = np.einsum("iI,jJ,lL->ijJlIL", np.eye(m), np.eye(k), np.eye(n))
    np.testing.assert_array_equal(found, wanted.reshape(m * k, k * n, m * n))


@every_scheme
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("columns", [24, 97])
def test_the_reference_multiplies(scheme: Scheme, rows: int, columns: int) -> None:
    x, w = random(2, rows, 12).astype(np.float64), random(12, columns).astype(np.float64)
    np.testing.assert_allclose(multiplied(x, w, scheme), x @ w, rtol=0, atol=1e-13)


@every_scheme
@pytest.mark.parametrize("depth", [192, 3072])
@pytest.mark.parametrize("floor", [-np.inf, 0.0])
def test_rounding_stays_within_the_declared_bound(scheme: Scheme, depth: int, floor: float) -> None:
    """In float32, a tenth of what the pass declares, for rectified data, too."""
    x, w = np.maximum(random(64, depth), floor), random(depth, 48)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    error = np.abs(multiplied(x, w, scheme) - exact).max() / np.abs(exact).max()
    assert error <= ERROR[scheme.products] / 10


def test_weights_are_summed_by_blocks() -> None:
    w = random(4, 6)
    u = summed_weights(w, SCHEMES[7])
    assert u.shape == (7, 2, 3)
    np.testing.assert_allclose(u[0], w[:2, :3] + w[2:, 3:], atol=1e-6)
    np.testing.assert_array_equal(u[1], w[:2, :3])


@pytest.mark.parametrize("groups", [1, 25, 64, 97, 1568])
def test_blocks_waste_few_rows(groups: int) -> None:
    for rows in block_choices(groups):
        blocks = -(-groups // rows)
        assert blocks * rows - groups < blocks
    assert choose_block(groups, Sizes(7, 384, 384), panels(384), V4) in block_choices(groups)


def panels(channels: int) -> list[Panel]:
    return [Panel(0, 32, channels // 32, 16)]


def test_weights_that_stream_pass_by_few_blocks() -> None:
    """Summed rows that leave the level 2 cache cost less than reading large weights again."""
    assert choose_block(64, Sizes(7, 1536, 384), panels(384), V4) == 64


def test_transformed_elements_are_in_different_cache_sets() -> None:
    """Those of the same row and column, in a cache of 64 sets."""
    for size in (1, 16, 1024, 6656):
        assert size <= odd_lines(size) <= size + 32
        assert len({e * odd_lines(size) // 16 % 64 for e in range(36)}) == 36


@pytest.mark.parametrize(
    ("groups", "inputs", "channels"),
    [(64, 192, 192), (64, 768, 192), (64, 192, 768), (99, 192, 192), (25, 192, 768)],
)
def test_two_threads_have_as_much_to_do(groups: int, inputs: int, channels: int) -> None:
    """Whatever one thread would like best: a product in one task takes two threads as long."""
    shared = panels(channels)
    rows = choose_block(groups, Sizes(26, inputs, channels), shared, V4)
    blocks = -(-groups // rows)
    tasks = blocks * shared[0].count
    assert tasks > 1
    assert -(-tasks // 2) * 2 <= 1.15 * tasks
    assert shared_time(blocks, shared[0].count, 0.0, 1.0) <= 1.15, "nor four threads"


def test_what_threads_share_is_as_the_runtime_shares_it() -> None:
    """Times 1, 2 and 4 threads; 100 for the products, 1 for the sums of a block."""
    times = {
        (1, 1): 101 + 2 * 101 + 4 * 101,  # nothing to share
        (2, 1): 102 + 2 * 51 + 4 * 51,
        (1, 4): 101 + 2 * (50 + 1) + 4 * (25 + 1),  # everyone who takes part sums
        (2, 4): 102 + 2 * (50 + 1) + 4 * (25 + 1),
        (16, 4): 116 + 2 * (50 + 8) + 4 * (25 + 4),  # whole blocks
        (3, 1): 103 + 2 * (200 / 3 + 2) + 4 * (100 / 3 + 1),
    }
    for (blocks, count), time in times.items():
        assert shared_time(blocks, count, 1.0, 100.0) == pytest.approx(time / 3), (blocks, count)
