"""How a few queries are shared out to blocks, and many keys to their threads: what `decode` makes a
kernel of."""

from __future__ import annotations

from graphopt.errors import UnsupportedError
from graphopt.ir.graph import Node, Value
from graphopt.kernel.ir import INDEX, Ramp, index_const
from graphopt.tune.space import Point
from graphopt_backends.cuda.lower.grid import ceil_div
from graphopt_backends.cuda.lower.region import GpuRegion
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import WARP, GpuTarget

MOST_QUERIES = 4
MOST_DEPTH = 256
THREADS = (128, 256, 512)
_FEW, _MOST_ROWS = 4, 8
"""Queries of a block. A few leave registers for four keys on their way, and for 512 threads. More
take up to 255 registers of each of 128 threads, with two keys on their way: then ptxas spills
nothing, for sm_90a, and two such blocks fit a multiprocessor."""
_PART_BYTES = 128 << 10
"""Of keys and values, for which it pays to launch a second grid."""
_PARTS = (1, 2, 4, 8, 16, 32, 64)
_LEAST_KEYS = 64
"""Of a part that is worth a trial."""


def fits(region: GpuRegion, root: Node) -> bool:
    """Few queries, whose factors lie along their last axis, as wide as a group of lanes."""
    q, k, v = root.operands[:3]
    depth = q.type.dims[-1]
    lanes = vector(region, root)
    return (
        q.type.dims[2] <= MOST_QUERIES
        and v.type.dims[-1] == depth
        and depth % lanes == 0
        and depth // lanes in (1, 2, 4, 8, 16, 32)
        and lanes & (lanes - 1) == 0
        and depth <= MOST_DEPTH
        and all(_lies_along(region, x, lanes) for x in (q, k, v))
    )


def vector(region: GpuRegion, root: Node) -> int:
    """Elements of a lane: 16 bytes, or as many as a warp needs for a whole key."""
    depth = root.operands[0].type.dims[-1]
    return max(16 // _element_bytes(region), ceil_div(depth, WARP))


def _element_bytes(region: GpuRegion) -> int:
    """Of what keys and values are in memory."""
    return max(2, min(b.dtype.size_bytes for b in region.inputs))


def _row(region: GpuRegion) -> GpuTarget:
    assert isinstance(region.target, GpuTarget)
    return region.target


def _lies_along(region: GpuRegion, value: Value, lanes: int) -> bool:
    index = [region.loop(f"x{a}", d) for a, d in enumerate(value.type.dims[:-1])]
    ramp = Ramp(INDEX, lanes, index_const(0), 1)
    return lanes == 1 or is_contiguous(region.access.at(value, (*index, ramp)))


class Shape:
    """A block of `threads` for every `rows` queries that share keys, and each of the `parts` into
    which these are cut. A group of `share` lanes has `in_flight` keys on their way."""

    def __init__(self, region: GpuRegion, root: Node, point: Point | None = None) -> None:
        self.region, self.root, self.access = region, root, region.access
        self.q, self.k, self.v = root.operands[:3]
        (self.batch, heads, self.queries, self.depth) = self.q.type.dims
        _, self.kv_heads, self.keys, _ = self.k.type.dims
        self.dtype = root.result.type.dtype
        for out in region.body.outputs:
            if out.type.dims != root.result.type.dims:
                raise UnsupportedError(f"epilogue of attention at {root.loc} changes the shape")
        self.lanes = vector(region, root)
        self.share = self.depth // self.lanes
        self.heads = heads // self.kv_heads
        together = self.heads * self.queries
        self.rows = max(r for r in range(1, _MOST_ROWS + 1) if together % r == 0)
        self.tiles = together // self.rows
        self.in_flight = 4 if self.rows <= _FEW else 2
        chosen = {} if point is None else {name: point.number(name) for name in point}
        self.parts = chosen.get("parts", self._filling())
        self.threads = chosen.get("threads", self._occupied())

    @property
    def owners(self) -> int:
        """Blocks for each part of the keys."""
        return self.batch * self.kv_heads * self.tiles

    @property
    def label(self) -> str:
        cut = f"x{self.parts}" if self.parts > 1 else ""
        return f"decode{self.threads}{cut}"

    @property
    def groups(self) -> int:
        return self.threads // self.share

    @property
    def part_keys(self) -> int:
        return ceil_div(self.keys, self.parts)

    @property
    def steps(self) -> int:
        return ceil_div(self.part_keys, self.groups * self.in_flight)

    def _filling(self) -> int:
        """Parts of `_PART_BYTES` or more, as many as give each multiprocessor one block at most."""
        size = 2 * self.keys * self.depth * _element_bytes(self.region)
        return max(1, min(_row(self.region).sms // self.owners, size // _PART_BYTES))

    def _occupied(self) -> int:
        """Threads enough for a part's keys to be on their way at once."""
        busy = ceil_div(self.part_keys, self.in_flight) * self.share
        return next((t for t in self.counts() if t >= busy), self.counts()[-1])

    def divisions(self) -> tuple[int, ...]:
        """Numbers of parts worth a trial: the rule's, and powers of two."""
        most = max(1, self.keys // _LEAST_KEYS)
        return tuple(sorted({self.parts, *(n for n in _PARTS if n <= most)}))

    def counts(self) -> tuple[int, ...]:
        """Numbers of threads whose sums find room in shared memory, and all else in registers."""
        most = _row(self.region).shared_bytes // (self.rows * (self.lanes + 2) * 4)
        held = THREADS[-1] if self.rows <= _FEW else THREADS[0]
        return tuple(t for t in THREADS if t <= min(most, held))
