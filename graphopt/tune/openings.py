"""Regions of which a pass has left open who computes them: the generated kernel, by a point of its
space, or a library. A parameter of their space says who."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir.graph import Node
from graphopt.ops import FusedAttrs
from graphopt.tune.space import NOTHING, Choice, Point, Space, alternatives

KERNEL = "kernel"
_BY = "by"


def is_open(node: Node) -> bool:
    return isinstance(node.attrs, FusedAttrs) and bool(node.attrs.offers)


def open_space(node: Node, of_kernel: Callable[[], Space]) -> Space:
    """The space of a region: of its kernel where nothing is open, else that and who else could
    compute it."""
    if not is_open(node):
        return of_kernel()
    assert isinstance(node.attrs, FusedAttrs)
    offers = node.attrs.offers
    spaces: dict[Choice, Space] = {who: of_kernel() if who == KERNEL else NOTHING for who in offers}
    return alternatives(_BY, spaces, offers[0])


def computed_by(point: Point) -> str:
    """Who a point says computes the region."""
    return str(point.get(_BY, KERNEL))
