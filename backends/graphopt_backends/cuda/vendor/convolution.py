"""A convolution's region as CUTLASS computes it: an implicit product whose rows are pixels, under
the epilogue visitor tree of one.

  conv %x, %w, %b; add %r; relu   →   relu(plus(plus(accumulator, columns(b)), source(r)))

One of 1 x 1 pixel that skips none is a product as others are, which has more schedules.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import DType, TensorType
from graphopt.rewrite import extract
from graphopt_backends.cuda.vendor.geometry import Geometry, geometry
from graphopt_backends.cuda.vendor.match import FUNCTION, Match, Mismatch, convolved
from graphopt_backends.cuda.vendor.matrices import Matrices, channels_last
from graphopt_backends.cuda.vendor.visitor import (
    Columns,
    NoTreeError,
    Product,
    Tree,
    TreeReader,
    aligned,
    check_factor,
    product,
)

_PIXELS = 2**31 - 1
_CORNER = 128
"""TMA's boxes of images begin and end less than this away from a border,"""
_REACH = 255
"""a filter reaches less than this far,"""
_STRIDE = 8
"""and steps this far at most."""


@dataclass(frozen=True)
class Convolution:
    """y = tree(x * w): `x` and `w` are positions of operands, `operands` is how many there are."""

    geometry: Geometry
    x: int
    w: int
    operands: int
    dtype: DType
    result: DType
    tree: Tree


def computed(body: Graph) -> Product | Convolution | Mismatch:
    """All of a region as one kernel of CUTLASS's, or why there is none."""
    if not any(n.op.name == "conv" for n in body.nodes):
        return product(body)
    try:
        return _ConvolutionReader(body).convolution()
    except NoTreeError as said:
        return Mismatch(f"CUTLASS: {said}")


def claimed(body: Graph) -> Match | Mismatch:
    """The nodes that CUTLASS computes: all, but for zeros around the result, which are the next
    convolution's. The first role is the one that may be padded."""
    nodes, inner = body.nodes, body
    last = body.outputs[0].producer
    if last is not None and last.op.name == "pad" and len(nodes) > 1 and len(body.outputs) == 1:
        nodes = tuple(n for n in nodes if n is not last)
        inner = extract(body.inputs, nodes, [last.operands[0]])
    found = computed(inner)
    if isinstance(found, Mismatch):
        return found
    (root,) = (n for n in nodes if n.op.name in FUNCTION)
    first, second = (found.x, found.w) if isinstance(found, Convolution) else (found.a, found.b)
    names = ("x", "w") if root.op.name == "conv" else ("a", "b")
    roles = {names[0]: body.inputs[first], names[1]: body.inputs[second]}
    others = {f"x{i}": v for i, v in enumerate(body.inputs) if i not in (first, second)}
    return Match(root, nodes, {**roles, **others})


def _check_reach(g: Geometry) -> None:
    """What a TMA descriptor of images can say. Raises: NoTreeError."""
    if g.groups > 1:
        raise NoTreeError(f"its channels are in {g.groups} groups")
    if g.pixels > _PIXELS:
        raise NoTreeError("its pixels are too many to count in 32 bits")
    if max(g.stride_h, g.stride_w) > _STRIDE:
        raise NoTreeError(f"TMA does not step {max(g.stride_h, g.stride_w)} pixels")
    for pad, extent, dilation in ((g.pad_h, g.r, g.dilation_h), (g.pad_w, g.s, g.dilation_w)):
        reach = (extent - 1) * dilation
        if reach >= _REACH or not (pad <= _CORNER and -_CORNER <= pad - reach < _CORNER):
            raise NoTreeError(f"TMA does not reach {reach} pixels with {pad} around")


class _ConvolutionReader(TreeReader):
    def __init__(self, body: Graph) -> None:
        super().__init__(body, ("conv",), "convolution")
        found = convolved(self.root)
        if isinstance(found, Mismatch):
            raise NoTreeError(found.reason)
        self.found = found

    def convolution(self) -> Product | Convolution:
        g, x, w, y = (
            geometry(self.found), self.found.roles["x"], self.found.roles["w"], self.result.type,
        )  # fmt: skip
        check_factor(x.type)
        _check_reach(g)
        self.rows_of(x.type, "the input")
        out, tree = self.rows_of(y, "the result"), self.root_tree()
        a, b, count, dtype = self.operand(x), self.operand(w), len(self.body.inputs), x.type.dtype
        if not g.pointwise:  # else it is a product, with more schedules
            return Convolution(g, a, b, count, dtype, y.dtype, tree)
        left, right = (Matrices(1, rows, g.c, g.c, 0) for rows in (g.pixels, g.o))
        return Product(
            g.pixels, g.o, g.c, 1, a, b, count, left, right, out, True, dtype, y.dtype, tree
        )

    def is_columns(self, type: TensorType) -> bool:
        dims = self.root.result.type.dims
        channels = tuple(d if axis == 1 else 1 for axis, d in enumerate(dims))
        return (1,) * (len(dims) - type.rank) + type.dims == channels != dims

    def bias(self, value: Value) -> Tree:
        return Columns(self.operand(value), value.type.dtype)

    def rows_of(self, type: TensorType, what: str) -> Matrices:
        """[n, o, p, q] with its channels last is a matrix of a row for each pixel."""
        if not channels_last(type):
            raise NoTreeError(f"channels of {what} do not lie last")
        o = type.dims[1]
        return aligned(Matrices(1, type.numel // o, o, o, 0), type, what)
