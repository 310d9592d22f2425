"""Regions whose root is a product: directly, by Winograd's transform or a Strassen-like scheme."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir.graph import Node
from graphopt.lower.products import product_root, products_of
from graphopt.lower.region import Lowered, Region
from graphopt.ops.strassen import SCHEMES
from graphopt.ops.winograd import TRANSFORMS, Transform
from graphopt.target import Target
from graphopt.tune.space import Choice, Point, Space, alternatives
from graphopt_backends.cpu.lower import narrow, strassen, winograd
from graphopt_backends.cpu.lower.contraction import lower_products, products_space


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    """Any region whose root is a sum over a window or an axis: one rule per op."""
    region, root = _rooted(node, target)
    products = products_of(region, root)
    weight = products[0].weight
    m = _chosen("winograd", root, point)
    if weight is not None and m:
        return winograd.lower(region, root, weight.operand, _transforms(root)[m], point)
    scheme = _chosen("strassen", root, point)
    if weight is not None and scheme:
        return strassen.lower(region, root, products[0], SCHEMES[scheme], point)
    sums = narrow.sums_of(region, root, products)
    if sums is not None and _is_narrow(sums, point):
        return sums.lowered(point)
    return lower_products(region, root, products, point)


def space(node: Node, target: Target) -> Space:
    """Tiles; and where another algorithm is allowed, whether it is used at all, and with how large
    tiles or how many products. The fewer, the less it rounds, a direct sum least of all: what is
    allowed covers them."""
    region, root = _rooted(node, target)
    products = products_of(region, root)
    usual = products_space(region, root, products)
    weight = products[0].weight
    if weight is None:
        return usual
    sums = narrow.sums_of(region, root, products)
    if sums is not None:
        usual = alternatives("narrow", {0: usual, 1: sums.space()}, int(sums.win()))
    spaces: dict[Choice, Space] = {0: usual}
    allowed = _allowed("winograd", root)
    if allowed:
        for m, transform in _transforms(root).items():
            if m <= allowed:
                spaces[m] = winograd.space(*_rooted(node, target), weight.operand, transform)
        return alternatives("winograd", spaces, allowed)
    allowed = _allowed("strassen", root)
    for number in (n for n in SCHEMES if n <= allowed):
        again, root = _rooted(node, target)
        first = products_of(again, root)[0]
        if SCHEMES[number].fits(first.depth, first.channels):
            spaces[number] = strassen.space(again, root, first, SCHEMES[number])
    return alternatives("strassen", spaces, allowed) if allowed else spaces[0]


def _is_narrow(sums: narrow.Sums, point: Point | None) -> bool:
    """What a point of the space says, else the estimate."""
    if point is not None and "narrow" in point:
        return bool(point.number("narrow"))
    return sums.win()


def _transforms(root: Node) -> Mapping[int, Transform]:
    """Winograd's of a convolution's taps and stride."""
    stride: tuple[int, ...] = root.attrs.stride  # type: ignore[attr-defined]
    return TRANSFORMS[root.operands[1].type.dims[2], stride[0]]


def _rooted(node: Node, target: Target) -> tuple[Region, Node]:
    region = Region(node, target)
    return region, product_root(region)


def _allowed(algorithm: str, root: Node) -> int:
    """What the graph says of an algorithm: the largest tile, or scheme; 0 forbids it."""
    return int(getattr(root.attrs, algorithm, 0))


def _chosen(algorithm: str, root: Node, point: Point | None) -> int:
    """What a point of the space says, else the graph."""
    told = point is not None and algorithm in point
    return point.number(algorithm) if told and point is not None else _allowed(algorithm, root)
