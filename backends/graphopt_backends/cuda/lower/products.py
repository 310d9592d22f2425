"""Regions whose root is a sum over a window or an axis: which kernel computes it."""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.lower.products import Product, product_root, products_of
from graphopt.lower.region import Lowered
from graphopt.target import Target
from graphopt.tune.space import Point, Space
from graphopt_backends.cuda.lower import simt, skinny, tensor, window
from graphopt_backends.cuda.lower.region import GpuRegion


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    region, root, product = _product(node, target)
    if product.per_channel:
        return window.lower(region, root, product, point)
    if skinny.fits(region, product):
        return skinny.lower(region, root, product, point)
    if tensor.fits(region, product):
        return tensor.lower(region, root, product, point)
    return simt.lower(region, root, product, point)


def space(node: Node, target: Target) -> Space:
    region, root, product = _product(node, target)
    if product.per_channel:
        return window.space(region, root, product)
    if skinny.fits(region, product):
        return skinny.space(region, root, product)
    if tensor.fits(region, product):
        return tensor.space(region, root, product)
    return simt.space(region, root, product)


def _product(node: Node, target: Target) -> tuple[GpuRegion, Node, Product]:
    region = GpuRegion(node, target)
    root = product_root(region)
    (product,) = products_of(region, root)
    return region, root, product
