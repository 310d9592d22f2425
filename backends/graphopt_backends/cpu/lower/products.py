"""Regions whose root is a product: directly, or by Winograd's transform."""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.lower.products import PackedWeight, packed_weight, product_root, products_of
from graphopt.lower.region import Lowered, Region
from graphopt.ops.winograd import TRANSFORMS
from graphopt.target import Target
from graphopt.tune.space import Choice, Point, Space, alternatives
from graphopt_backends.cpu.lower import winograd
from graphopt_backends.cpu.lower.contraction import lower_products, products_space


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    """Any region whose root is a sum over a window or an axis: one rule per op."""
    region, root = _rooted(node, target)
    weight = _transformable(region, root)
    m = _winograd(root) if point is None or "winograd" not in point else point.number("winograd")
    if weight is not None and m:
        return winograd.lower(region, root, weight.operand, m, point)
    return lower_products(region, root, products_of(region, root), point)


def space(node: Node, target: Target) -> Space:
    """Tiles; and where Winograd is allowed, whether it is used at all, and with how large tiles.
    A smaller tile rounds less, a direct sum least of all: what is allowed covers them."""
    region, root = _rooted(node, target)
    direct = products_space(region, root, products_of(region, root))
    weight, allowed = _transformable(region, root), _winograd(root)
    if weight is None or not allowed:
        return direct
    spaces: dict[Choice, Space] = {0: direct}
    for m in (m for m in TRANSFORMS if m <= allowed):
        spaces[m] = winograd.space(*_rooted(node, target), weight.operand, m)
    return alternatives("winograd", spaces, allowed)


def _rooted(node: Node, target: Target) -> tuple[Region, Node]:
    region = Region(node, target)
    return region, product_root(region)


def _winograd(root: Node) -> int:
    """The largest tile that the graph allows, 0 for none."""
    return int(getattr(root.attrs, "winograd", 0))


def _transformable(region: Region, root: Node) -> PackedWeight | None:
    """The weights, where they can be transformed when the model is compiled."""
    return packed_weight(region, root.operands[1], lambda a: a) if _winograd(root) else None
