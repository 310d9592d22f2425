"""Which op is which `Product`: linear layers, matrix products, convolution and pooling as sums over
k of left * right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.kernel.ir import INDEX, Expr, binary, cast, const, index_const
from graphopt.lower.access import Index
from graphopt.lower.pieces import interior
from graphopt.lower.region import Region

_FIRST = index_const(0)
Axes = dict[str, Expr]
"""Axis name → index expression."""


@dataclass(frozen=True)
class PackedWeight:
    """A constant right factor: the region operand it is, `matrix(array)` → [groups?, K, N] with K
    in the order of `Product.reduced`, where its panels start in the packed weight, in elements (a
    transposed convolution packs one matrix per phase), and how many matrices there are."""

    operand: int
    matrix: Callable[[np.ndarray], np.ndarray]
    start: Expr = _FIRST
    groups: int = 1


Factor = Callable[[Axes, Expr, Axes], Expr]
"""`factor(m, n, k)`: an element at output position m, channel n, reduction index k."""


@dataclass(frozen=True)
class Product:
    """`out[m..., n] = sum over k... of left(m, n, k) * right(m, n, k)`, or with `combine` another
    reduction; without `right` a reduction of `left` alone.

    `positions` are the m axes (name, extent) in the memory order of the result, but that of a
    matrix's rows last where each of a batch has a right factor of its own; `reduced` are the k
    axes; `channels` is the extent of n, along which vectors run. `weight` is set when the right
    factor is a constant that can be packed. `finish(accumulated, m, n)` makes the root's value.
    `per_channel`: left runs along the channels too (depthwise, pooling). `group(m)`: which of the
    weight's matrices a position is multiplied by. `chooses`: the axis of positions along which that
    is data, and `chosen(m)` whether a position has any: where it has none its sum is 0.
    """

    positions: tuple[tuple[str, int], ...]
    reduced: tuple[tuple[str, int], ...]
    channels: int
    left: Factor
    right: Factor | None
    result_index: Callable[[Axes, Expr], Index]
    weight: PackedWeight | None = None
    combine: str = "+"
    finish: Callable[[Expr, Axes, Expr], Expr] = lambda acc, m, n: acc
    per_channel: bool = False
    group: Callable[[Axes], Expr] = lambda m: m.get("g", _FIRST)
    chooses: str = ""
    chosen: Callable[[Axes], Expr] | None = None

    @property
    def depth(self) -> int:
        """K: steps of the reduction."""
        return math.prod(e for _, e in self.reduced)


def products_of(region: Region, root: Node) -> list[Product]:
    """The sums that a root is made of."""
    return _RULES[root.op.name](region, root)


def product_of(region: Region, root: Node) -> Product:
    """The sum that a region's root is."""
    (product,) = products_of(region, root)
    return product


def product_root(region: Region) -> Node:
    """The node of a region that is a product."""
    return next(n for n in region.body.nodes if n.op.name in _RULES)


def stored_value(result: Value, root: Node) -> tuple[Value, tuple[int, ...]]:
    """What is stored where: a padded result stores its operand past the border."""
    producer = result.producer
    if producer is not None and producer.op.name == "pad":
        piece = interior(result)
        assert piece.value is not None
        return piece.value, piece.start
    if result.type.dims != root.result.type.dims:
        raise UnsupportedError(f"epilogue of {root.op.name} at {root.loc} changes the shape")
    return result, (0,) * result.type.rank


def packed_weight(
    region: Region, value: Value, matrix: Callable[[np.ndarray], np.ndarray], groups: int = 1
) -> PackedWeight | None:
    """How to pack a factor that is a constant of the model; None for one computed at run time."""
    if value.producer is not None:
        return None
    position = region.body.inputs.index(value)
    outer = region.node.operands[position].producer
    if outer is None or outer.op.name != "constant":
        return None
    return PackedWeight(position, matrix, groups=groups)


def _biased(
    region: Region, root: Node, channel: Callable[[Axes, Expr], Expr]
) -> Callable[[Expr, Axes, Expr], Expr]:
    """Adds the bias, the root's third operand, where it has one."""
    if len(root.operands) < 3:
        return lambda acc, m, n: acc
    bias = root.operands[2]
    return lambda acc, m, n: binary("+", acc, region.access.at(bias, (channel(m, n),)))


def _positions(region: Region, root: Node, last: int) -> list[int]:
    """Axes of the result but the channel axis, in the memory order of the region's result."""
    order = region.body.outputs[0].type.order
    rank = root.result.type.rank
    return [a for a in (order if len(order) == rank else range(rank)) if a != last % rank]


def _linear(region: Region, root: Node) -> list[Product]:
    x, w = root.operands[:2]
    rank, dims = root.result.type.rank, root.result.type.dims
    access = region.access

    def left(m: Axes, n: Expr, k: Axes) -> Expr:
        del n
        return access.at(x, (*(m[f"m{a}"] for a in range(rank - 1)), k["k"]))

    def right(m: Axes, n: Expr, k: Axes) -> Expr:
        del m
        return access.at(w, (n, k["k"]))

    product = Product(
        tuple((f"m{a}", dims[a]) for a in _positions(region, root, -1)),
        (("k", x.type.dims[-1]),),
        dims[-1],
        left,
        right,
        lambda m, n: (*(m[f"m{a}"] for a in range(rank - 1)), n),
        packed_weight(region, w, lambda array: array.T),
        finish=_biased(region, root, lambda m, n: n),
    )
    return [product]


def _matmul(region: Region, root: Node) -> list[Product]:
    a, b = root.operands
    rank, dims = root.result.type.rank, root.result.type.dims
    access = region.access

    def batch(m: Axes) -> list[Expr]:
        return [m[f"m{i}"] for i in range(rank - 2)]

    def left(m: Axes, n: Expr, k: Axes) -> Expr:
        del n
        return access.broadcast_at(a, (*batch(m), m[f"m{rank - 2}"], k["k"]))

    def right(m: Axes, n: Expr, k: Axes) -> Expr:
        return access.broadcast_at(b, (*batch(m), k["k"], n))

    positions = _positions(region, root, -1)
    if any(d > 1 for d in b.type.dims[:-2]):
        positions.sort(key=lambda axis: axis == rank - 2)  # a tile of several matrices shares none

    product = Product(
        tuple((f"m{i}", dims[i]) for i in positions),
        (("k", a.type.dims[-1]),),
        dims[-1],
        left,
        right,
        lambda m, n: (*(m[f"m{i}"] for i in range(rank - 1)), n),
        packed_weight(region, b, lambda array: array) if b.type.rank == 2 else None,
    )
    return [product]


def _gathered_matmul(region: Region, root: Node) -> list[Product]:
    """Blocks of rows, each by the matrix that its index names."""
    x, w, index = root.operands
    access, (blocks, rows, channels) = region.access, root.result.type.dims
    count = w.type.dims[0]

    def which(m: Axes) -> Expr:
        return cast(access.at(index, (m["b"],)), INDEX)

    def group(m: Axes) -> Expr:
        """Some matrix where the index names none: all of them may be read."""
        return binary("max", binary("min", which(m), index_const(count - 1)), _FIRST)

    def chosen(m: Axes) -> Expr:
        named = binary("<", which(m), index_const(count))
        return binary("and", binary(">=", which(m), _FIRST), named)

    def left(m: Axes, n: Expr, k: Axes) -> Expr:
        del n
        return access.at(x, (m["b"], m["m"], k["k"]))

    product = Product(
        (("b", blocks), ("m", rows)),
        (("k", w.type.dims[1]),),
        channels,
        left,
        lambda m, n, k: access.at(w, (group(m), k["k"], n)),
        lambda m, n: (m["b"], m["m"], n),
        packed_weight(region, w, lambda array: array, count),
        group=group,
        chooses="b",
        chosen=chosen,
    )
    return [product]


class _Window:
    """Index arithmetic of a sliding window: `s0, s1, ...` are output positions, `k0, k1, ...`
    positions in the window."""

    def __init__(self, region: Region, root: Node, kernel: tuple[int, ...]) -> None:
        self.region, self.root, self.kernel = region, root, kernel
        self.spatial = range(len(kernel))
        self.x = root.operands[0]
        padding = getattr(root.attrs, "padding", ())
        if any(p not in ((0, 0), 0) for p in padding):
            raise UnsupportedError(
                f"{root.op.name} at {root.loc} still has padding",
                hint="run the pass explicit-padding first",
            )

    def positions(self) -> tuple[tuple[str, int], ...]:
        dims = self.root.result.type.dims
        names = {0: "n", **{a + 2: f"s{a}" for a in self.spatial}}
        return tuple((names[a], dims[a]) for a in _positions(self.region, self.root, 1))

    def reduced(self) -> tuple[tuple[str, int], ...]:
        return tuple((f"k{a}", e) for a, e in enumerate(self.kernel))

    def read(self, m: Axes, channel: Expr, k: Axes) -> Expr:
        """The input element under position k of the window at output position m."""
        pixels = [self._pixel(m, k, a) for a in self.spatial]
        return self.region.access.at(self.x, (m["n"], channel, *pixels))

    def index(self, m: Axes, channel: Expr) -> tuple[Expr, ...]:
        return (m["n"], channel, *(m[f"s{a}"] for a in self.spatial))

    def _pixel(self, m: Axes, k: Axes, axis: int) -> Expr:
        attrs = self.root.attrs
        dilation = getattr(attrs, "dilation", (1,) * len(self.kernel))[axis]
        start = binary("*", m[f"s{axis}"], index_const(attrs.stride[axis]))  # type: ignore[attr-defined]
        return binary("+", start, binary("*", k[f"k{axis}"], index_const(dilation)))


def _conv(region: Region, root: Node) -> list[Product]:
    """Implicit GEMM: k runs over (kernel..., channels of the group), where neighbouring pixels of
    a channels-last image lie adjacent, so that the kernel's row and the channels fuse."""
    w = root.operands[1]
    groups: int = root.attrs.groups  # type: ignore[attr-defined]
    if groups > 1 and w.type.dims[:2] == (groups, 1):
        return _depthwise(region, root)
    window = _Window(region, root, w.type.dims[2:])
    per_group, channels = w.type.dims[1], w.type.dims[0] // groups

    def group(m: Axes) -> Expr:
        return m.get("g", _FIRST)

    def left(m: Axes, n: Expr, k: Axes) -> Expr:
        del n
        c = binary("+", binary("*", group(m), index_const(per_group)), k["c"])
        return window.read(m, c, k)

    def channel(m: Axes, n: Expr) -> Expr:
        return binary("+", binary("*", group(m), index_const(channels)), n)

    def right(m: Axes, n: Expr, k: Axes) -> Expr:
        taps = (k[f"k{a}"] for a in window.spatial)
        return region.access.at(w, (channel(m, n), k["c"], *taps))

    def matrix(array: np.ndarray) -> np.ndarray:
        """[o, c/g, *k] to [g, (*k, c), o/g]."""
        shaped = array.reshape(groups, channels, per_group, -1)
        return shaped.transpose(0, 3, 2, 1).reshape(groups, -1, channels)

    positions = list(window.positions())
    if groups > 1:
        positions.insert(1, ("g", groups))
    product = Product(
        tuple(positions),
        (*window.reduced(), ("c", per_group)),
        channels,
        left,
        right,
        lambda m, n: window.index(m, channel(m, n)),
        packed_weight(region, w, matrix, groups),
        finish=_biased(region, root, channel),
    )
    return [product]


def _depthwise(region: Region, root: Node) -> list[Product]:
    """One filter per channel: vectors of channels, no sum over them."""
    w = root.operands[1]
    window = _Window(region, root, w.type.dims[2:])
    product = Product(
        window.positions(),
        window.reduced(),
        w.type.dims[0],
        lambda m, n, k: window.read(m, n, k),
        lambda m, n, k: region.access.at(
            w, (n, index_const(0), *(k[f"k{a}"] for a in window.spatial))
        ),
        window.index,
        packed_weight(region, w, lambda array: array.reshape(array.shape[0], -1).T),
        finish=_biased(region, root, lambda m, n: n),
        per_channel=True,
    )
    return [product]


def _pool(region: Region, root: Node) -> list[Product]:
    window = _Window(region, root, root.attrs.kernel)  # type: ignore[attr-defined]
    average = root.op.name == "avg_pool"
    count = math.prod(window.kernel)
    divisor = getattr(root.attrs, "divisor", None) or count

    def finish(acc: Expr, m: Axes, n: Expr) -> Expr:
        del m, n
        return binary("*", acc, const(1 / divisor, acc.dtype)) if average else acc

    product = Product(
        window.positions(),
        window.reduced(),
        root.result.type.dims[1],
        lambda m, n, k: window.read(m, n, k),
        None,
        window.index,
        combine="+" if average else "max",
        finish=finish,
        per_channel=True,
    )
    return [product]


_RULES: Mapping[str, Callable[[Region, Node], list[Product]]] = {
    "linear": _linear,
    "matmul": _matmul,
    "gathered_matmul": _gathered_matmul,
    "conv": _conv,
    "max_pool": _pool,
    "avg_pool": _pool,
}
