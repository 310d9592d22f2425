"""Scans, arg-reductions, selection and scatter on the emulator, against the reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cuda_regions import Case, Emulated, graph_of, random, tensor

from graphopt.ir.types import DType, TensorType
from graphopt.ops import (
    ArgmaxAttrs,
    ArgminAttrs,
    CumsumAttrs,
    ScatterAlongAttrs,
    ScatterNdAttrs,
    TopkAttrs,
)

pytestmark = pytest.mark.compiler


def _cases() -> Iterator[tuple[str, Case]]:
    for axis in (0, 1, 2):
        for op, attrs in (("cumsum", CumsumAttrs(axis)), ("argmax", ArgmaxAttrs(axis)),
                          ("argmin", ArgminAttrs(axis, True))):  # fmt: skip
            graph = graph_of([tensor(4, 5, 6)], [],
                             lambda rw, x, o=op, a=attrs: rw.emit(o, x, attrs=a))  # fmt: skip
            yield f"{op}-{axis}", Case(graph, [random(4, 5, 6)])
    for largest in (True, False):
        yield f"topk-{largest}", _topk(np.round(random(3, 20)).astype(np.float32), 7, 1, largest)
        x = np.round(random(3, 20)).astype(np.float32)
        x[1, ::3], x[2], x[0, 2:5] = np.nan, np.nan, np.inf
        for k in (1, 5, 20):  # one is looked for
            yield f"topk-nan-{k}-{largest}", _topk(x, k, 1, largest)
    x = random(70, 3, 5, dtype=DType.I64)
    yield "sort-first-axis", _topk(x, 70, 0, False)
    yield "sort-rows", _topk(x, 3, 1, True)
    for accumulate in (True, False):
        yield f"scatter-nd-{accumulate}", _scatter_nd(ScatterNdAttrs(accumulate))
        yield f"scatter-along-{accumulate}", _scatter_along(ScatterAlongAttrs(1, accumulate))
    for combine in ("mul", "maximum", "minimum"):
        yield f"scatter-nd-{combine}", _scatter_nd(ScatterNdAttrs(True, combine))
        yield f"scatter-along-{combine}", _scatter_along(ScatterAlongAttrs(1, True, combine))


def _topk(x: np.ndarray, k: int, axis: int, largest: bool) -> Case:
    """Of few different numbers: ties."""
    type, attrs = TensorType.of(x), TopkAttrs(k, axis, largest)
    graph = graph_of([type], [], lambda rw, x: list(rw.insert("topk", [x], attrs).results))
    return Case(graph, [x])


def _scatter_nd(attrs: ScatterNdAttrs) -> Case:
    at = np.array([[0], [3], [-1], [3], [2]])  # one place twice
    graph = graph_of(
        [tensor(5, 6), TensorType.of(at), tensor(5, 6)], [],
        lambda rw, x, i, u: rw.emit("scatter_nd", x, i, u, attrs=attrs),
    )  # fmt: skip
    return Case(graph, [random(5, 6), at, random(5, 6)])


def _scatter_along(attrs: ScatterAlongAttrs) -> Case:
    at = np.array([[0, 2], [1, 1]])
    graph = graph_of(
        [tensor(2, 4), TensorType.of(at), tensor(2, 2)], [],
        lambda rw, x, i, u: rw.emit("scatter_along", x, i, u, attrs=attrs),
    )  # fmt: skip
    return Case(graph, [random(2, 4), at, random(2, 2)])


CASES = dict(_cases())


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(CASES, tmp_path_factory.mktemp("scans"))


@pytest.mark.parametrize("name", CASES)
def test_scans(name: str, emulated: Emulated) -> None:
    emulated.check(name)
