"""Pointwise and movement regions on the emulator, against the reference: vectors and what is left
of them, boxes side by side, every dtype."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cuda_regions import Case, Emulated, channels_last, graph_of, random, tensor

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import (
    CastAttrs,
    ConcatAttrs,
    FlipAttrs,
    GatherAttrs,
    GeluAttrs,
    PadAttrs,
    ReshapeAttrs,
    SliceAttrs,
    TakeAlongAttrs,
    TransposeAttrs,
)
from graphopt.rewrite import Rewriter
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler
EDGES = (1, 7, 64, 129, 1027)
FLOATS = (DType.F32, DType.F16, DType.BF16)
INTEGERS = (DType.I64, DType.I32, DType.I8, DType.U8)

MOVES = [
    ("transpose", TransposeAttrs((2, 0, 1)), (2, 3, 40)),
    ("slice", SliceAttrs((0, 1, 3), (2, 3, 40), (1, 1, 4)), (2, 3, 40)),
    ("flip", FlipAttrs((0, 2)), (2, 3, 40)),
    ("pad", PadAttrs((0, 1, 2), (1, 0, 3)), (2, 3, 17)),
    ("pad", PadAttrs((0, 1, 2), (1, 0, 3), 0.0, "reflect"), (3, 3, 17)),
    ("pad", PadAttrs((0, 1, 2), (1, 0, 3), 0.0, "replicate"), (3, 3, 17)),
    ("reshape", ReshapeAttrs((6, 4, 10)), (2, 3, 40)),
]
POSITIVE = ("log", "sqrt", "rsqrt", "log2")
UNARY = ("exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "silu", "relu",
         "hardswish", "hardsigmoid", "softplus", "gelu", "abs", "neg", "floor", "ceil", "round",
         "trunc", "sign", "reciprocal", "expm1", "log1p", "exp2", "log2", "atan",
         "tan")  # fmt: skip


def _gelu_add_relu(rw: Rewriter, x: Value, y: Value) -> Value:
    return rw.emit("relu", rw.emit("add", x, rw.emit("gelu", y, attrs=GeluAttrs())))


def _of_integers(rw: Rewriter, x: Value, y: Value) -> list[Value]:
    total = rw.emit("add", rw.emit("mul", x, y), rw.emit("floor_div", x, y))
    less = rw.emit("lt", total, y)
    either = rw.emit("or", less, rw.emit("eq", x, y))
    picked = rw.emit("where", either, rw.emit("mod", x, y), rw.emit("maximum", x, y))
    return [total, less, picked, rw.emit("cast", x, attrs=CastAttrs(DType.F32))]


def _concat(rw: Rewriter, x: Value, y: Value) -> Value:
    return rw.emit("concat", rw.emit("sigmoid", x), y, rw.emit("relu", x), attrs=ConcatAttrs(1))


def _cases() -> Iterator[tuple[str, Case]]:
    for n in EDGES:
        graph = graph_of([tensor(3, n), tensor(n)], [], _gelu_add_relu)
        yield f"broadcast-{n}", Case(graph, [random(3, n), random(n)])
    for dtype in FLOATS:
        types = [tensor(3, 40, dtype=dtype), tensor(40, dtype=dtype)]
        inputs = [random(*t.dims, dtype=dtype) for t in types]
        yield f"floats-{dtype}", Case(graph_of(types, [], _gelu_add_relu), inputs)
    for dtype in INTEGERS:
        x = random(3, 32, dtype=dtype)
        y = (np.abs(random(3, 32, dtype=dtype) // 2) % 7 + 1).astype(dtype.numpy)
        graph = graph_of([tensor(3, 32, dtype=dtype)] * 2, [], _of_integers)
        yield f"integers-{dtype}", Case(graph, [x, y])
    for op in UNARY:
        x = np.abs(random(3, 20)) + 0.1 if op in POSITIVE else random(3, 20)
        attrs = GeluAttrs() if op == "gelu" else None
        graph = graph_of([tensor(3, 20)], [], lambda rw, x, o=op, a=attrs: rw.emit(o, x, attrs=a))
        yield op, Case(graph, [x])
    yield from _movements()


def _movements() -> Iterator[tuple[str, Case]]:
    for i, (op, attrs, shape) in enumerate(MOVES):
        graph = graph_of(
            [tensor(*shape)], [],
            lambda rw, x, o=op, a=attrs: rw.emit("exp", rw.emit(o, x, attrs=a)),
        )  # fmt: skip
        yield f"{op}-{i}", Case(graph, [random(*shape)])
    for width in (20, 21):
        shapes = (2, 3, width), (2, 5, width)
        graph = graph_of([tensor(*s) for s in shapes], [], _concat)
        yield f"concat-{width}", Case(graph, [random(*s) for s in shapes])
    at = np.random.default_rng(0).integers(-20, 20, (2, 7))
    for width in (32, 33):
        graph = graph_of(
            [TensorType.of(at)], [random(20, width)],
            lambda rw, i, w: rw.emit("gather", w, i, attrs=GatherAttrs(0)),
        )  # fmt: skip
        yield f"gather-{width}", Case(graph, [at])
    along = np.random.default_rng(0).integers(0, 5, (3, 4))
    graph = graph_of(
        [tensor(3, 5), TensorType.of(along)], [],
        lambda rw, x, i: rw.emit("take_along", x, i, attrs=TakeAlongAttrs(1)),
    )  # fmt: skip
    yield "take-along", Case(graph, [random(3, 5), along])
    graph = graph_of([channels_last(2, 5, 4, 3)], [], lambda rw, x: rw.emit("exp", x))
    yield from _turned()
    yield "to-row-major", Case(graph, [random(2, 5, 4, 3)])
    point = {"pointwise": Point({"threads": 256, "vectors": 4})}
    graph = graph_of([tensor(3, 700), tensor(700)], [], _gelu_add_relu)
    yield "several-vectors", Case(graph, [random(3, 700), random(700)], point)


def _turned() -> Iterator[tuple[str, Case]]:
    """Tiles turned in shared memory: whole ones, parts, halves, beside what is not turned."""
    for dtype in FLOATS:
        for rows, columns in ((64, 32), (33, 50), (16, 100)):
            shape = (2, rows, columns)
            graph = graph_of(
                [tensor(*shape, dtype=dtype)], [],
                lambda rw, x: rw.emit("transpose", x, attrs=TransposeAttrs((0, 2, 1))),
            )  # fmt: skip
            yield f"turned-{dtype}-{rows}", Case(graph, [random(*shape, dtype=dtype)])
    x, y = (1, 40, 5, 9), (1, 45, 40)

    def body(rw: Rewriter, x: Value, y: Value) -> Value:
        flat = rw.emit("reshape", x, attrs=ReshapeAttrs((1, 40, 45)))
        turned = rw.emit("transpose", flat, attrs=TransposeAttrs((0, 2, 1)))
        return rw.emit("concat", rw.emit("exp", turned), y, attrs=ConcatAttrs(1))

    yield (
        "turned-beside",
        Case(graph_of([tensor(*x), tensor(*y)], [], body), [random(*x), random(*y)]),
    )


CASES = dict(_cases())


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    return Emulated(CASES, tmp_path_factory.mktemp("elementwise"))


@pytest.mark.parametrize("name", CASES)
def test_elementwise(name: str, emulated: Emulated) -> None:
    emulated.check(name)
