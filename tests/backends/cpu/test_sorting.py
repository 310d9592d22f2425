"""Selection and sorting on the CPU: ties keep their order, nan is the largest number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from regions import check_regions, graph_of

from graphopt.ir.types import DType, TensorType
from graphopt.kernel.ir import For
from graphopt.kernel.visit import walk
from graphopt.ops import TopkAttrs
from graphopt.target import Target

pytestmark = pytest.mark.compiler
EXTENTS = (1, 2, 63, 64, 65, 128, 129, 200, 512, 1000)
"""A run, more and less; pairs of runs, and runs without another."""


@pytest.fixture(params=["host", "scalar"])
def target(request: pytest.FixtureRequest) -> Target:
    return host() if request.param == "host" else TARGETS[request.param]


def loops(
    x: np.ndarray, k: int, axis: int, largest: bool, folder: Path, target: Target
) -> set[str]:
    """Checks the kernel; returns the names of its loops."""
    type = TensorType(DType.of(x.dtype), x.shape)
    graph = graph_of(
        [type], [], lambda rw, x: list(rw.insert("topk", [x], TopkAttrs(k, axis, largest)).results)
    )
    fused = check_regions(graph, [x], target, folder, tolerance=0.0)
    (node,) = (n for n in fused.nodes if n.body is not None)
    kernel = lower_region(node, target).kernel
    return {s.var for s in walk(kernel.body) if isinstance(s, For)}


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("extent", EXTENTS)
def test_sorts_all(extent: int, largest: bool, target: Target, tmp_path: Path) -> None:
    """Of few different numbers, so that most of them have equals."""
    x = np.random.default_rng(extent).integers(-9, 9, (3, extent))
    for dtype in (np.int64, np.int32, np.int8, np.float32):
        loops(x.astype(dtype), extent, 1, largest, tmp_path, target)


@pytest.mark.parametrize("k", [5, 8, 40, 63, 64, 65, 100])
@pytest.mark.parametrize("extent", [65, 127, 129, 200, 449, 1000])
def test_keeps_no_more_than_are_wanted(extent: int, k: int, tmp_path: Path) -> None:
    """Runs shorter than wanted, a last one that is shorter still."""
    if k <= extent:
        x = np.random.default_rng(k).integers(0, 50, (2, extent)).astype(np.float32)
        loops(x, k, 1, True, tmp_path, host())


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [1, 2, 5, 30, 190])
def test_nan_is_the_largest_number(k: int, largest: bool, target: Target, tmp_path: Path) -> None:
    x = np.random.default_rng(k).standard_normal((4, 200)).astype(np.float32)
    x[1, ::7] = np.nan
    x[2] = np.nan
    x[3, 5:9] = np.inf
    x[3, 9:30] = -np.inf
    loops(x, k, 1, largest, tmp_path, target)


def test_none_are_wanted(tmp_path: Path) -> None:
    loops(np.zeros((2, 5), np.float32), 0, 1, True, tmp_path, host())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_along_any_axis(axis: int, tmp_path: Path) -> None:
    x = np.random.default_rng(axis).integers(0, 5, (70, 66, 2))
    loops(x, x.shape[axis], axis, True, tmp_path, host())


def test_sorted_already_and_the_other_way_round(tmp_path: Path) -> None:
    x = np.stack([np.arange(300), np.arange(300)[::-1]])
    for largest in (True, False):
        loops(x, 300, 1, largest, tmp_path, host())


def test_least_and_largest_integers(tmp_path: Path) -> None:
    info = np.iinfo(np.int64)
    x = np.array([[info.min, 0, info.max, info.min, -1, info.max] * 20])
    for largest in (True, False):
        loops(x, 120, 1, largest, tmp_path, host())


def test_one_is_looked_for_and_several_are_sorted(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    assert loops(x, 1, 1, True, tmp_path, host()) == {"k", "p"}
    assert {"j", "t"} <= loops(x, 50, 1, True, tmp_path, host())
    assert loops(x[:, :64], 8, 1, True, tmp_path, host()) == {"c", "i", "j", "p"}
