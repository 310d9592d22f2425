"""Sums of few channels, whose vectors run along the reduction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region, region_space
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import OPS, ConvAttrs
from graphopt.ops.base import NoAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter, infer_types
from graphopt.target import Target
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler
LAST = Layout.ordered((0, 2, 3, 1))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


@pytest.fixture(params=["host", "x86-64-v3", "scalar"])
def target(request: pytest.FixtureRequest) -> Target:
    return host() if request.param == "host" else TARGETS[request.param]


def linear(m: int, n: int, k: int) -> Graph:
    return graph_of(
        [TensorType(DType.F32, (m, k))], [random(n, k), random(n)],
        lambda rw, x, w, b: rw.emit("sigmoid", rw.emit("linear", x, w, b)),
    )  # fmt: skip


def fused(graph: Graph) -> Graph:
    return Fuse().run(graph, PassContext(target=host()))


def kernel_of(graph: Graph) -> Node:
    (node,) = (k for k in graph.nodes if k.body is not None)
    return node


def along(node: Node, target: Target) -> bool:
    """Whether the default sums along the reduction."""
    kernel = lower_region(node, target).kernel
    return "reduce_add" in str(kernel)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("m", "k"), [(1, 64), (11, 48), (40, 8), (3, 20)])
def test_linear(m: int, n: int, k: int, target: Target, tmp_path: Path) -> None:
    fused = check_regions(linear(m, n, k), [random(m, k)], target, tmp_path)
    if target.lanes_f32 >= 8 and k >= 48 and n <= 3:
        assert along(kernel_of(fused), target)


@pytest.mark.parametrize(("c", "n", "size"), [(16, 3, 3), (24, 1, 3), (64, 3, 1), (8, 2, 5)])
def test_convolution(c: int, n: int, size: int, target: Target, tmp_path: Path) -> None:
    """A window's rows are one run of channels; an epilogue reads every sum's lanes added up."""

    def body(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
        attrs = ConvAttrs((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
        (type,) = infer_types(OPS["conv"], [x, w, b], attrs)
        y = rw.insert("conv", [x, w, b], attrs, types=[type.with_layout(LAST)]).result
        return rw.insert("add", [y, r], NoAttrs(), types=[type.with_layout(LAST)]).result

    image = TensorType(DType.F32, (2, c, 9, 7), LAST)
    out = TensorType(DType.F32, (2, n, 10 - size, 8 - size), LAST)
    graph = graph_of([image, out], [random(n, c, size, size), random(n)], body)
    fused = check_regions(graph, [random(*image.dims), random(*out.dims)], target, tmp_path)
    if target.lanes_f32 >= 8:
        assert along(kernel_of(fused), target)


def test_every_number_of_rows_computes_the_same(tmp_path: Path) -> None:
    graph = linear(11, 3, 64)
    fused = check_regions(graph, [random(11, 64)], host(), tmp_path)
    space = region_space(kernel_of(fused), host())
    points = [p for p in space.points if p["narrow"] == 1]
    assert len(points) > 1
    for point in points:
        check_regions(graph, [random(11, 64)], host(), tmp_path, point=point)


def test_what_is_not_summed_so() -> None:
    """Many channels fill vectors themselves; runs of no vector stay with the usual tiles."""
    row = TARGETS["x86-64-v4"]
    for n, k in ((16, 64), (3, 7), (3, 18)):
        node = kernel_of(fused(linear(5, n, k)))
        assert not along(node, row)
        assert "narrow" not in region_space(node, row).names


def test_the_usual_tile_can_be_asked_for() -> None:
    row = TARGETS["x86-64-v4"]
    node = kernel_of(fused(linear(5, 3, 64)))
    space = region_space(node, row)
    assert space.default["narrow"] == 1
    usual = next(p for p in space.points if p["narrow"] == 0)
    assert "reduce_add" not in str(lower_region(node, row, Point(dict(usual))).kernel)
