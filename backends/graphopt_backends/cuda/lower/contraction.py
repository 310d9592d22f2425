"""Matrix products and convolutions: what is common to those in plain arithmetic and those on tensor
cores. A tile of the result per block, a smaller one in each thread's registers.

Slices of both factors pass through shared memory, in two pairs of buffers: while a block multiplies
one pair, the next is already on its way. A convolution is the product of its windows
with the filters (implicit GEMM): only how the left factor is addressed tells it apart. The epilogue
is applied to the registers.
"""

from __future__ import annotations

import abc
import math
import zlib
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    Let,
    Ramp,
    Stmt,
    binary,
    block,
    contiguous,
    index_const,
    index_var,
    load,
)
from graphopt.kernel.visit import uses_var
from graphopt.lower.access import delinearized
from graphopt.lower.loops import fuse_axes
from graphopt.lower.products import Axes, Product
from graphopt.lower.region import Packing
from graphopt.target import Target
from graphopt_backends.cuda.lower.epilogue import Epilogue
from graphopt_backends.cuda.lower.grid import Part, below, both, ceil_div, guarded, threads
from graphopt_backends.cuda.lower.region import GpuRegion, widen
from graphopt_backends.cuda.lower.slices import Slice
from graphopt_backends.cuda.lower.vectors import is_contiguous
from graphopt_backends.cuda.targets import GpuTarget

Groups = tuple[tuple[str, ...], ...]


class Tile(Protocol):
    """`rows` by `columns` of the result, which `threads` compute."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def threads(self) -> int: ...


AnyTile = TypeVar("AnyTile", bound=Tile)


def choose_tile(
    tiles: Sequence[tuple[AnyTile, float]], batch: int, rows: int, columns: int, target: Target
) -> AnyTile:
    """The tile of least time: waves of blocks over the device, each as long as its tile takes.
    `tiles` come with the share of the peak rate that they reach, about."""
    sms = target.sms if isinstance(target, GpuTarget) else 1

    def time(tile: AnyTile, rate: float) -> float:
        blocks = batch * ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns)
        return ceil_div(blocks, sms) * tile.rows * tile.columns / rate

    return min(tiles, key=lambda row: time(*row))[0]


class Contraction(abc.ABC):
    """A product as matrices: batches of rows by columns, k steps deep; and the loop over slices.

    What a block's threads make of a pair of slices is the subclass's.
    """

    depth_of_slice: ClassVar[int]
    widest: ClassVar[int]
    """Lanes of a vector of a factor."""
    by_k: ClassVar[bool]
    """How slices lie in shared memory: [k][position], or [position][k]."""

    def __init__(self, region: GpuRegion, root: Node, product: Product) -> None:
        self.region, self.root, self.product = region, root, product
        self.epilogue = Epilogue(region, root, product)
        self.dtype = root.result.type.dtype
        self.k_axes = [(n, e) for n, e in product.reduced if e > 1] or list(product.reduced[-1:])
        self.batch = [(n, e) for n, e in product.positions if e > 1 and self._is_batch(n)]
        names = {n for n, _ in self.batch}
        self.m_axes = [(n, e) for n, e in product.positions if e > 1 and n not in names]
        self.rows = math.prod(e for _, e in self.m_axes)
        self.depth = math.prod(e for _, e in self.k_axes)
        self.columns = product.channels
        self.m_groups, self.k_groups = self._fused()
        self.tile = self.usual_tile()

    # What subclasses say -------------------------------------------------------------------------

    @abc.abstractmethod
    def usual_tile(self) -> Tile:
        """The tile of least time, by the cost model."""

    @property
    @abc.abstractmethod
    def slice_dtype(self) -> DType:
        """Of elements in shared memory."""

    @abc.abstractmethod
    def accumulators(self) -> Buffer:
        """A thread's part of the block's tile: [threads, ..]."""

    @abc.abstractmethod
    def initial(self) -> Stmt:
        """Set a thread's accumulators to 0."""

    @abc.abstractmethod
    def multiply(self, left: Buffer, right: Buffer) -> Stmt:
        """Add the product of two slices in shared memory."""

    @abc.abstractmethod
    def results(self) -> Stmt:
        """The epilogue on a thread's accumulators."""

    # Axes ----------------------------------------------------------------------------------------

    def _is_batch(self, name: str) -> bool:
        """Whether the right factor depends on a position."""
        m = {n: self.region.loop(n, e) for n, e in self.product.positions}
        if self.product.weight is not None or self.product.right is None:
            return uses_var(self.product.group(m), name)
        k = {n: self.region.loop(n, e) for n, e in self.product.reduced}
        right = self.product.right(m, self.region.loop("column", self.product.channels), k)
        return uses_var(right, name)

    def _fused(self) -> tuple[Groups, Groups]:
        """Axes of positions and of k that lie adjacent in the left factor and the result."""
        extents = dict((*self.product.positions, *self.product.reduced))

        def touch(m_groups: Groups, k_groups: Groups) -> Stmt:
            m, k = self._zeros(), self._zeros()
            for axes, groups in ((m, m_groups), (k, k_groups)):
                for group in groups:
                    name = "_".join(group)
                    var = self.region.loop(name, math.prod(extents[a] for a in group))
                    parts = delinearized(var, [extents[a] for a in group])
                    axes.update(zip(group, parts, strict=True))
            n = self.region.loop("column", self.columns)
            return self.epilogue.stores(self.product.left(m, n, k), m, n)

        m_names, k_names = [n for n, _ in self.m_axes], [n for n, _ in self.k_axes]
        alone = tuple((k,) for k in k_names)
        m_groups = fuse_axes(m_names, lambda g: touch(g, alone))
        return m_groups, fuse_axes(k_names, lambda g: touch(m_groups, g))

    def _zeros(self) -> Axes:
        return {n: index_const(0) for n, _ in (*self.product.positions, *self.product.reduced)}

    def _axes(self, position: Expr, groups: Groups, axes: list[tuple[str, int]]) -> Axes:
        """Indices of the axes at a position that counts through all of them."""
        extents = dict(axes)
        sizes = [math.prod(extents[a] for a in g) for g in groups]
        out: Axes = {}
        for group, at in zip(groups, delinearized(position, sizes), strict=True):
            parts = delinearized(at, [extents[a] for a in group])
            out.update(zip(group, parts, strict=True))
        return out

    def _m(self, row: Expr) -> Axes:
        return {**self._zeros(), **self.batch_index, **self._axes(row, self.m_groups, self.m_axes)}

    def _k(self, k: Expr) -> Axes:
        return {**self._zeros(), **self._axes(k, self.k_groups, self.k_axes)}

    # Factors -------------------------------------------------------------------------------------

    def _left(self) -> Slice:
        def read(row: Expr, k: Expr) -> Expr:
            return self.product.left(self._m(row), index_const(0), self._k(k))

        limits = self.rows, self.depth
        lanes, along_k = self._direction(read, limits, k_first=True)
        return self._slice("left", self.tile.rows, lanes, along_k, read, limits)

    def _right(self) -> Slice:
        limits = self.columns, self.depth
        if self.product.weight is not None:
            read, limits = self._packed, self._packed_shape()
            lanes, along_k = self.widest, not self.by_k
        else:
            right = self.product.right
            assert right is not None

            def read(n: Expr, k: Expr) -> Expr:
                return right({**self._zeros(), **self.batch_index}, n, self._k(k))

            lanes, along_k = self._direction(read, limits, k_first=False)
        return self._slice("right", self.tile.columns, lanes, along_k, read, limits)

    def _slice(
        self, name: str, extent: int, lanes: int, along_k: bool,
        read: Callable[[Expr, Expr], Expr], limits: tuple[int, int],
    ) -> Slice:  # fmt: skip
        return Slice(
            self.region, name, self.slice_dtype, extent, self.depth_of_slice, self.by_k, lanes,
            along_k, read, limits, self.tile.threads,
        )  # fmt: skip

    def _direction(
        self, read: Callable[[Expr, Expr], Expr], limits: tuple[int, int], *, k_first: bool
    ) -> tuple[int, bool]:
        """Vectors along which axis lie contiguous, and of how many lanes; single elements along the
        likelier one where none do."""
        positions, depth = limits
        p, k = self.region.loop("p", positions), self.region.loop("k", depth)
        for along_k in (True, False):
            lanes = math.gcd(self.widest, depth if along_k else positions)
            ramp = Ramp(INDEX, lanes, binary("*", index_var("w"), index_const(lanes)), 1)
            self.region.access.ranges["w"] = (depth if along_k else positions) // lanes
            if lanes > 1 and is_contiguous(read(p, ramp) if along_k else read(ramp, k)):
                return lanes, along_k
        return 1, k_first

    def _packed_shape(self) -> tuple[int, int]:
        """Columns and k of the packed weights, filled up with zeros: vectors along either are
        whole, and so are slices."""
        columns, depth = (
            ceil_div(self.columns, self.widest),
            ceil_div(self.depth, self.depth_of_slice),
        )
        return columns * self.widest, depth * self.depth_of_slice

    def _packed(self, n: Expr, k: Expr) -> Expr:
        """The packed weights: [group][k][n] or [group][n][k], as slices lie."""
        assert self.product.weight is not None
        columns, depth = self._packed_shape()
        outer, inner, rows, width = (k, n, depth, columns) if self.by_k else (n, k, columns, depth)
        group = self.product.group({**self._zeros(), **self.batch_index})
        at = binary("+", binary("*", group, index_const(rows)), outer)
        at = binary("+", binary("*", at, index_const(width)), inner)
        buffer = self.region.inputs[self.product.weight.operand]
        return widen(load(buffer, self.region.access.simplify(at)))

    def packings(self) -> dict[int, Packing]:
        weight = self.product.weight
        if weight is None:
            return {}
        columns, depth = self._packed_shape()
        groups, by_k = weight.groups, self.by_k

        def pack(array: np.ndarray) -> np.ndarray:
            matrix = weight.matrix(array)
            matrix = matrix.reshape(groups, *matrix.shape[-2:])
            more = [(0, 0), (0, depth - matrix.shape[1]), (0, columns - matrix.shape[2])]
            padded = np.pad(matrix, more)
            return np.ascontiguousarray(padded if by_k else padded.swapaxes(1, 2))

        order, attrs = "kn" if by_k else "nk", zlib.crc32(repr(self.root.attrs).encode())
        key = f"{order}{self.depth_of_slice}_{self.root.op.name}_{attrs:08x}"
        return {weight.operand: Packing(key, groups * depth * columns, pack)}

    # Structure -----------------------------------------------------------------------------------

    def part(self) -> Part:
        tile = self.tile
        if self.product.weight is not None:
            self.region.resize(self.product.weight.operand, self._packed_size())
        down, right = ceil_div(self.rows, tile.rows), ceil_div(self.columns, tile.columns)
        extents = [e for _, e in self.batch]

        def body(b: Expr) -> Stmt:
            *outer, i, j = delinearized(b, [*extents, down, right])
            self.batch_index = {
                n: self.region.access.simplify(x)
                for (n, _), x in zip(self.batch, outer, strict=True)
            }
            self.first_row = self._times(i, tile.rows)
            self.first_column = self._times(j, tile.columns)
            return self._block()

        return Part(math.prod(extents) * down * right, body)

    def _packed_size(self) -> int:
        assert self.product.weight is not None
        columns, depth = self._packed_shape()
        return self.product.weight.groups * columns * depth

    def _times(self, e: Expr, factor: int) -> Expr:
        return self.region.access.simplify(binary("*", e, index_const(factor)))

    def _block(self) -> Stmt:
        tile, depth = self.tile, self.depth_of_slice
        self.acc = self.accumulators()
        self.slices = a, b = self._left(), self._right()
        count = ceil_div(self.depth, depth)
        s = self.region.loop("s", ceil_div(count, 2))
        first = [*self._bring(index_const(0), depth, 0), a.put(0), b.put(0)]
        steps = [self._step(s, 0), self._step(s, 1)]
        if count % 2:
            steps[1] = guarded(below(_next(s, 1), count, count + 1), steps[1])
        return block(
            *(Alloc(x.shared(which)) for x in self.slices for which in (0, 1)),
            Alloc(self.acc),
            *(Alloc(x.staged) for x in self.slices if not x.is_direct),
            threads(self.region, tile.threads, lambda t: self.initial()),
            *first,
            For("s", ceil_div(count, 2), block(*steps)),
            threads(self.region, tile.threads, lambda t: self.results()),
        )

    def _step(self, s: Expr, which: int) -> Stmt:
        """Multiply one pair of slices while the next one is on its way."""
        a, b = self.slices
        depth = self.depth_of_slice
        after = self._times(_next(s, which + 1), depth)
        most = (ceil_div(self.depth, depth) + 2) * depth
        left, right = a.shared(which), b.shared(which)
        return block(
            *self._bring(after, most, 1 - which),
            threads(self.region, self.tile.threads, lambda t: self.multiply(left, right)),
            a.put(1 - which),
            b.put(1 - which),
        )

    def _bring(self, start: Expr, most: int, which: int) -> list[Stmt]:
        """Begin to bring both slices at `start`, whose steps of k stay below `most`."""
        a, b = self.slices
        down, right = self.covered()
        return [
            a.bring((self.first_row, start), (down, most), which),
            b.bring((self.first_column, start), (right, most), which),
        ]

    def covered(self) -> tuple[int, int]:
        """Rows and columns of all tiles."""
        tile = self.tile
        down, right = ceil_div(self.rows, tile.rows), ceil_div(self.columns, tile.columns)
        return down * tile.rows, right * tile.columns

    def stored(self, row: Expr, column: Expr, lanes: int, value: Callable[[], Expr]) -> Stmt:
        """The epilogue on `lanes` accumulators side by side, where they are in the result."""
        down, right = self.covered()
        limits = {"row": self.rows, "column": self.columns // lanes}  # counted in vectors
        self.region.access.ranges.update(limits)  # where they are used
        n: Expr = binary("*", index_var("column"), index_const(lanes))
        n = contiguous(n, lanes)
        inside = both(
            below(index_var("row"), limits["row"], down),
            below(index_var("column"), limits["column"], right // lanes),
        )
        vector = self.region.access.simplify(binary("//", column, index_const(lanes)))
        stores = self.epilogue.stores(value(), self._m(index_var("row")), n)
        return block(Let("row", row), Let("column", vector), guarded(inside, stores))


def _next(s: Expr, more: int) -> Expr:
    """The number of a slice: two belong to every step of the loop."""
    return binary("+", binary("*", s, index_const(2)), index_const(more))
