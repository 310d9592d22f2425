"""Regions whose root is attention: a few queries by themselves, many on tensor cores where they are
halves, or not."""

from __future__ import annotations

from graphopt.ir.graph import Node
from graphopt.lower.region import Lowered
from graphopt.target import Target
from graphopt.tune.space import Parameter, Point, Space, with_parameter
from graphopt_backends.cuda.lower import decode_shape, flash_simt, flash_tensor
from graphopt_backends.cuda.lower.decode import Decode
from graphopt_backends.cuda.lower.flash import Attention, Tile
from graphopt_backends.cuda.lower.grid import grid
from graphopt_backends.cuda.lower.region import GpuRegion


def lower(node: Node, target: Target, point: Point | None = None) -> Lowered:
    region, root = _rooted(node, target)
    if decode_shape.fits(region, root):
        few = Decode(region, root, point)
        return Lowered(region.kernel("decode", few.grids()), label=few.label)
    attention, tiles = _attention(region, root)
    if point is not None:
        attention.tile = next(t for t in tiles if str(t) == point["tile"])
    kernel = region.kernel("attention", grid(region, [attention.part()]))
    return Lowered(kernel, label=str(attention.tile))


def space(node: Node, target: Target) -> Space:
    region, root = _rooted(node, target)
    if decode_shape.fits(region, root):
        few = Decode(region, root)
        counts = Space((Parameter("threads", few.counts(), few.threads),))
        return with_parameter(counts, Parameter("parts", few.divisions(), few.parts))
    attention, tiles = _attention(region, root)
    fitting = tuple(str(t) for t in tiles if attention.fits(t))
    return Space((Parameter("tile", fitting, str(attention.tile)),))


def _rooted(node: Node, target: Target) -> tuple[GpuRegion, Node]:
    region = GpuRegion(node, target)
    return region, next(n for n in region.body.nodes if n.op.name == "attention")


def _attention(region: GpuRegion, root: Node) -> tuple[Attention, tuple[Tile, ...]]:
    if flash_tensor.fits(region):
        return flash_tensor.TensorAttention(region, root), flash_tensor.TILES
    return flash_simt.SimtAttention(region, root), flash_simt.TILES
