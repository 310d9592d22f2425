"""Chains of convolutions by strips of output rows: their sizes, and what strips cost and save.

A chain is a convolution (`expand`), a depthwise convolution over its result, and a product at every
pixel of that (`project`); it may lack its first or its last link. By strips, what lies between the
links never leaves the level 2 cache; the rows where the windows of two strips overlap are expanded
twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import TensorType
from graphopt.lower.sharing import stretch

_FLOPS_PER_BYTE = 2.0
"""What a byte written to or read from beyond the level 2 cache costs: MobileNetV2's first expansion
and its depthwise convolution move 57 GB/s longer than they compute at 115 GFLOP/s."""

USABLE = 0.8
"""Of a cache, for what a strip holds; the rest is for weights and results that pass through."""


@dataclass(frozen=True)
class Link:
    """One convolution of a chain and what follows it. `nodes` computes `result` from the links
    before and from the chain's inputs."""

    root: Node
    nodes: tuple[Node, ...]
    result: Value

    @property
    def flops(self) -> int:
        return sum(n.op.flops(*(o.type for o in n.operands), n.attrs) for n in self.nodes)


@dataclass(frozen=True)
class Links:
    expand: Link | None
    depthwise: Link
    project: Link | None


def is_depthwise(node: Node) -> bool:
    """A convolution with one filter per channel."""
    if node.op.name != "conv":
        return False
    groups: int = node.attrs.groups  # type: ignore[attr-defined]
    return groups > 1 and node.operands[1].type.dims[:2] == (groups, 1)


def links_of(body: Graph) -> Links:
    """The links of a chain, found by its convolutions."""
    roots = [n for n in body.nodes if n.op.name == "conv"]
    results = [*(n.operands[0] for n in roots[1:]), body.outputs[0]]
    links = [
        Link(root, _computing(result, set(results[:i]), body), result)
        for i, (root, result) in enumerate(zip(roots, results, strict=True))
    ]
    at = next(i for i, n in enumerate(roots) if is_depthwise(n))
    return Links(
        links[0] if at else None, links[at], links[at + 1] if at + 1 < len(links) else None
    )


def _computing(result: Value, known: set[Value], body: Graph) -> tuple[Node, ...]:
    """The nodes between known values and a result, in order."""
    needed: set[Node] = set()
    stack = [result]
    while stack:
        value = stack.pop()
        if value.producer is None or value in known or value.producer in needed:
            continue
        needed.add(value.producer)
        stack.extend(value.producer.operands)
    return tuple(n for n in body.nodes if n in needed)


@dataclass(frozen=True)
class Chain:
    """`rows` output rows of each of `images`; one of them sees `taps` rows of the expanded image,
    the next begins `stride` further down. Bytes and operations are those of one row: `source` of
    the chain's input, `expanded`, `middle` of the depthwise result. What belongs to the first link
    is 0 for a chain without it, `middle_bytes` for one that ends in the depthwise convolution.

    The channels of a strip are expanded and convolved in `blocks` parts, one after the other.
    """

    images: int
    rows: int
    taps: int
    stride: int
    source_bytes: float
    expanded_bytes: float
    middle_bytes: float
    expand_flops: float
    other_flops: float
    blocks: int = 1

    def window(self, rows: int) -> int:
        """Rows of the expanded image under a strip."""
        return (rows - 1) * self.stride + self.taps

    def strips(self) -> Iterator[int]:
        """Heights of a strip: those that divide the image."""
        return (r for r in range(1, self.rows + 1) if self.rows % r == 0)

    def shares(self, rows: int) -> int:
        """Parts that threads can share: without a last link, every block is one by itself."""
        parts = self.images * (self.rows // rows)
        return parts if self.middle_bytes else parts * self.blocks

    def cost(self, rows: int, cache_bytes: int) -> float:
        """Of all strips of a height, in operations."""
        strips, window = self.images * (self.rows // rows), self.window(rows)
        block = window * self.expanded_bytes / self.blocks
        held = block + rows * self.middle_bytes + window * self.source_bytes
        spilled = 2 * max(0.0, held - USABLE * cache_bytes)
        flops = window * self.expand_flops + rows * self.other_flops
        return strips * (flops + _FLOPS_PER_BYTE * spilled)

    def cost_apart(self, cache_bytes: float) -> float:
        """Of one kernel per link: what lies between them is written and read where it does not
        stay in the cache, of which they have so much."""
        window = self.window(self.rows)
        between = window * self.expanded_bytes, self.rows * self.middle_bytes
        moved = 2 * sum(size for size in between if size > cache_bytes)
        flops = window * self.expand_flops + self.rows * self.other_flops
        return self.images * (flops + _FLOPS_PER_BYTE * moved)

    def best_rows(self, cache_bytes: int) -> int:
        """The height of strips that cost least, threads that wait for the last one counted."""

        def time(rows: int) -> float:
            return self.cost(rows, cache_bytes) * stretch(self.shares(rows))

        return min(self.strips(), key=time)


def chain_of(links: Links, blocks: int) -> Chain:
    """The sizes of a chain whose depthwise convolution does its channels in `blocks` parts."""
    expand, depthwise, project = links.expand, links.depthwise, links.project
    attrs, window = depthwise.root.attrs, depthwise.root.operands[1].type.dims[2]
    images, _, rows, _ = depthwise.root.result.type.dims
    source = (expand or depthwise).root.operands[0].type
    step = expand.root.attrs.stride[0] if expand else 1  # type: ignore[attr-defined]
    expanded_rows = expand.root.result.type.dims[2] if expand else 1
    others = depthwise.flops + (project.flops if project else 0)
    return Chain(
        images,
        rows,
        (window - 1) * attrs.dilation[0] + 1,  # type: ignore[attr-defined]
        attrs.stride[0],  # type: ignore[attr-defined]
        step * _row_bytes(source),
        _row_bytes(depthwise.root.operands[0].type) if expand else 0.0,
        _row_bytes(depthwise.root.result.type) if project else 0.0,
        expand.flops / (images * expanded_rows) if expand else 0.0,
        others / (images * rows),
        blocks,
    )


def _row_bytes(image: TensorType) -> int:
    """Of one row of an image [n, c, h, w]."""
    return image.dims[1] * image.dims[3] * image.dtype.size_bytes
