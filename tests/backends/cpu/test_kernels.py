"""Every region kind against the reference, at the sizes where kernels go wrong: 1, a vector less
one, a vector, a vector and one, and shapes that no tile divides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.lower import lower_region
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from regions import check_regions, graph_of, run_region

from graphopt.ir.graph import Value
from graphopt.ir.types import DType, Layout, TensorType
from graphopt.kernel.ir import For
from graphopt.kernel.visit import walk
from graphopt.ops import (
    OPS,
    AttentionAttrs,
    AvgPoolAttrs,
    ConcatAttrs,
    ConvAttrs,
    FlipAttrs,
    GatherAttrs,
    GeluAttrs,
    GroupNormAttrs,
    LayerNormAttrs,
    LogSoftmaxAttrs,
    MaxAttrs,
    MaxPoolAttrs,
    MeanAttrs,
    PadAttrs,
    ReshapeAttrs,
    RmsNormAttrs,
    ScatterAlongAttrs,
    ScatterNdAttrs,
    SliceAttrs,
    SoftmaxAttrs,
    SumAttrs,
    TakeAlongAttrs,
    TopkAttrs,
    TransposeAttrs,
)
from graphopt.ops.base import Attrs
from graphopt.passbase import PassContext
from graphopt.rewrite import Rewriter
from graphopt.target import Target

pytestmark = pytest.mark.compiler
EDGES = (1, 7, 15, 16, 17, 33, 48, 50)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


def channels_last(*shape: int) -> TensorType:
    order = (0, *range(2, len(shape)), 1)
    return TensorType(DType.F32, shape, Layout.ordered(order))


def laid(rw: Rewriter, op: str, operands: list[Value], attrs: Attrs | None, like: Layout) -> Value:
    """A node whose result has a given layout."""
    from graphopt.rewrite import infer_types

    definition = OPS[op]
    (type,) = infer_types(definition, operands, attrs or rw_none())
    return rw.insert(op, operands, attrs, types=[type.with_layout(like)]).result


def rw_none() -> Attrs:
    from graphopt.ops.base import NoAttrs

    return NoAttrs()


@pytest.fixture(params=["host", "x86-64-v3", "scalar"])
def target(request: pytest.FixtureRequest) -> Target:
    """The host, a narrower vector unit, and no vectors at all."""
    return host() if request.param == "host" else TARGETS[request.param]


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("m", [1, 5, 14])
def test_linear(m: int, n: int, tmp_path: Path) -> None:
    k = 19
    graph = graph_of(
        [f32(m, k)], [random(n, k), random(n)], lambda rw, x, w, b: rw.emit(
            "relu", rw.emit("linear", x, w, b))
    )  # fmt: skip
    check_regions(graph, [random(m, k)], host(), tmp_path)


@pytest.mark.parametrize(("m", "n"), [(20, 520), (41, 1000)])
def test_linear_whose_panels_stream(m: int, n: int, tmp_path: Path) -> None:
    """Each asks for the next one's weights, the last one for what is not there, and is passed by
    once: left-over rows have no loop over panels of their own."""
    row = host()
    depth = 1 + row.l2_bytes // (4 * n)
    x, w = f32(m, depth), random(n, depth)
    graph = graph_of([x], [w], lambda rw, x, w: rw.emit("linear", x, w))
    fused = check_regions(graph, [random(m, depth)], row, tmp_path)
    (node,) = (k for k in fused.nodes if k.body is not None)
    streaming = dict(lower_region(node, row).steps)["prefetch the next panel"]
    panels = [p.extent for p in walk(streaming.body) if isinstance(p, For) and p.var == "jb"]
    assert panels
    assert len(panels) == len(set(panels))


def test_linear_with_gelu_and_residual(target: Target, tmp_path: Path) -> None:
    def body(rw: Rewriter, x: Value, r: Value, w: Value, b: Value) -> Value:
        y = rw.emit("gelu", rw.emit("linear", x, w, b), attrs=GeluAttrs())
        return rw.emit("add", y, r)

    graph = graph_of([f32(2, 13, 20), f32(2, 13, 37)], [random(37, 20), random(37)], body)
    fused = check_regions(graph, [random(2, 13, 20), random(2, 13, 37)], target, tmp_path)
    assert sum(n.op.name == "fused" for n in fused.nodes) == 1


def test_matmul_of_computed_factors(target: Target, tmp_path: Path) -> None:
    graph = graph_of(
        [f32(2, 3, 9, 7), f32(2, 1, 7, 21)], [], lambda rw, a, b: rw.emit("matmul", a, b)
    )
    check_regions(graph, [random(2, 3, 9, 7), random(2, 1, 7, 21)], target, tmp_path)


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
    (64, 50, 3, 1, 1, 1, 9, 9),
]


@pytest.mark.parametrize(("ci", "co", "k", "s", "d", "g", "h", "w"), CONVOLUTIONS)
def test_conv_2d(
    ci: int, co: int, k: int, s: int, d: int, g: int, h: int, w: int, tmp_path: Path
) -> None:
    x = channels_last(2, ci, h, w)
    attrs = ConvAttrs((s, s), ((0, 0), (0, 0)), (d, d), g)

    def body(rw: Rewriter, x: Value, weight: Value, bias: Value) -> Value:
        assert x.type.layout is not None
        y = laid(rw, "conv", [x, weight, bias], attrs, x.type.layout)
        return laid(rw, "relu", [y], None, x.type.layout)

    graph = graph_of([x], [random(co, ci // g, k, k), random(co)], body)
    check_regions(graph, [random(2, ci, h, w)], host(), tmp_path)


def test_conv_on_every_target(target: Target, tmp_path: Path) -> None:
    for groups in (1, 20):
        attrs = ConvAttrs((1, 1), ((0, 0), (0, 0)), (1, 1), groups)

        def body(rw: Rewriter, x: Value, w: Value, attrs: ConvAttrs = attrs) -> Value:
            assert x.type.layout is not None
            return laid(rw, "conv", [x, w], attrs, x.type.layout)

        graph = graph_of([channels_last(1, 20, 8, 9)], [random(20, 20 // groups, 3, 3)], body)
        check_regions(graph, [random(1, 20, 8, 9)], target, tmp_path)


@pytest.mark.parametrize("spatial", [(13,), (5, 6, 7)])
def test_conv_1d_and_3d(spatial: tuple[int, ...], tmp_path: Path) -> None:
    rank = len(spatial)
    attrs = ConvAttrs((1,) * rank, ((0, 0),) * rank, (1,) * rank, 1)

    def body(rw: Rewriter, x: Value, w: Value) -> Value:
        assert x.type.layout is not None
        return laid(rw, "conv", [x, w], attrs, x.type.layout)

    graph = graph_of([channels_last(1, 6, *spatial)], [random(10, 6, *(3,) * rank)], body)
    check_regions(graph, [random(1, 6, *spatial)], host(), tmp_path)


@pytest.mark.parametrize(
    ("channels", "width", "before", "after"),
    [(18, 9, (1, 2), (2, 1)), (24, 8, (2, 2), (2, 2))],
    ids=["odd", "vectors across rows"],
)
def test_conv_writes_the_border_of_what_comes_next(
    channels: int, width: int, before: tuple[int, int], after: tuple[int, int], tmp_path: Path
) -> None:
    attrs = ConvAttrs((1, 1), ((0, 0), (0, 0)), (1, 1), 1)

    def body(rw: Rewriter, x: Value, w: Value) -> Value:
        like = x.type.layout
        assert like is not None
        y = laid(rw, "relu", [laid(rw, "conv", [x, w], attrs, like)], None, like)
        return laid(rw, "pad", [y], PadAttrs((0, 0, *before), (0, 0, *after)), like)

    graph = graph_of([channels_last(1, 8, 7, width + 2)], [random(channels, 8, 3, 3)], body)
    fused = check_regions(graph, [random(1, 8, 7, width + 2)], host(), tmp_path)
    assert sum(n.op.name == "fused" for n in fused.nodes) == 1


def test_border_of_whole_rows_of_few_channels(tmp_path: Path) -> None:
    """8 channels in 37 columns: a vector reaches from one pixel into the next, and over rows."""
    attrs = ConvAttrs((1, 1), ((0, 0), (0, 0)), (1, 1), 1)

    def body(rw: Rewriter, x: Value, w: Value) -> Value:
        like = x.type.layout
        assert like is not None
        y = laid(rw, "conv", [x, w], attrs, like)
        return laid(rw, "pad", [y], PadAttrs((0, 0, 3, 0), (0, 0, 3, 0)), like)

    graph = graph_of([channels_last(2, 8, 5, 37)], [random(8, 8, 1, 1)], body)
    check_regions(graph, [random(2, 8, 5, 37)], host(), tmp_path)


@pytest.mark.parametrize("op", ["max_pool", "avg_pool"])
def test_pools(op: str, target: Target, tmp_path: Path) -> None:
    none = ((0, 0), (0, 0))
    attrs = (
        MaxPoolAttrs((3, 3), (2, 2), none, (1, 1)) if op == "max_pool"
        else AvgPoolAttrs((3, 3), (2, 2), none)
    )  # fmt: skip

    def body(rw: Rewriter, x: Value) -> Value:
        assert x.type.layout is not None
        return laid(rw, op, [x], attrs, x.type.layout)

    graph = graph_of([channels_last(1, 37, 9, 11)], [], body)
    check_regions(graph, [random(1, 37, 9, 11)], target, tmp_path)


@pytest.mark.parametrize("width", EDGES)
def test_rows_of_every_width(width: int, tmp_path: Path) -> None:
    x = random(3, width)
    for op, attrs in (("softmax", SoftmaxAttrs(1)), ("log_softmax", LogSoftmaxAttrs(1))):
        graph = graph_of([f32(3, width)], [], lambda rw, x, op=op, a=attrs: rw.emit(op, x, attrs=a))
        check_regions(graph, [x], host(), tmp_path)
    graph = graph_of(
        [f32(3, width)], [random(width), random(width)],
        lambda rw, x, w, b: rw.emit("layer_norm", x, w, b, attrs=LayerNormAttrs(1, 1e-5)),
    )  # fmt: skip
    check_regions(graph, [x], host(), tmp_path)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (1, 2), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_reductions_over_any_axes(axes: tuple[int, ...], keepdims: bool, tmp_path: Path) -> None:
    for op, attrs in (("sum", SumAttrs(axes, keepdims)), ("max", MaxAttrs(axes, keepdims)),
                      ("mean", MeanAttrs(axes, keepdims))):  # fmt: skip
        graph = graph_of([f32(3, 5, 18)], [], lambda rw, x, op=op, a=attrs: rw.emit(op, x, attrs=a))
        check_regions(graph, [random(3, 5, 18)], host(), tmp_path)


def test_reductions_on_every_target(target: Target, tmp_path: Path) -> None:
    def body(rw: Rewriter, x: Value, y: Value, w: Value, b: Value) -> list[Value]:
        s = rw.emit("add", x, y)
        n = rw.emit("layer_norm", s, w, b, attrs=LayerNormAttrs(1, 1e-5))
        return [s, n, rw.emit("rms_norm", y, w, attrs=RmsNormAttrs(1, 1e-6))]

    graph = graph_of([f32(2, 3, 50), f32(2, 3, 50)], [random(50), random(50)], body)
    check_regions(graph, [random(2, 3, 50), random(2, 3, 50)], target, tmp_path)


@pytest.mark.parametrize("last", [True, False])
def test_group_norm(last: bool, target: Target, tmp_path: Path) -> None:
    x = channels_last(2, 24, 5, 3) if last else f32(2, 24, 5, 3)

    def body(rw: Rewriter, x: Value, w: Value, b: Value) -> Value:
        attrs = GroupNormAttrs(4, 1e-5)
        return rw.insert("group_norm", [x, w, b], attrs, types=[x.type]).result

    graph = graph_of([x], [random(24), random(24)], body)
    check_regions(graph, [random(2, 24, 5, 3)], target, tmp_path)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "queries", "keys", "depth", "causal"),
    [
        (2, 2, 1, 1, 8, False),
        (4, 2, 7, 5, 16, True),
        (1, 1, 33, 33, 20, True),
        (2, 1, 16, 50, 64, False),
    ],
)
def test_attention(
    heads: int, kv_heads: int, queries: int, keys: int, depth: int, causal: bool,
    target: Target, tmp_path: Path,
) -> None:  # fmt: skip
    attrs = AttentionAttrs(depth**-0.5, causal)
    types = [
        f32(2, heads, queries, depth),
        f32(2, kv_heads, keys, depth),
        f32(2, kv_heads, keys, depth),
    ]
    graph = graph_of(types, [], lambda rw, q, k, v: rw.emit("attention", q, k, v, attrs=attrs))
    check_regions(graph, [random(*t.dims) for t in types], target, tmp_path)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_attention_masks(kind: str, tmp_path: Path) -> None:
    keep = np.random.default_rng(0).random((1, 1, 9, 11)) > 0.4
    if kind == "bool":
        keep[0, 0, 3] = False  # a row that sees nothing; with -1e9 float32 would see only rounding
    mask = keep if kind == "bool" else np.where(keep, 0.0, -1e9).astype(np.float32)
    types = [f32(1, 2, 9, 16), f32(1, 2, 11, 16), f32(1, 2, 11, 16), TensorType.of(mask)]
    graph = graph_of(
        types,
        [],
        lambda rw, q, k, v, m: rw.emit("attention", q, k, v, m, attrs=AttentionAttrs(0.25)),
    )
    check_regions(graph, [*(random(*t.dims) for t in types[:3]), mask], host(), tmp_path)


MOVES = [
    ("transpose", TransposeAttrs((2, 0, 1)), (2, 3, 40)),
    ("transpose", TransposeAttrs((0, 2, 1)), (2, 1024, 5)),  # by blocks
    ("transpose", TransposeAttrs((0, 2, 1)), (2, 1048, 5)),
    ("slice", SliceAttrs((0, 1, 3), (2, 3, 40), (1, 1, 4)), (2, 3, 40)),
    ("flip", FlipAttrs((0, 2)), (2, 3, 40)),
    ("pad", PadAttrs((0, 1, 2), (1, 0, 3)), (2, 3, 17)),
    ("pad", PadAttrs((0, 1, 2), (1, 0, 3), 0.0, "reflect"), (3, 3, 17)),
    ("pad", PadAttrs((0, 1, 2), (1, 0, 3), 0.0, "replicate"), (3, 3, 17)),
    ("reshape", ReshapeAttrs((6, 4, 10)), (2, 3, 40)),
]


@pytest.mark.parametrize(("op", "attrs", "shape"), MOVES)
def test_movement_with_a_pointwise_reader(
    op: str, attrs: Attrs, shape: tuple[int, ...], tmp_path: Path
) -> None:
    graph = graph_of([f32(*shape)], [], lambda rw, x: rw.emit("exp", rw.emit(op, x, attrs=attrs)))
    check_regions(graph, [random(*shape)], host(), tmp_path)


def test_concat_of_computed_parts(target: Target, tmp_path: Path) -> None:
    def body(rw: Rewriter, x: Value, y: Value) -> Value:
        return rw.emit("concat", rw.emit("sigmoid", x), y, rw.emit("relu", x), attrs=ConcatAttrs(1))

    graph = graph_of([f32(2, 3, 21), f32(2, 5, 21)], [], body)
    check_regions(graph, [random(2, 3, 21), random(2, 5, 21)], target, tmp_path)


def test_concat_with_a_part_without_elements(tmp_path: Path) -> None:
    def body(rw: Rewriter, x: Value) -> Value:
        rest = rw.emit("slice", x, attrs=SliceAttrs((0, 0, 16), (2, 4, 16), (1, 1, 1)))
        return rw.emit("concat", rw.emit("relu", x), rest, attrs=ConcatAttrs(2))

    check_regions(graph_of([f32(2, 4, 16)], [], body), [random(2, 4, 16)], host(), tmp_path)


def test_gathers(tmp_path: Path) -> None:
    index = np.random.default_rng(0).integers(-20, 20, (2, 7))
    graph = graph_of(
        [TensorType.of(index)], [random(20, 33)],
        lambda rw, i, w: rw.emit("gather", w, i, attrs=GatherAttrs(0)),
    )  # fmt: skip
    check_regions(graph, [index], host(), tmp_path)
    along = np.random.default_rng(0).integers(0, 5, (3, 4))
    graph = graph_of(
        [f32(3, 5), TensorType.of(along)], [],
        lambda rw, x, i: rw.emit("take_along", x, i, attrs=TakeAlongAttrs(1)),
    )  # fmt: skip
    check_regions(graph, [random(3, 5), along], host(), tmp_path)


@pytest.mark.parametrize("largest", [True, False])
def test_topk_orders_ties_by_position(largest: bool, tmp_path: Path) -> None:
    x = np.round(random(3, 20)).astype(np.float32)
    graph = graph_of(
        [f32(3, 20)],
        [],
        lambda rw, x: list(rw.insert("topk", [x], TopkAttrs(7, 1, largest)).results),
    )
    check_regions(graph, [x], host(), tmp_path)


@pytest.mark.parametrize("accumulate", [True, False])
def test_scatters(accumulate: bool, tmp_path: Path) -> None:
    at = np.array([[0], [3], [-1]])
    graph = graph_of(
        [f32(5, 6), TensorType.of(at), f32(3, 6)], [],
        lambda rw, x, i, u: rw.emit("scatter_nd", x, i, u, attrs=ScatterNdAttrs(accumulate)),
    )  # fmt: skip
    check_regions(graph, [random(5, 6), at, random(3, 6)], host(), tmp_path)
    along = np.array([[0, 2], [1, 0]])
    graph = graph_of(
        [f32(2, 4), TensorType.of(along), f32(2, 2)],
        [],
        lambda rw, x, i, u: rw.emit(
            "scatter_along", x, i, u, attrs=ScatterAlongAttrs(1, accumulate)
        ),
    )
    check_regions(graph, [random(2, 4), along, random(2, 2)], host(), tmp_path)


@pytest.mark.parametrize("combine", ["add", "mul", "maximum", "minimum"])
@pytest.mark.parametrize("n", EDGES)
def test_scattered_rows_that_meet(n: int, combine: str, tmp_path: Path) -> None:
    """Duplicates, negative positions; updates that are computed and gathered on the way."""
    at, rows = np.array([[2], [-1], [2], [0]]), np.array([1, 1, 0, 2])
    attrs = ScatterNdAttrs(True, combine)

    def body(rw: Rewriter, x: Value, i: Value, r: Value, u: Value) -> Value:
        picked = rw.emit("gather", rw.emit("exp", u), r, attrs=GatherAttrs(0))
        return rw.emit("scatter_nd", x, i, picked, attrs=attrs)

    graph = graph_of([f32(3, 2, n), TensorType.of(at), TensorType.of(rows), f32(3, 2, n)], [], body)
    arrays = [random(3, 2, n), at, rows, random(3, 2, n)]
    fused = check_regions(graph, arrays, host(), tmp_path)
    assert [n.op.name for n in fused.nodes] == ["fused"]


def test_scattered_rows_outside_are_dropped(tmp_path: Path) -> None:
    at = np.array([[3], [-4], [1]])
    graph = graph_of(
        [f32(3, 20), TensorType.of(at), f32(3, 20)], [],
        lambda rw, x, i, u: rw.emit("scatter_nd", x, i, u, attrs=ScatterNdAttrs(True)),
    )  # fmt: skip
    x, u = random(3, 20), random(3, 20)
    fused = Fuse().run(graph, PassContext())
    arrays = (x.reshape(-1), at.reshape(-1), u.reshape(-1))
    memory = dict(zip(fused.inputs, arrays, strict=True))

    run_region(fused.nodes[0], fused, memory, host(), tmp_path)

    wanted = x.copy()
    wanted[1] += u[2]
    np.testing.assert_array_equal(memory[fused.outputs[0]].reshape(3, 20), wanted)


UNARY = ["exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "silu", "relu",
         "hardswish", "hardsigmoid", "softplus", "gelu", "abs", "neg", "floor", "ceil", "round",
         "trunc", "sign", "reciprocal", "expm1", "log1p", "exp2", "log2", "atan",
         "tan"]  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
def test_pointwise_functions(op: str, tmp_path: Path) -> None:
    x = np.abs(random(3, 21)) + 0.1 if op in ("log", "sqrt", "rsqrt", "log2") else random(3, 21)
    attrs = GeluAttrs() if op == "gelu" else None
    graph = graph_of([f32(3, 21)], [], lambda rw, x: rw.emit(op, x, attrs=attrs))
    check_regions(graph, [x], host(), tmp_path)
