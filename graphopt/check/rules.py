"""How the random-graph generator makes each family of ops.

A rule that finds no operand for its op adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.check.generate import Builder, dims, is_float, of_rank
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import OPS
from graphopt.ops.base import Attrs, NoAttrs
from graphopt.ops.region import FUSED, FusedAttrs

Rule = Callable[[Builder], None]


def attrs_of(op: str, **fields: object) -> Attrs:
    """The attributes of an op by field."""
    return OPS[op].attrs(**fields)


UNARY = tuple(
    n for n, o in OPS.items()
    if o.kind == "pointwise" and o.attrs is NoAttrs
    and n not in ("where", "bitwise_not", "logical_not")
)  # fmt: skip
BINARY = frozenset(
    {"add", "sub", "mul", "div", "pow", "minimum", "maximum", "floor_div", "mod", "fmod", "atan2",
     "eq", "ne", "lt", "le", "gt", "ge"}
)  # fmt: skip
LOGIC = ("and", "or", "xor")
REDUCE = ("sum", "mean", "max", "min", "prod")


def unary(b: Builder) -> None:
    names = [n for n in UNARY if n not in BINARY and n not in LOGIC]
    b.add(b.op(names), [b.pick(is_float)])


def binary(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float or t.dtype is DType.I64)
    if x is not None:
        y = partner(b, x)
        b.add(b.op(sorted(BINARY)), [x, y] if b.boolean() else [y, x])


def partner(b: Builder, x: Value) -> Value:
    """A value that broadcasts with x: another one, or a constant with some axes left out."""
    other = b.pick(lambda t: t.dtype is x.type.dtype and _broadcasts(t, x.type))
    if other is not None and b.boolean():
        return other
    shape = tuple(d if b.boolean() else 1 for d in dims(x))
    return b.constant(x.type.dtype, shape[b.integer(0, x.type.rank) :])


def _broadcasts(t: TensorType, u: TensorType) -> bool:
    return all(1 in (p, q) or p == q for p, q in zip(t.dims[::-1], u.dims[::-1], strict=False))


def parametric(b: Builder) -> None:
    op = b.op(("gelu", "leaky_relu", "elu", "clamp", "cast"))
    dtypes = [d for d in DType if d.is_float or b.planned]  # integer casts jump
    attrs: dict[str, dict[str, object]] = {
        "gelu": {"approximate": b.choice(("none", "tanh"))},
        "leaky_relu": {"slope": 0.01},
        "elu": {"alpha": 1.5},
        "clamp": {"low": -0.5, "high": b.choice((0.5, float("inf")))},
        "cast": {"dtype": b.choice(dtypes)},
    }
    if op is not None:
        b.add(op, [b.pick(is_float)], attrs_of(op, **attrs[op]))


def logic(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype is DType.BOOL or t.dtype is DType.I64)
    if x is None:
        return
    op = b.op((*LOGIC, "logical_not", "bitwise_not"))
    b.add(op, [x] if op in ("logical_not", "bitwise_not") else [x, x])


def select(b: Builder) -> None:
    x = b.pick(is_float)
    if x is not None:
        condition = b.pick(lambda t: t.dtype is DType.BOOL and _broadcasts(t, x.type))
        condition = condition or b.constant(DType.BOOL, dims(x), below=2)
        b.add("where", [condition, x, partner(b, x)])


def reduce(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float and t.rank > 0)
    op = b.op(REDUCE)
    if x is not None and op is not None:
        axes = tuple(a for a in range(x.type.rank) if b.boolean()) or (x.type.rank - 1,)
        b.add(op, [x], attrs_of(op, axes=axes, keepdims=b.boolean()))


def quantify(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype is DType.BOOL and t.rank > 0)
    op = b.op(("any", "all"))
    if x is not None and op is not None:
        b.add(op, [x], attrs_of(op, axes=(x.type.rank - 1,), keepdims=b.boolean()))


def along_axis(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float and t.rank > 0)
    op = b.op(("softmax", "log_softmax", "cumsum", "argmax", "argmin", "topk", "flip"))
    if x is None or op is None:
        return
    axis = b.integer(0, x.type.rank - 1)
    fields: dict[str, object] = {"axis": axis}
    if op in ("argmax", "argmin"):
        fields["keepdims"] = b.boolean()
    elif op == "topk":
        fields |= {"k": b.integer(1, dims(x)[axis]), "largest": b.boolean()}
    elif op == "flip":
        fields = {"axes": (axis,)}
    b.add(op, [x], attrs_of(op, **fields))


def norm(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float and t.rank > 1)
    op = b.op(("layer_norm", "rms_norm"))
    if x is None or op is None:
        return
    n = b.integer(1, x.type.rank - 1)
    shape = dims(x)[-n:]
    weights = [b.positive(shape, x.type.dtype)]
    if op == "layer_norm":
        weights.append(b.constant(x.type.dtype, shape))
    b.add(op, [x, *weights], attrs_of(op, axes=n, eps=1e-5))


def channel_norm(b: Builder) -> None:
    x = b.pick(of_rank(3, 4))
    op = b.op(("group_norm", "batch_norm"))
    if x is None or op is None:
        return
    shape, dtype = dims(x)[1:2], x.type.dtype
    operands = [x, b.positive(shape, dtype), b.constant(dtype, shape)]
    if op == "batch_norm":
        operands += [b.constant(dtype, shape), b.positive(shape, dtype)]
        b.add(op, operands, attrs_of(op, eps=1e-5))
    else:
        groups = b.choice([g for g in (1, 2, 3, shape[0]) if shape[0] % g == 0])
        b.add(op, operands, attrs_of(op, groups=groups, eps=1e-5))


def product(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float and t.rank >= 2)
    op = b.op(("linear", "matmul"))
    if x is None:
        return
    n, k, dtype = b.integer(1, 9), dims(x)[-1], x.type.dtype
    if op == "linear":
        bias = [b.constant(dtype, (n,))] if b.boolean() else []
        b.add(op, [x, b.constant(dtype, (n, k)), *bias])
    else:
        b.add(op, [x, b.constant(dtype, (k, n))])


def choose(b: Builder) -> None:
    """Products whose rows choose their weights; of whole groups, each of any number of rows."""
    op = b.op(("grouped_matmul", "gathered_matmul"))
    x = b.pick(lambda t: t.dtype.is_float and t.rank == (2 if op == "grouped_matmul" else 3))
    if x is None or op is None:
        return
    count, rows, k = b.integer(1, 4), dims(x)[0], dims(x)[-1]
    weights = b.constant(x.type.dtype, (count, k, b.integer(1, 9)))
    if op == "gathered_matmul":
        b.add(op, [x, weights, b.constant(DType.I64, (rows,), below=count + 1)])
        return
    ends = sorted(b.integer(0, rows) for _ in range(count))
    b.add(op, [x, weights, b.keep(np.asarray(ends, b.choice((np.int32, np.int64))))])


def convolve(b: Builder) -> None:
    x = b.pick(of_rank(3, 4))
    if x is None:
        return
    c, spatial, dtype = dims(x)[1], x.type.rank - 2, x.type.dtype
    groups = b.choice([1, c, *(g for g in (2,) if c % g == 0)])
    kernel, out = (b.integer(1, 3),) * spatial, groups * b.integer(1, 2)
    bias = [b.constant(dtype, (out,))] if b.boolean() else []
    attrs = attrs_of(
        "conv", stride=(b.integer(1, 2),) * spatial, dilation=(b.integer(1, 2),) * spatial,
        padding=((b.integer(0, 1), b.integer(0, 2)),) * spatial, groups=groups,
    )  # fmt: skip
    b.add("conv", [x, b.constant(dtype, (out, c // groups, *kernel)), *bias], attrs)


def upsample(b: Builder) -> None:
    x = b.pick(of_rank(3, 4))
    if x is None:
        return
    c, spatial, dtype = dims(x)[1], x.type.rank - 2, x.type.dtype
    if b.boolean() and spatial == 2:
        mode = b.choice(("nearest", "bilinear", "bicubic"))
        size = tuple(d * b.integer(1, 2) for d in dims(x)[2:])
        corners = mode != "nearest" and b.boolean()
        attrs = attrs_of("resize", size=size, mode=mode, align_corners=corners, scales=None)
        b.add("resize", [x], attrs)
        return
    attrs = attrs_of(
        "conv_transpose", stride=(2,) * spatial, padding=(b.integer(0, 1),) * spatial,
        output_padding=(b.integer(0, 1),) * spatial, dilation=(1,) * spatial, groups=1,
    )  # fmt: skip
    b.add("conv_transpose", [x, b.constant(dtype, (c, 2, *(3,) * spatial))], attrs)


def window(b: Builder) -> None:
    x = b.pick(of_rank(3, 4))
    op = b.op(("max_pool", "avg_pool", "adaptive_avg_pool"))
    if x is None or op is None:
        return
    n = x.type.rank - 2
    if op == "adaptive_avg_pool":
        b.add(op, [x], attrs_of(op, size=(b.integer(1, 3),) * n))
        return
    fields: dict[str, object] = {
        "kernel": (b.integer(2, 3),) * n, "stride": (b.integer(1, 2),) * n,
        "padding": ((b.integer(0, 1), b.integer(0, 1)),) * n,
    }  # fmt: skip
    if op == "max_pool":
        fields["dilation"] = (1,) * n
    else:
        fields |= {"count_include_pad": b.boolean(), "divisor": b.choice((None, 5))}
    b.add(op, [x], attrs_of(op, **fields))


def move(b: Builder) -> None:
    x = b.pick(lambda t: t.rank > 0)
    op = b.op(("reshape", "transpose", "expand", "slice", "concat", "relayout"))
    if x is None or op is None:
        return
    shape = dims(x)
    if op == "reshape":
        b.add(op, [x], attrs_of(op, shape=_regrouped(b, shape)))
    elif op == "transpose":
        i = b.integer(0, len(shape) - 1)
        perm = (*range(i, len(shape)), *range(i))
        b.add(op, [x], attrs_of(op, perm=perm))
    elif op == "expand":
        wide = tuple(b.integer(2, 3) if d == 1 else d for d in shape)
        b.add(op, [x], attrs_of(op, shape=(*([2] if b.boolean() else []), *wide)))
    elif op == "slice":
        starts = tuple(b.integer(0, max(d - 1, 0)) for d in shape)
        steps = tuple(b.integer(1, 2) for _ in shape)
        b.add(op, [x], attrs_of(op, starts=starts, stops=shape, steps=steps))
    elif op == "concat":
        b.add(op, [x] * b.integer(1, 3), attrs_of(op, axis=b.integer(0, len(shape) - 1)))
    else:
        b.add(op, [x])


def _regrouped(b: Builder, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The same elements: two axes joined, an axis of 1 added, or everything flat."""
    if len(shape) > 1 and b.boolean():
        i = b.integer(0, len(shape) - 2)
        return (*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :])
    return (1, *shape) if b.boolean() and len(shape) < 5 else (TensorType(DType.F32, shape).numel,)


def pad(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float and 0 < t.rank < 5)
    if x is None:
        return
    sizes = [0 if d < 3 else 1 for d in dims(x)]
    attrs = attrs_of(
        "pad", before=tuple(b.integer(0, s) for s in sizes), after=tuple(sizes),
        value=b.choice((0.0, -1.5)), mode=b.choice(("constant", "reflect", "replicate")),
    )  # fmt: skip
    b.add("pad", [x], attrs)


def index(b: Builder) -> None:
    x = b.pick(lambda t: t.dtype.is_float and t.rank > 0 and t.numel > 0)
    op = b.op(("gather", "take_along", "gather_nd", "scatter_nd", "scatter_along"))
    if x is None or op is None:
        return
    axis, shape, dtype = b.integer(0, x.type.rank - 1), dims(x), x.type.dtype
    if op == "gather":
        indices = b.constant(DType.I64, b.choice([(), (3,), (2, 2)]), below=shape[axis])
        b.add(op, [x, indices], attrs_of(op, axis=axis))
        return
    along = op in ("take_along", "scatter_along")
    region = tuple(2 if i == axis else d for i, d in enumerate(shape)) if along else (3, *shape[1:])
    below = shape[axis] if along else shape[0]
    operands = [x, b.constant(DType.I64, region if along else (3, 1), below=below)]
    fields: dict[str, object] = {"axis": axis} if along else {}
    if op in ("scatter_along", "scatter_nd"):
        operands.append(b.constant(dtype, region))
        fields["accumulate"] = True  # equal indices add up; without it, the last one wins
    b.add(op, operands, attrs_of(op, **fields))


def attend(b: Builder) -> None:
    q = b.pick(of_rank(4))
    if q is None:
        return
    n, h, s, d = dims(q)
    k, v = (b.constant(q.type.dtype, (n, b.choice((1, h)), 5, d)) for _ in range(2))
    causal = b.boolean()
    mask = [b.constant(DType.BOOL, (s, 5), below=2)] if not causal and b.boolean() else []
    attrs = attrs_of("attention", scale=0.25, causal=causal, window=b.choice((0, 0, 2)))
    b.add("attention", [q, k, v, *mask], attrs)


def source(b: Builder) -> None:
    op = b.op(("full", "iota"))
    if op == "full":
        shape = b.choice([(), (8,), (2, 6, 8)])
        b.add(op, [], attrs_of(op, value=0.5, shape=shape, dtype=DType.F32))
    elif op == "iota":
        dtype = b.choice((DType.F32, DType.I64))
        b.add(op, [], attrs_of(op, start=0.0, step=1.0, size=8, dtype=dtype))


def region(b: Builder) -> None:
    """A fused node around `relu(x) + c`."""
    x = b.pick(is_float)
    if x is None or not b.planned or "fused" not in b.allowed:
        return
    inside = Value(x.type, name="p")
    rectified = Node(OPS["relu"], (inside,), NoAttrs(), (x.type,), names=("r",))
    total = Node(OPS["add"], (rectified.result, inside), NoAttrs(), (x.type,), names=("s",))
    body = Graph((inside,), (rectified, total), (total.result,))
    b.append(Node(FUSED, (x,), FusedAttrs("pointwise"), (x.type,), body=body))


RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (unary, frozenset(UNARY) - BINARY - frozenset(LOGIC)),
    (binary, BINARY),
    (parametric, frozenset({"gelu", "leaky_relu", "elu", "clamp", "cast"})),
    (logic, frozenset({*LOGIC, "logical_not", "bitwise_not"})),
    (select, frozenset({"where"})),
    (reduce, frozenset(REDUCE)),
    (quantify, frozenset({"any", "all"})),
    (along_axis, frozenset(
        {"softmax", "log_softmax", "cumsum", "argmax", "argmin", "topk", "flip"}
    )),
    (norm, frozenset({"layer_norm", "rms_norm"})),
    (channel_norm, frozenset({"group_norm", "batch_norm"})),
    (product, frozenset({"linear", "matmul"})),
    (choose, frozenset({"grouped_matmul", "gathered_matmul"})),
    (convolve, frozenset({"conv"})),
    (upsample, frozenset({"resize", "conv_transpose"})),
    (window, frozenset({"max_pool", "avg_pool", "adaptive_avg_pool"})),
    (move, frozenset({"reshape", "transpose", "expand", "slice", "concat", "relayout"})),
    (pad, frozenset({"pad"})),
    (index, frozenset({"gather", "take_along", "gather_nd", "scatter_nd", "scatter_along"})),
    (attend, frozenset({"attention"})),
    (source, frozenset({"full", "iota"})),
    (region, frozenset({"fused"})),
)  # fmt: skip
"""Each rule with the ops it can make."""
