"""Reductions on the emulator, against the reference: a warp for each row, several warps, rows
across memory, and rows too long for registers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda_regions import Case, Emulated, channels_last, graph_of, random, tensor
from square_rows import READ_TWICE

from graphopt.ir.graph import Value
from graphopt.ir.text import parse
from graphopt.ir.types import DType
from graphopt.ops import (
    GroupNormAttrs,
    LayerNormAttrs,
    LogSoftmaxAttrs,
    MaxAttrs,
    MeanAttrs,
    RmsNormAttrs,
    SoftmaxAttrs,
    SumAttrs,
)
from graphopt.ops.base import Attrs
from graphopt.rewrite import Rewriter
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler
WIDTHS = (1, 7, 33, 128, 1000, 4099, 70000)
AXES = ((0,), (1,), (2,), (1, 2), (0, 2), (0, 1, 2))


def _one(op: str, attrs: Attrs, shape: tuple[int, ...], dtype: DType = DType.F32) -> Case:
    graph = graph_of([tensor(*shape, dtype=dtype)], [], lambda rw, x: rw.emit(op, x, attrs=attrs))
    return Case(graph, [random(*shape, dtype=dtype)])


def _layer_norm(width: int) -> Case:
    graph = graph_of(
        [tensor(5, width)], [random(width), random(width)],
        lambda rw, x, w, b: rw.emit("layer_norm", x, w, b, attrs=LayerNormAttrs(1, 1e-5)),
    )  # fmt: skip
    return Case(graph, [random(5, width)])


def _residual_and_norms(rw: Rewriter, x: Value, y: Value, w: Value, b: Value) -> list[Value]:
    s = rw.emit("add", x, y)
    n = rw.emit("layer_norm", s, w, b, attrs=LayerNormAttrs(1, 1e-5))
    return [s, n, rw.emit("rms_norm", y, w, attrs=RmsNormAttrs(1, 1e-6))]


def _group_norm(rw: Rewriter, x: Value, w: Value, b: Value) -> Value:
    return rw.insert("group_norm", [x, w, b], GroupNormAttrs(4, 1e-5), types=[x.type]).result


def _cases() -> Iterator[tuple[str, Case]]:
    for width in WIDTHS:
        yield f"softmax-{width}", _one("softmax", SoftmaxAttrs(1), (3, width))
        yield f"layer-norm-{width}", _layer_norm(width)
    for axes in AXES:
        name = "".join(map(str, axes))
        yield f"sum-{name}", _one("sum", SumAttrs(axes, False), (3, 5, 18))
        yield f"max-{name}", _one("max", MaxAttrs(axes, True), (3, 5, 18))
    for dtype in (DType.F16, DType.BF16):
        yield f"softmax-{dtype}", _one("softmax", SoftmaxAttrs(1), (6, 64), dtype)
        yield f"mean-{dtype}", _one("mean", MeanAttrs((1,), True), (6, 640), dtype)
    yield "log-softmax", _one("log_softmax", LogSoftmaxAttrs(1), (3, 50))
    yield "softmax-across", _one("softmax", SoftmaxAttrs(1), (2, 9, 20))
    yield "sum-i64", _one("sum", SumAttrs((1,), False), (3, 100), DType.I64)
    graph = graph_of([tensor(2, 3, 50)] * 2, [random(50), random(50)], _residual_and_norms)
    yield "several", Case(graph, [random(2, 3, 50), random(2, 3, 50)])
    for name, x in (("row-major", tensor(2, 24, 5, 3)), ("last", channels_last(2, 24, 5, 3))):
        graph = graph_of([x], [random(24), random(24)], _group_norm)
        yield f"group-norm-{name}", Case(graph, [random(2, 24, 5, 3)])
    yield "read-at-two-places", Case(parse(READ_TWICE), [random(2, 24, 24)])
    pool = graph_of([channels_last(2, 48, 7, 7)], [],
                    lambda rw, x: rw.emit("mean", x, attrs=MeanAttrs((2, 3), True)))  # fmt: skip
    yield "global-pool", Case(pool, [random(2, 48, 7, 7)])
    for count in (1, 8, 256):
        case = _one("softmax", SoftmaxAttrs(1), (3, 300))
        case.points = {"reduction": Point({"row_threads": count})}
        yield f"{count}-threads", case


CASES = dict(_cases())


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(CASES, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("name", CASES)
def test_rows(name: str, emulated: Emulated) -> None:
    emulated.check(name)
