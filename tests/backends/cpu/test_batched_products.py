"""Products of batches whose results are written side by side, as heads are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.lower.products import product_of, product_root
from graphopt.lower.region import Region
from graphopt.ops import OPS
from graphopt.ops.base import NoAttrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter, infer_types
from graphopt.target import Target

pytestmark = pytest.mark.compiler
HEADS, ROWS, DEPTH, COLUMNS = 5, 14, 9, 37


def heads(of_one: bool = False) -> Graph:
    """[2, h, m, k] times [2, h, k, n], or one matrix for all, whose result lies as [2, m, h, n]."""

    def body(rw: Rewriter, a: Value, b: Value) -> Value:
        (type,) = infer_types(OPS["matmul"], [a, b], NoAttrs())
        laid = type.with_layout(Layout.ordered((0, 2, 1, 3)))
        return rw.insert("matmul", [a, b], NoAttrs(), types=[laid]).result

    right = (1, 1, DEPTH, COLUMNS) if of_one else (2, HEADS, DEPTH, COLUMNS)
    shapes = ((2, HEADS, ROWS, DEPTH), right)
    return graph_of([TensorType(DType.F32, s) for s in shapes], [], body)


@pytest.mark.parametrize("of_one", [False, True])
@pytest.mark.parametrize("name", ["host", "x86-64-v3", "scalar"])
def test_values(of_one: bool, name: str, tmp_path: Path) -> None:
    target = host() if name == "host" else TARGETS[name]
    graph = heads(of_one)
    arrays = [
        np.random.default_rng(i).standard_normal(x.type.dims, np.float32)
        for i, x in enumerate(graph.inputs)
    ]
    check_regions(graph, arrays, target, tmp_path)


def positions(graph: Graph, target: Target) -> list[str]:
    fused = Fuse().run(graph, PassContext(target=target))
    (node,) = (n for n in fused.nodes if n.body is not None)
    region = Region(node, target)
    return [name for name, _ in product_of(region, product_root(region)).positions]


def test_a_tile_is_of_one_matrix() -> None:
    """Rows of several heads would load as many right factors as they multiply."""
    assert positions(heads(), host()) == ["m0", "m1", "m2"]
    assert positions(heads(of_one=True), host()) == ["m0", "m2", "m1"]  # as they are written
