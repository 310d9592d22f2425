"""Computed right factors that are packed panel by panel before rows pass by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region, region_space
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.ir import Alloc
from graphopt.kernel.visit import walk
from graphopt.passbase import PassContext
from graphopt.target import Target
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler

CASES = {
    # batch, rows, depth, columns
    "rows 4 KiB apart": (1, 70, 48, 1024),
    "ragged": (3, 61, 65, 640),
    "near": (2, 61, 33, 523),  # its rows stay in the level 1 cache
    "heads": (4, 64, 64, 256),
    "one panel": (1, 100, 130, 16),
    "few rows": (12, 5, 7, 18),  # no tile is of two matrices
}
CONFLICTS = ("rows 4 KiB apart", "ragged", "heads")
"""Whose rows push each other out of a level 1 cache of 32 KiB."""


def product(batch: int, m: int, k: int, n: int, *, turned: bool = False) -> Graph:
    """Of two inputs, the right one row-major or `turned`."""
    across = Layout.ordered((0, 2, 1)) if turned else None
    types = TensorType(DType.F32, (batch, m, k)), TensorType(DType.F32, (batch, k, n), across)
    return graph_of(types, [], lambda rw, a, b: rw.emit("matmul", a, b))


def random(*dims: int) -> np.ndarray:
    return np.random.default_rng(sum(dims)).standard_normal(dims, np.float32)


def packs(graph: Graph, target: Target) -> bool:
    (node,) = (n for n in graph.nodes if n.body is not None)
    parts = walk(lower_region(node, target).kernel.body)
    return any(isinstance(s, Alloc) and s.buffer.name.startswith("right") for s in parts)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["host", "x86-64-v3", "scalar"])
def test_values(case: str, turned: bool, name: str, tmp_path: Path) -> None:
    target = replace(host(), l1_bytes=1 << 15) if name == "host" else TARGETS[name]
    batch, m, k, n = CASES[case]
    graph = product(batch, m, k, n, turned=turned)
    fused = check_regions(graph, [random(batch, m, k), random(batch, k, n)], target, tmp_path)
    if target.lanes_f32 > 1:
        assert packs(fused, target) is (turned or case in CONFLICTS)


def test_weights_that_are_computed(tmp_path: Path) -> None:
    """A linear layer's lie transposed."""
    types = [TensorType(DType.F32, (75, 40)), TensorType(DType.F32, (50, 40))]
    graph = graph_of(types, [], lambda rw, x, w: rw.emit("linear", x, w))
    fused = check_regions(graph, [random(75, 40), random(50, 40)], host(), tmp_path)
    assert packs(fused, host())


def test_one_matrix_of_several_batches(tmp_path: Path) -> None:
    """It is packed once for all of their rows."""
    types = [TensorType(DType.F32, (3, 30, 64)), TensorType(DType.F32, (1, 64, 512))]
    graph = graph_of(types, [], lambda rw, x, w: rw.emit("matmul", x, w))
    fused = check_regions(graph, [random(3, 30, 64), random(1, 64, 512)], host(), tmp_path)
    assert packs(fused, host())


def test_rows_that_a_cache_keeps_are_read_where_they_are() -> None:
    few, near = product(1, 20, 48, 1024), product(1, 200, 48, 100)
    for graph in (few, near):
        fused = Fuse().run(graph, PassContext(target=TARGETS["x86-64-v3"]))
        assert not packs(fused, TARGETS["x86-64-v3"])


def test_a_tuner_may_choose_either(tmp_path: Path) -> None:
    """With panels packed, the ends of what else it may choose."""
    graph = product(2, 21, 33, 75)
    (node,) = (n for n in Fuse().run(graph, PassContext(target=host())).nodes if n.body is not None)
    space = region_space(node, host())
    (packing,) = (p for p in space.parameters if p.name == "packs")
    assert packing.choices == (0, 1)
    inputs, tried = [random(2, 21, 33), random(2, 33, 75)], 0
    for p in space.parameters:
        for choice in {p.choices[0], p.choices[-1]}:
            point = Point({**space.default, "packs": 1, p.name: choice})
            if point in space:
                check_regions(graph, inputs, host(), tmp_path, point=point)
                tried += 1
    assert tried > len(space.parameters)
