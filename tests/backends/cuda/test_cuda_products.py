"""Products, convolutions and windows on the emulator, against the reference: sizes no tile divides,
few rows, groups, batches, borders of what comes next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cuda_regions import Case, Emulated, channels_last, graph_of, random, tensor
from graphopt_backends.cuda.lower import simt
from graphopt_backends.cuda.lower import tensor as tensor_cores

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.ops import (
    OPS,
    AvgPoolAttrs,
    ConvAttrs,
    GeluAttrs,
    MaxPoolAttrs,
    PadAttrs,
    TransposeAttrs,
)
from graphopt.ops.base import Attrs, NoAttrs
from graphopt.rewrite import Rewriter, infer_types
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler
NONE = ((0, 0), (0, 0))
CONVOLUTIONS = [
    # channels in, out, kernel, stride, dilation, groups, height, width
    (1, 1, 1, 1, 1, 1, 1, 1),
    (3, 16, 3, 2, 1, 1, 9, 11),
    (16, 64, 1, 1, 1, 1, 7, 7),
    (5, 7, 3, 2, 1, 1, 11, 13),
    (16, 17, 3, 1, 2, 1, 9, 9),
    (12, 24, 3, 1, 1, 4, 6, 10),
    (33, 33, 3, 1, 1, 33, 8, 9),
    (48, 48, 5, 2, 1, 48, 13, 12),
    (8, 40, 7, 2, 1, 1, 21, 15),
]
ONE = ConvAttrs((1, 1), NONE, (1, 1), 1)


def laid(rw: Rewriter, op: str, operands: list[Value], attrs: Attrs | None, like: Layout) -> Value:
    """A node whose result has a given layout."""
    attrs = attrs or NoAttrs()
    (type,) = infer_types(OPS[op], operands, attrs)
    return rw.insert(op, operands, attrs, types=[type.with_layout(like)]).result


def _linear(m: int, n: int, k: int, dtype: DType = DType.F32) -> Case:
    graph = graph_of(
        [tensor(m, k, dtype=dtype)], [random(n, k, dtype=dtype), random(n, dtype=dtype)],
        lambda rw, x, w, b: rw.emit("relu", rw.emit("linear", x, w, b)),
    )  # fmt: skip
    return Case(graph, [random(m, k, dtype=dtype)])


def _residual(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
    return rw.emit("add", rw.emit("gelu", rw.emit("linear", x, w, b), attrs=GeluAttrs()), r)


def _conv(
    x: TensorType, attrs: ConvAttrs, *weights: tuple[int, ...], dtype: DType = DType.F32
) -> Case:
    def body(rw: Rewriter, x: Value, *rest: Value) -> Value:
        like = x.type.layout or Layout.ordered(tuple(range(x.type.rank)))
        return laid(rw, "relu", [laid(rw, "conv", [x, *rest], attrs, like)], None, like)

    constants = [random(*w, dtype=dtype) for w in weights]
    return Case(graph_of([x], constants, body), [random(*x.dims, dtype=dtype)])


def _padded(rw: Rewriter, x: Value, w: Value) -> Value:
    like = x.type.layout
    assert like is not None
    y = laid(rw, "relu", [laid(rw, "conv", [x, w], ONE, like)], None, like)
    return laid(rw, "pad", [y], PadAttrs((0, 0, 1, 2), (0, 0, 2, 1)), like)


def _pool(x: TensorType, op: str, attrs: Attrs) -> Case:
    def body(rw: Rewriter, x: Value) -> Value:
        like = x.type.layout or Layout.ordered(tuple(range(x.type.rank)))
        return laid(rw, op, [x], attrs, like)

    return Case(graph_of([x], [], body), [random(*x.dims)])


def _cases() -> Iterator[tuple[str, Case]]:
    for m, n in ((1, 1), (5, 7), (8, 33), (14, 16), (14, 33), (130, 33), (33, 130)):
        yield f"linear-{m}x{n}", _linear(m, n, 19)
    for dtype in (DType.F16, DType.BF16):
        for m, n, k in ((3, 40, 64), (1, 64, 1000), (70, 72, 64)):
            yield f"linear-{dtype}-{m}x{n}x{k}", _linear(m, n, k, dtype)
    yield "one-slice", _linear(64, 64, 8)
    for tile, _ in simt.TILES:
        case = _linear(70, 72, 33)
        case.points = {"contraction": Point({"tile": str(tile)})}
        yield f"tile-{tile}", case
    yield from _tensor()
    for columns in (1, 4):
        case = _linear(2, 33, 96)
        case.points = {"contraction": Point({"warps": 2, "columns": columns})}
        yield f"skinny-{columns}", case
    shapes = (2, 13, 20), (2, 13, 37)
    graph = graph_of([tensor(*s) for s in shapes], [random(37, 20), random(37)], _residual)
    yield "residual", Case(graph, [random(*s) for s in shapes])
    yield from _matmuls()
    yield from _gathered()
    yield from _windows()


def _tensor() -> Iterator[tuple[str, Case]]:
    """Tensor cores: whole tiles, parts of them, odd rows of memory."""
    for dtype in (DType.F16, DType.BF16):
        for m, n, k in ((16, 16, 16), (33, 50, 100), (130, 129, 31), (70, 72, 64)):
            yield f"tensor-{dtype}-{m}x{n}x{k}", _linear(m, n, k, dtype)
    for tile, _ in tensor_cores.TILES:
        case = _linear(70, 72, 40, DType.F16)
        case.points = {"contraction": Point({"tile": str(tile)})}
        yield f"tensor-tile-{tile}", case
    for groups in (1, 2):
        attrs = ConvAttrs((1, 1), NONE, (1, 1), groups)
        x = channels_last(2, 32, 9, 8, dtype=DType.F16)
        yield f"tensor-conv-{groups}", _conv(x, attrs, (40, 32 // groups, 3, 3), dtype=DType.F16)
    shapes = (2, 3, 19, 17), (2, 1, 17, 24)
    graph = graph_of([tensor_of(*s) for s in shapes], [], lambda rw, a, b: rw.emit("matmul", a, b))
    yield "tensor-batched", Case(graph, [random(*s, dtype=DType.F16) for s in shapes])


def _gathered() -> Iterator[tuple[str, Case]]:
    """Blocks of one row, of less and more than a tile has; some of no weights, whose rows are not
    numbers."""
    for dtype in (DType.F32, DType.F16):
        for rows, columns, depth in ((1, 33, 40), (5, 16, 19), (33, 40, 64)):
            x, chosen = random(6, rows, depth, dtype=dtype), np.array([2, 0, -1, 1, 2, 3])
            x[[2, 5]] = np.nan
            graph = graph_of(
                [tensor(*x.shape, dtype=dtype), TensorType(DType.I64, (6,))],
                [random(3, depth, columns, dtype=dtype)],
                lambda rw, x, i, w: rw.emit("relu", rw.emit("gathered_matmul", x, w, i)),
            )
            yield f"gathered-{dtype}-{rows}x{columns}x{depth}", Case(graph, [x, chosen])
    computed = tensor(4, 3, 20), tensor(2, 20, 24), TensorType(DType.I32, (4,))
    graph = graph_of(computed, [], lambda rw, x, w, i: rw.emit("gathered_matmul", x, w, i))
    data = [random(4, 3, 20), random(2, 20, 24), np.array([1, 0, 2, 1], np.int32)]
    yield "gathered-computed", Case(graph, data)
    graph = graph_of(
        [tensor(3, 2, 20), TensorType(DType.I32, (3,))], [random(1, 20, 24)],
        lambda rw, x, i, w: rw.emit("gathered_matmul", x, w, i),
    )  # fmt: skip
    yield "gathered-by-one", Case(graph, [random(3, 2, 20), np.array([0, 1, 0], np.int32)])


def tensor_of(*shape: int) -> TensorType:
    return TensorType(DType.F16, shape)


def _matmuls() -> Iterator[tuple[str, Case]]:
    shapes = (2, 3, 9, 7), (2, 1, 7, 21)
    graph = graph_of([tensor(*s) for s in shapes], [], lambda rw, a, b: rw.emit("matmul", a, b))
    yield "batched", Case(graph, [random(*s) for s in shapes])
    shapes = (2, 3, 9, 8), (2, 3, 24, 8)
    turned = TransposeAttrs((0, 1, 3, 2))
    graph = graph_of(
        [tensor(*s) for s in shapes], [],
        lambda rw, a, b: rw.emit("matmul", a, rw.emit("transpose", b, attrs=turned)),
    )  # fmt: skip
    yield "batched-transposed", Case(graph, [random(*s) for s in shapes])


def _windows() -> Iterator[tuple[str, Case]]:
    for ci, co, k, s, d, g, h, w in CONVOLUTIONS:
        attrs = ConvAttrs((s, s), NONE, (d, d), g)
        case = _conv(channels_last(2, ci, h, w), attrs, (co, ci // g, k, k), (co,))
        yield f"conv-{ci}-{co}-{k}-{s}-{d}-{g}", case
    for spatial in ((13,), (5, 6, 7)):
        r = len(spatial)
        attrs = ConvAttrs((1,) * r, ((0, 0),) * r, (1,) * r, 1)
        yield f"conv-{r}d", _conv(channels_last(1, 6, *spatial), attrs, (10, 6, *(3,) * r))
    yield "conv-row-major", _conv(tensor(2, 6, 9, 11), ONE, (10, 6, 3, 3))
    graph = graph_of([channels_last(1, 8, 7, 9)], [random(18, 8, 3, 3)], _padded)
    yield "conv-padded", Case(graph, [random(1, 8, 7, 9)])
    pools = {"max_pool": MaxPoolAttrs((3, 3), (2, 2), NONE, (1, 1)),
             "avg_pool": AvgPoolAttrs((3, 3), (2, 2), NONE)}  # fmt: skip
    for op, pool in pools.items():
        yield op, _pool(channels_last(1, 37, 9, 11), op, pool)
        yield f"{op}-vectors", _pool(channels_last(1, 40, 9, 11), op, pool)
        yield f"{op}-row-major", _pool(tensor(2, 5, 9, 11), op, pool)


CASES = dict(_cases())


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(CASES, tmp_path_factory.mktemp("products"))


@pytest.mark.parametrize("name", CASES)
def test_products(name: str, emulated: Emulated) -> None:
    emulated.check(name)
