"""Random graphs in which the patterns of one family of passes come up all the time.

`graphopt.check.random_graph` draws from every op evenly: two transposes in a row, or a sum with
minus zero, are rare in it. A soup draws from few ops and telling constants. The same seed gives the
same graph.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, TensorType
from graphopt.ops import OPS
from graphopt.ops.base import Attrs
from graphopt.rewrite import Rewriter

MAX_ELEMENTS = 2048
T = TypeVar("T")


def attrs(op: str, **fields: object) -> Attrs:
    return OPS[op].attrs(**fields)


class Soup:
    """A graph under construction: a pool of values to draw from."""

    def __init__(self, seed: int, *types: TensorType) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        inputs = tuple(Value(t, name=f"x{i}") for i, t in enumerate(types))
        self.rw = Rewriter(Graph(inputs, (), ()))
        self.pool = list(self.rw.inputs)

    def choice(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def draw(self, fits: Callable[[Value], bool] = lambda v: True) -> Value:
        """A value of the pool, rather a late one."""
        found = [v for v in self.pool if fits(v)]
        return found[max(self.random.randrange(len(found)), self.random.randrange(len(found)))]

    def emit(self, op: str, *operands: Value, **fields: object) -> Value:
        value = self.rw.emit(op, *operands, attrs=attrs(op, **fields))
        self.pool.append(value)
        return value

    def splat(self, value: float, like: Value) -> Value:
        shape = self.choice([(), like.type.dims, like.type.dims[-1:], (1,) * like.type.rank])
        fields = {"value": value, "shape": shape, "dtype": like.type.dtype}
        return self.rw.emit("full", attrs=attrs("full", **fields))

    def array(self, *shape: int, dtype: type = np.float32) -> Value:
        return self.rw.constant(self.numbers.standard_normal(shape).astype(dtype) * 0.5)

    def finish(self) -> Graph:
        unread = [v for v in self.pool if not self.rw.users(v) and v.producer is not None]
        self.rw.outputs = unread[-4:] or [self.pool[-1]]
        return self.rw.freeze()


F32 = DType.F32
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 8.0, 3.0)


def arithmetic(seed: int, *, smooth: bool = False) -> Graph:
    """Identities, signs and powers of two; `smooth`: nothing that jumps or leaves the reals."""
    dtype = DType.I64 if not smooth and seed % 4 == 0 else F32
    soup = Soup(seed, TensorType(dtype, (3, 4)), TensorType(dtype, (3, 4)))
    binary = ["add", "sub", "mul"] + (["div"] if dtype is F32 else [])
    unary = ["neg", "abs"] + ([] if smooth else ["sign", "round", "floor"])
    unary += ["sigmoid", "sqrt", "reciprocal"] if dtype is F32 and not smooth else []
    for _ in range(14):
        x = soup.draw()
        kind = soup.random.random()
        if kind < 0.3:
            soup.emit(soup.choice(unary), x)
        elif kind < 0.8 or smooth:
            op = soup.choice(binary)
            number = soup.choice([n for n in NUMBERS if n or op != "div"])
            known = soup.splat(number, x) if soup.random.random() < 0.8 else soup.array(4)
            if dtype is not F32 or (op == "div" and known.producer is not None and smooth):
                known = soup.splat(number, x)
            pair = (x, known) if op == "div" or soup.random.random() < 0.7 else (known, x)
            soup.emit(op, *pair)
        else:
            soup.emit(soup.choice(binary), x, soup.draw())
    return soup.finish()


def clamps(seed: int) -> Graph:
    soup = Soup(seed, TensorType(F32, (3, 4)))
    for _ in range(10):
        x, op = soup.draw(), soup.choice(["relu", "clamp", "clamp", "maximum", "minimum", "exp"])
        low, high = soup.choice([-math.inf, -1.0, 0.0, 0.5]), soup.choice([0.0, 0.7, 6.0, math.inf])
        if op == "clamp":
            soup.emit(op, x, low=low, high=high)
        elif op in ("maximum", "minimum"):
            limit = soup.splat(soup.choice([-1.0, 0.0, 2.0]), x)
            soup.emit(op, *soup.choice([(x, limit), (limit, x)]))
        else:
            soup.emit(op, x)
    return soup.finish()


def logic(seed: int) -> Graph:
    shape = (3, 4)
    soup = Soup(seed, *(TensorType(d, shape) for d in (F32, F32, DType.I64, DType.BOOL)))
    compare = ("eq", "ne", "lt", "le", "gt", "ge")
    for _ in range(14):
        p = soup.draw(lambda v: v.type.dtype is DType.BOOL)
        x = soup.draw(lambda v: v.type.dtype is not DType.BOOL)
        op = soup.choice([*compare, "and", "or", "xor", "logical_not", "bitwise_not", "where",
                          "maximum"])  # fmt: skip
        if op in compare or op == "maximum":
            y = soup.choice([x, soup.draw(lambda v, x=x: v.type == x.type)])  # type: ignore[misc]
            soup.emit(op, x, y)
        elif op in ("logical_not", "bitwise_not"):
            soup.emit(op, p)
        elif op == "where":
            y = soup.draw(lambda v, x=x: v.type == x.type)  # type: ignore[misc]
            soup.emit(op, soup.choice([p, soup.splat(soup.choice([0.0, 1.0]), p)]), x, y)
        else:
            known = soup.splat(soup.choice([0.0, 1.0]), p)
            soup.emit(op, p, soup.choice([p, known, soup.draw(lambda v, p=p: v.type == p.type)]))  # type: ignore[misc]
    return soup.finish()


def casts(seed: int) -> Graph:
    types = [TensorType(d, (3, 4)) for d in (F32, DType.I64, DType.BOOL)]
    soup = Soup(seed, *types)
    for _ in range(10):
        x = soup.draw()
        # A negative float has no meaning as an unsigned integer.
        dtypes = [d for d in DType if d is not DType.U8 or not x.type.dtype.is_float]
        soup.emit("cast", x, dtype=soup.choice(dtypes))
        y = soup.draw()
        if not y.type.dtype.is_float:
            soup.emit("ne", y, soup.splat(0.0, y))
    return soup.finish()


# Views -------------------------------------------------------------------------------------------


def _reshape(soup: Soup, x: Value) -> None:
    dims, i = list(x.type.dims), soup.random.randrange(x.type.rank)
    factors = [f for f in (1, 2, 3) if dims[i] % f == 0]
    choices = [[*dims[:i], f, dims[i] // f, *dims[i + 1 :]] for f in factors]
    if i + 1 < len(dims):
        choices.append([*dims[:i], dims[i] * dims[i + 1], *dims[i + 2 :]])
    if 1 in dims and len(dims) > 1:
        choices.append([d for d in dims if d != 1] or [1])
    shape = soup.choice(choices)
    if len(shape) <= 5:
        soup.emit("reshape", x, shape=tuple(shape))


def _slice(soup: Soup, x: Value) -> None:
    starts, stops, steps = [], [], []
    for d in x.type.dims:
        cut = soup.random.random() < 0.4
        starts.append(soup.random.randint(0, d) if cut and d else 0)
        stops.append(soup.random.randint(starts[-1], d) if cut else d)
        steps.append(soup.choice([1, 1, 2]))
    soup.emit("slice", x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def _cut_and_join(soup: Soup, x: Value) -> None:
    """Two slices, mostly neighbours, and a concat of them or of other values."""
    axis = soup.random.randrange(x.type.rank)
    d, zeros, ones = x.type.dims, [0] * x.type.rank, (1,) * x.type.rank
    at = soup.random.randint(0, d[axis])
    right, left = zeros.copy(), list(d)
    right[axis], left[axis] = min(at + soup.choice([0, 0, 1]), d[axis]), at
    parts = [
        soup.emit("slice", x, starts=tuple(zeros), stops=tuple(left), steps=ones),
        soup.emit("slice", x, starts=tuple(right), stops=d, steps=ones),
    ]
    if soup.random.random() < 0.3:
        parts.reverse()
    parts += soup.choice([[], [x]])
    soup.emit("concat", *parts, axis=axis)


def _pad(soup: Soup, x: Value) -> None:
    for _ in range(soup.choice([1, 2])):
        before, after = (tuple(soup.choice([0, 0, 1]) for _ in x.type.dims) for _ in range(2))
        value = soup.choice([0.0, 0.0, 1.5])
        x = soup.emit("pad", x, before=before, after=after, value=value, mode="constant")


def _expand(soup: Soup, x: Value) -> None:
    wide = tuple(soup.choice([1, 3]) if d == 1 else d for d in x.type.dims)
    soup.emit("expand", x, shape=(*soup.choice([(), (2,)]), *wide))


def _transpose(soup: Soup, x: Value) -> None:
    perm = list(range(x.type.rank))
    soup.random.shuffle(perm)
    soup.emit("transpose", x, perm=tuple(perm))


def _flip(soup: Soup, x: Value) -> None:
    axes = [a for a in range(x.type.rank) if soup.random.random() < 0.5]
    soup.emit("flip", x, axes=tuple(axes or [0]))


def _gather(soup: Soup, x: Value) -> None:
    axis = soup.random.randrange(x.type.rank)
    d = x.type.dims[axis]
    if d:
        start, step = soup.random.randrange(d), soup.choice([1, 1, 2, -1])
        at = np.arange(start, d, step) if step > 0 else np.arange(start, -1, step)
        at = soup.choice([at, at[0], at - d])
        soup.emit("gather", x, soup.rw.constant(np.asarray(at, np.int64)), axis=axis)


def _add_expanded(soup: Soup, x: Value) -> None:
    row = soup.array(*x.type.dims[-1:])
    wide = soup.rw.emit("expand", row, attrs=attrs("expand", shape=x.type.dims))
    soup.emit(soup.choice(["add", "mul"]), x, wide)


def views(seed: int) -> Graph:
    soup = Soup(seed, TensorType(F32, (2, 6, 4)), TensorType(F32, (1, 4, 1, 6)))
    steps = (_reshape, _reshape, _transpose, _transpose, _slice, _slice, _cut_and_join, _pad,
             _expand, _flip, _gather, _add_expanded)  # fmt: skip
    for _ in range(14):
        x = soup.draw(lambda v: 0 < v.type.rank < 5 and v.type.numel <= MAX_ELEMENTS)
        soup.choice(steps)(soup, x)
    return soup.finish()


# Products ----------------------------------------------------------------------------------------


def _product(soup: Soup, x: Value) -> Value:
    n, k = soup.choice([4, 6]), x.type.dims[-1]
    kind = soup.choice(["linear", "linear", "matmul", "conv"])
    if kind == "conv" and x.type.rank == 4:
        c, groups = x.type.dims[1], soup.choice([1, 2])
        groups = groups if c % groups == 0 else 1
        w = soup.array(2 * groups, c // groups, 1, 1)
        bias = [soup.array(2 * groups)] if soup.random.random() < 0.5 else []
        return soup.emit("conv", x, w, *bias, stride=(1, 1), padding=((0, 0), (0, 0)),
                         dilation=(1, 1), groups=groups)  # fmt: skip
    if kind == "matmul":
        return soup.emit("matmul", x, soup.array(k, n))
    bias = [soup.array(n)] if soup.random.random() < 0.5 else []
    return soup.emit("linear", x, soup.array(n, k), *bias)


def _follow(soup: Soup, x: Value) -> Value:
    """What stands behind a product in models: scales, sums, activations, views, residuals."""
    d, rank = x.type.dims, x.type.rank
    channel = soup.choice([(d[-1],), (d[1], *(1,) * (rank - 2)) if rank > 2 else (), ()])
    kind = soup.choice(["mul", "add", "act", "transpose", "rows", "residual", "heads"])
    if kind in ("mul", "add"):
        return soup.emit(kind, x, soup.array(*channel))
    if kind == "act":
        return soup.emit(soup.choice(["relu", "sigmoid", "tanh"]), x)
    if kind == "transpose":
        perm = soup.choice(
            [p for p in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1), (1, 0)) if len(p) == rank]
        )
        return soup.emit("transpose", x, perm=perm)
    if kind == "residual":
        other = soup.draw(lambda v: v.type == x.type)
        return soup.emit("add", x, other)
    if kind == "rows" or d[-1] % 2 or rank > 3:
        shape = (math.prod(d[:-1]), d[-1]) if rank > 2 else (2, d[0] // 2, d[1])
        return soup.emit("reshape", x, shape=shape) if d[0] % 2 == 0 or rank > 2 else x
    inner = d[-1] // 2
    part = soup.emit("slice", x, starts=(0,) * rank, stops=(*d[:-1], inner), steps=(1,) * rank)
    return soup.emit("reshape", part, shape=(*d[:-1], *soup.choice([(1, inner), (inner, 1)])))


def products(seed: int) -> Graph:
    shapes = [(2, 4, 6, 4), (2, 6, 4), (8, 4)]
    soup = Soup(seed, *(TensorType(F32, s) for s in shapes))
    for _ in range(4):
        x = soup.draw(lambda v: 2 <= v.type.rank <= 4 and v.type.numel <= MAX_ELEMENTS)
        for _ in range(soup.choice([1, 1, 2])):
            y = _product(soup, x)
        for _ in range(soup.random.randint(1, 5)):
            if 2 <= y.type.rank <= 4:
                y = _follow(soup, y)
    return soup.finish()


def _image_step(soup: Soup, x: Value) -> Value:
    """A convolution of some kind, or what stands between two."""
    c = x.type.dims[1]
    kinds = ["pointwise", "pointwise", "depthwise", "depthwise", "act", "residual", "tokens"]
    kind = soup.choice(kinds)
    if kind == "tokens":
        return _through_tokens(soup, x)
    if kind == "act":
        return soup.emit(soup.choice(["relu", "sigmoid"]), x)
    if kind == "residual":
        return soup.emit("add", x, soup.draw(lambda v: v.type == x.type))
    channels = c if kind == "depthwise" else soup.choice([2, 3, 6])
    groups, k = (c, 3) if kind == "depthwise" and c > 1 else (1, soup.choice([1, 1, 3]))
    pad = (k // 2, k // 2)
    bias = [soup.array(channels)] if soup.random.random() < 0.5 else []
    stride = soup.choice([1, 1, 2])
    return soup.emit("conv", x, soup.array(channels, c // groups, k, k), *bias,
                     stride=(stride, stride if k > 1 else 1), padding=(pad, pad), dilation=(1, 1),
                     groups=groups)  # fmt: skip


def _through_tokens(soup: Soup, x: Value) -> Value:
    """A linear layer at every pixel of an image that is flattened for it."""
    n, c, height, width = x.type.dims
    flat = soup.emit("reshape", x, shape=(n, c, height * width))
    tokens = soup.emit("transpose", flat, perm=(0, 2, 1))
    bias = [soup.array(c)] if soup.random.random() < 0.5 else []
    y = soup.emit("linear", tokens, soup.array(c, c), *bias)
    turned = soup.emit("transpose", y, perm=(0, 2, 1))
    return soup.emit("reshape", turned, shape=(n, c, height, width))


def residuals(seed: int) -> Graph:
    """Chains of pointwise and depthwise convolutions, with readers in between."""
    soup = Soup(seed, TensorType(F32, (1, 3, 8, 7)), TensorType(F32, (2, 2, 5, 6)))
    for _ in range(3):
        y = soup.draw(lambda v: v.type.rank == 4)
        for _ in range(soup.random.randint(3, 6)):
            y = _image_step(soup, y)
    return soup.finish()


# Composites --------------------------------------------------------------------------------------


def _commuted(soup: Soup, op: str, x: Value, y: Value) -> Value:
    return soup.rw.emit(op, *soup.choice([(x, y), (y, x)]))


def _gelu(soup: Soup, x: Value, off: bool) -> Value:
    numbers = [0.5, 0.044715 * (1.01 if off else 1), math.sqrt(2 / math.pi), 1.0]
    half, cubic, root, one = (soup.splat(n, x) for n in numbers)
    cube = _commuted(soup, "mul", _commuted(soup, "mul", x, x), x)
    inside = _commuted(soup, "add", x, _commuted(soup, "mul", cube, cubic))
    tanh = soup.rw.emit("tanh", _commuted(soup, "mul", inside, root))
    return _commuted(
        soup, "mul", _commuted(soup, "mul", x, half), _commuted(soup, "add", tanh, one)
    )


def _silu(soup: Soup, x: Value, off: bool) -> Value:
    scaled = _commuted(soup, "mul", x, soup.splat(soup.choice([1.702, -2.0]), x))
    return _commuted(soup, "mul", scaled if off else x, soup.rw.emit("sigmoid", scaled))


def _rms(soup: Soup, x: Value, off: bool) -> Value:
    axis = 0 if off else x.type.rank - 1
    square = soup.rw.emit("mul", x, x)
    mean = soup.rw.emit("mean", square, attrs=attrs("mean", axes=(axis,), keepdims=True))
    shifted = _commuted(soup, "add", mean, soup.splat(0.01, mean))
    if soup.random.random() < 0.5:
        normed = _commuted(soup, "mul", x, soup.rw.emit("rsqrt", shifted))
    else:
        normed = soup.rw.emit("div", x, soup.rw.emit("sqrt", shifted))
    return _commuted(soup, "mul", normed, soup.array(x.type.dims[-1]))


def composites(seed: int) -> Graph:
    soup = Soup(seed, TensorType(F32, (4, 6)))
    for _ in range(4):
        make = soup.choice([_gelu, _silu, _rms])
        soup.pool.append(make(soup, soup.draw(), soup.random.random() < 0.25))
    return soup.finish()


def attentions(seed: int) -> Graph:
    soup = Soup(seed, *(TensorType(F32, (2, h, 5, 4)) for h in (4, 2, 2)))
    q, *keys = soup.rw.inputs
    for _ in range(3):
        inputs = [q]
        for x in keys:
            if soup.random.random() < 0.7:
                split = soup.choice([(2, 2, 1, 5, 4), (2, 1, 2, 5, 4)])
                x = soup.emit("reshape", x, shape=split)
                x = soup.emit("expand", x, shape=(2, 2, 2, 5, 4))
                x = soup.emit("reshape", x, shape=(2, 4, 5, 4))
            inputs.append(x)
        if inputs[1].type != inputs[2].type:
            continue
        tri = np.tri(5, dtype=np.bool_)
        added = np.where(tri, 0, -np.inf).astype(np.float32)
        masks = [
            np.ones((5, 5), np.bool_),
            tri,
            tri.T,
            added,
            np.zeros((5, 5), np.float32),
            tri[None],
            np.tri(5, k=1, dtype=np.bool_) & np.tri(5, k=1, dtype=np.bool_).T,
        ]
        mask = soup.choice([None, *masks])
        operands = inputs if mask is None else [*inputs, soup.rw.constant(mask)]
        causal, window = soup.choice([False, False, True]), soup.choice([0, 0, 3])
        soup.emit("attention", *operands, scale=0.5, causal=causal, window=window)
    if soup.pool[-1].producer is None:
        soup.emit("relu", q)
    return soup.finish()


def dead(seed: int) -> Graph:
    """Only the first output is still wanted."""
    graph = attentions(seed) if seed % 2 else arithmetic(seed)
    return replace(graph, outputs=graph.outputs[:1])


SOUPS: Mapping[str, Callable[[int], Graph]] = {
    "arithmetic": arithmetic,
    "smooth": lambda seed: arithmetic(seed, smooth=True),
    "clamps": clamps,
    "logic": logic,
    "casts": casts,
    "views": views,
    "products": products,
    "residuals": residuals,
    "composites": composites,
    "attentions": attentions,
    "dead": dead,
}
