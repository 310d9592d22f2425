"""Products by blocks of rows and of their reduction, on a core whose level 2 cache is so small that
small shapes have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region, region_space
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.schedule import loop_names
from graphopt.ops import OPS, ConvAttrs
from graphopt.ops.base import NoAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter, infer_types
from graphopt.target import Target
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler

LAST = Layout.ordered((0, 2, 3, 1))
CASES = {
    # rows, columns, depth; bytes of level 2
    "reduction": ((70, 116, 300), 1 << 17, {"kb"}),
    "reduction, ragged": ((61, 100, 299), 1 << 17, {"kb"}),
    "rows": ((601, 144, 64), 1 << 17, {"rb"}),
    "both": ((401, 64, 250), 1 << 17, {"rb", "kb"}),
    "once": ((301, 72, 70), 1 << 17, set()),  # all weights stay
}


def random(*dims: int) -> np.ndarray:
    return np.random.default_rng(sum(dims)).standard_normal(dims, np.float32)


@pytest.fixture(params=["host", "x86-64-v3", "x86-64-v4"])
def core(request: pytest.FixtureRequest) -> Target:
    row = host() if request.param == "host" else TARGETS[request.param]
    return replace(row, far_gbytes=17.0)


def loops(graph: Graph, target: Target) -> set[str]:
    (node,) = (n for n in graph.nodes if n.body is not None)
    names = loop_names(lower_region(node, target).kernel)
    return {part for name in names for part in name.split("_")}


@pytest.mark.parametrize("name", CASES)
def test_linear(name: str, core: Target, tmp_path: Path) -> None:
    (m, n, k), l2_bytes, wanted = CASES[name]
    target = replace(core, l2_bytes=l2_bytes)
    if core.name == "x86-64-v4" and not target.features <= host().features:
        pytest.skip("this machine has no AVX-512")
    graph = graph_of(
        [TensorType(DType.F32, (m, k)), TensorType(DType.F32, (m, n))], [random(n, k), random(n)],
        lambda rw, x, r, w, b: rw.emit("relu", rw.emit("add", rw.emit("linear", x, w, b), r)),
    )  # fmt: skip
    fused = check_regions(graph, [random(m, k), random(m, n)], target, tmp_path, parts=3)
    if core.lanes_f32 == 16:
        assert loops(fused, target) & {"rb", "kb"} == wanted


def test_many_rows_pass_by_blocks_on_any_core(core: Target, tmp_path: Path) -> None:
    if core.name == "x86-64-v4" and not core.features <= host().features:
        pytest.skip("this machine has no AVX-512")
    target = replace(core, l2_bytes=1 << 15, far_gbytes=30.0)
    graph = graph_of(
        [TensorType(DType.F32, (601, 64))], [random(144, 64)],
        lambda rw, x, w: rw.emit("linear", x, w),
    )  # fmt: skip
    fused = check_regions(graph, [random(601, 64)], target, tmp_path, parts=1)
    assert "rb" in loops(fused, target)
    few = graph_of(
        [TensorType(DType.F32, (60, 64))], [random(144, 64)],
        lambda rw, x, w: rw.emit("linear", x, w),
    )  # fmt: skip
    assert "rb" not in loops(Fuse().run(few, PassContext(target=target)), target)


def asks_for_rows(graph: Graph, target: Target) -> bool:
    (node,) = (n for n in graph.nodes if n.body is not None)
    return any(name == "prefetch the next rows" for name, _ in lower_region(node, target).steps)


@pytest.mark.parametrize("far", [17.0, 30.0])
@pytest.mark.parametrize(
    ("m", "n", "k", "asks"),
    [(301, 48, 70, True), (90, 16, 200, True), (7, 400, 33, False), (300, 600, 70, False)],
)
def test_rows_are_asked_for_while_all_weights_stay(
    m: int, n: int, k: int, asks: bool, far: float, core: Target, tmp_path: Path
) -> None:
    if core.name == "x86-64-v4" and not core.features <= host().features:
        pytest.skip("this machine has no AVX-512")
    target = replace(core, l2_bytes=1 << 16, far_gbytes=far)
    graph = graph_of(
        [TensorType(DType.F32, (m, k)), TensorType(DType.F32, (m, n))], [random(n, k)],
        lambda rw, x, r, w: rw.emit("add", rw.emit("linear", x, w), r),
    )  # fmt: skip
    fused = check_regions(graph, [random(m, k), random(m, n)], target, tmp_path, parts=3)
    assert asks_for_rows(fused, target) is asks


def test_rows_that_lie_across_are_no_stream() -> None:
    target = replace(TARGETS["x86-64-v3"], l2_bytes=1 << 16)
    for layout, asks in ((None, True), (Layout.ordered((1, 0)), False)):
        graph = graph_of(
            [TensorType(DType.F32, (301, 70), layout)], [random(72, 70)],
            lambda rw, x, w: rw.emit("linear", x, w),
        )  # fmt: skip
        fused = Fuse().run(graph, PassContext(target=target))
        assert asks_for_rows(fused, target) is asks


IMAGE = TensorType(DType.F32, (2, 40, 15, 17), LAST)


def window() -> Graph:
    attrs = ConvAttrs((2, 2), ((0, 0), (0, 0)), (1, 1), 1)

    def body(rw: Rewriter, x: Value, w: Value, b: Value) -> Value:
        (type,) = infer_types(OPS["conv"], [x, w, b], attrs)
        y = rw.insert("conv", [x, w, b], attrs, types=[type.with_layout(LAST)]).result
        return rw.insert("relu", [y], NoAttrs(), types=[type.with_layout(LAST)]).result

    return graph_of([IMAGE], [random(96, 40, 3, 3), random(96)], body)


def test_a_window_is_a_stream_by_its_rows(core: Target, tmp_path: Path) -> None:
    """Its taps and channels are two loops, of which the inner one reads one stream."""
    if core.name == "x86-64-v4" and not core.features <= host().features:
        pytest.skip("this machine has no AVX-512")
    target = replace(core, l2_bytes=1 << 17)
    fused = check_regions(window(), [random(*IMAGE.dims)], target, tmp_path, parts=2)
    assert "kb" in loops(fused, target)


@pytest.mark.parametrize("name", [*CASES, "window"])
def test_all_that_a_tuner_may_choose_can_be_lowered(name: str) -> None:
    """One parameter at a time beside the default."""
    (m, n, k), l2_bytes, _ = CASES.get(name, ((0, 0, 0), 1 << 17, set()))
    target = replace(TARGETS["x86-64-v4"], far_gbytes=17.0, l2_bytes=l2_bytes)
    linear = graph_of(
        [TensorType(DType.F32, (m, k))], [random(n, k)], lambda rw, x, w: rw.emit("linear", x, w)
    )
    graph = window() if name == "window" else linear
    (node,) = (n for n in Fuse().run(graph, PassContext(target=target)).nodes if n.body is not None)
    space = region_space(node, target)
    points = [
        Point({**space.default, p.name: choice}) for p in space.parameters for choice in p.choices
    ]
    allowed = [point for point in points if point in space]
    assert len(allowed) > len(space.parameters)
    for point in allowed:
        lower_region(node, target, point)
