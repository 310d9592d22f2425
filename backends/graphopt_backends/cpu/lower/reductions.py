"""Reduction regions, by rows or by pages of them."""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.lower.decompose import decomposed
from graphopt.lower.region import Lowered, Region
from graphopt.target import Target
from graphopt.tune.space import NOTHING, Parameter, Point, Space
from graphopt_backends.cpu.lower.pages import Pages
from graphopt_backends.cpu.lower.rows import ACCUMULATORS, Rows


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    """By the accumulators of the cost model, or of a `point` of the space."""
    rows = _rows(node, target)
    if point is not None and "accumulators" in point:
        rows.accumulators = point.number("accumulators")
    return Lowered(rows.region.kernel("rows", rows.build()))


def space(node: Node, target: Target) -> Space:
    """How many accumulators a row's vectors are added to in turn."""
    domain = _rows(node, target).domain
    vectors = domain.dims[domain.vector] // target.lanes_f32
    if domain.across or vectors < 2:
        return NOTHING
    return Space((Parameter("accumulators", (1, 2, 4, 8), ACCUMULATORS),))


def _rows(node: Node, target: Target) -> Rows:
    assert node.body is not None
    return Pages(Region(node, target, decomposed(node.body)))
