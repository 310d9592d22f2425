"""Regions whose root is attention: on tensor cores where its factors are halves, or not."""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.lower.region import Lowered
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space
from graphopt_backends.cuda.lower import flash_simt, flash_tensor
from graphopt_backends.cuda.lower.flash import Attention, Tile
from graphopt_backends.cuda.lower.grid import grid
from graphopt_backends.cuda.lower.region import GpuRegion


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    attention, tiles = _attention(node, target)
    if point is not None:
        attention.tile = next(t for t in tiles if str(t) == point["tile"])
    region = attention.region
    kernel = region.kernel("attention", grid(region, [attention.part()]))
    return Lowered(kernel, label=str(attention.tile))


def space(node: Node, target: Target) -> Space:
    attention, tiles = _attention(node, target)
    fitting = tuple(str(t) for t in tiles if attention.fits(t))
    return Space((Parameter("tile", fitting, str(attention.tile)),))


def _attention(node: Node, target: Target) -> tuple[Attention, tuple[Tile, ...]]:
    region = GpuRegion(node, target)
    root = next(n for n in region.body.nodes if n.op.name == "attention")
    if flash_tensor.fits(region):
        return flash_tensor.TensorAttention(region, root), flash_tensor.TILES
    return flash_simt.SimtAttention(region, root), flash_simt.TILES
