"""choose-strassen: large products by fewer products of blocks, where that is faster.

%y = linear %x, %w   →   %y = linear %x, %w {strassen=26}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from graphopt.ir.graph import Graph, Node
from graphopt.ir.types import DType
from graphopt.ops import ConvAttrs, LinearAttrs
from graphopt.ops.strassen import ERROR, SCHEMES, Scheme
from graphopt.passbase import Numerics, PassContext, RewritePass, approximates
from graphopt.rewrite import Plan, Reject, Rewriter
from graphopt.target import SLOW_GBYTES
from graphopt_passes.algorithm.normalized import NORMALIZED, is_normalized

_STREAMING = 8.5
"""Multiply-adds in the time that a weight takes from memory: those of fewer rows wait for it."""

_LEFT, _RESULT = (6.6, 0.2), (0.25, 0.8)
"""What the sums of blocks cost in multiply-adds per element of the left factor and of the result: a
constant, and that many per operation on blocks, a load, a store or an addition."""

_LARGE, _FROM_MEMORY = 1 << 19, 4.7
"""Elements from which on such a factor is not found in a cache, and what each costs more then. All
these numbers are fitted to 41 shapes of 8 to 12544 rows (bench/NOTES.md)."""

_CACHE_BYTES, _SPILLED = 1 << 20, 2.0
"""The level 2 cache of the machine they were fitted on, and how many times as much sums cost with a
smaller one, where they are written to level 3; fitted to 14 shapes on a core with 512 KiB."""

_FAR_GBYTES = 30.0
"""That it read from beyond that cache, per second."""

_SLOW_SUMS, _SLOW_WEIGHT = 3.5, 8.0
"""Where that is slow, a direct sum hides its weights' way and these products do not: how many times
as much sums cost, and the multiply-adds that a transformed weight does; fitted to 10 shapes of 49
to 1500 rows whose weights come from memory (bench/NOTES.md)."""

_MARGIN = 0.95
"""Weights grow: that much has to be gained."""

_REST = 1 / 16
"""Of the columns that may be summed directly: with more the scheme gains nothing (EfficientNet-b0's
40 and 80, measured)."""

_LANES = 16
"""Of a vector; narrower ones lose less to what they do not divide."""


@dataclass(frozen=True)
class Shape:
    """A product of [rows, depth] by [depth, channels], on a core with such a level 2 cache, which
    reads so many GB/s from beyond it."""

    rows: int
    depth: int
    channels: int
    cache_bytes: int = _CACHE_BYTES
    far_gbytes: float = _FAR_GBYTES

    def direct_cost(self) -> float:
        """In multiply-adds."""
        return max(self.rows, _STREAMING) * self.depth * _padded(self.channels)

    def cost(self, scheme: Scheme) -> float:
        """Likewise, and the sums of blocks, and the columns that cannot be parted."""
        parted = scheme.parted(self.channels)
        groups, part = -(-self.rows // scheme.rows), parted // scheme.columns
        waiting = _SLOW_WEIGHT if self.far_gbytes < SLOW_GBYTES else 0.0
        each = max(groups, _STREAMING) + waiting
        products = scheme.products * each * self.depth // scheme.depth
        left, result = scheme.terms
        loads, stores = scheme.rows * scheme.depth, scheme.rows * scheme.columns
        # blocks are loaded, added up and stored; products are stored and loaded
        sums = self._sums(_LEFT, (left + loads) / loads, self.depth)
        sums += self._sums(_RESULT, (result + 2 * scheme.products) / stores, parted)
        sums *= _SPILLED if self.cache_bytes < _CACHE_BYTES else 1.0
        sums *= _SLOW_SUMS if self.far_gbytes < SLOW_GBYTES else 1.0
        rest = replace(self, channels=self.channels - parted).direct_cost()
        return products * _padded(part) + groups * scheme.rows * sums + rest

    def _sums(self, cost: tuple[float, float], operations: float, columns: int) -> float:
        """Of a row of so many columns."""
        constant, each = cost
        far = _FROM_MEMORY if self.rows * columns > _LARGE else 0.0
        return (constant + far + each * operations) * columns

    def fitting(self) -> list[int]:
        """Schemes that leave few columns over."""
        least = (1 - _REST) * self.channels
        fit = {n: s for n, s in SCHEMES.items() if s.fits(self.depth, self.channels)}
        return [n for n, s in fit.items() if s.parted(self.channels) >= least]

    def fastest(self) -> int:
        """The scheme to take, by its number of products; 0 if a direct sum is as fast."""
        best = min(self.fitting(), key=lambda n: self.cost(SCHEMES[n]), default=0)
        if best and self.cost(SCHEMES[best]) <= _MARGIN * self.direct_cost():
            return best
        return 0


def _padded(channels: int) -> int:
    """Lanes that compute: the rest of whole vectors takes one shorter one per power of two."""
    return _LANES * (channels // _LANES + (channels % _LANES).bit_count())


@dataclass(frozen=True)
class ChooseStrassen(RewritePass):
    """Linears and convolutions of one pixel; their weights grow by up to three quarters. `largest`:
    the most elements of a weight that may; 0 forbids the algorithm. `cache_bytes`: of the level 2
    cache, `far_gbytes`: per second, read from beyond it; 0 for the target's.

    Numerics: approximates; in exact arithmetic it is the same sum, in float32 it rounds two to
    four times as much (`graphopt.ops.strassen.ERROR`). Refuses: groups and larger kernels; extents
    that no scheme divides; other dtypes; weights computed at run time; what a direct sum does as
    fast; what is divided by its own size afterwards.
    """

    name: ClassVar[str] = "choose-strassen"
    numerics: ClassVar[Numerics] = approximates(max(ERROR.values()))
    root: ClassVar = (LinearAttrs, ConvAttrs)
    largest: int = 1 << 26
    cache_bytes: int = 0
    far_gbytes: float = 0.0

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        target = ctx.target
        if target is None or (self.cache_bytes and self.far_gbytes):
            return super().run(graph, ctx)
        cache, far = self.cache_bytes or target.l2_bytes, self.far_gbytes or target.far_gbytes
        return replace(self, cache_bytes=cache, far_gbytes=far).run(graph, ctx)

    def plan_in(self, node: Node, rw: Rewriter) -> Plan | Reject:
        attrs, (x, w) = node.attrs, node.operands[:2]
        assert isinstance(attrs, LinearAttrs | ConvAttrs)
        if attrs.strassen:
            return Reject("it is chosen already")
        channels, depth = w.type.dims[:2]
        if isinstance(attrs, ConvAttrs) and (attrs.groups > 1 or prod(w.type.dims[2:]) > 1):
            return Reject("its kernel covers several pixels or groups")
        if not x.type.is_static:
            return Reject("its extents are told only when it runs")
        if not node.result.type.numel:
            return Reject("its result has no elements")
        core = self.cache_bytes or _CACHE_BYTES, self.far_gbytes or _FAR_GBYTES
        shape = Shape(node.result.type.numel // channels, depth, channels, *core)
        if not shape.fitting():
            return Reject("its channels cannot be parted")
        if w.producer is None or w.producer.op.name != "constant":
            return Reject("its weights are computed while the model runs")
        if x.type.dtype is not DType.F32:
            return Reject(f"it computes in {x.type.dtype}, whose rounding would show")
        if w.type.numel > self.largest:
            return Reject("its weights are larger than may grow")
        scheme = shape.fastest()
        if not scheme:
            return Reject("a direct sum is as fast")
        if is_normalized(node.result, rw):
            return Reject(NORMALIZED)
        return Plan(node, scheme=scheme)

    def apply(self, plan: Plan, rw: Rewriter) -> None:
        attrs = plan.node.attrs
        assert isinstance(attrs, LinearAttrs | ConvAttrs)
        rw.set_attrs(plan.node, replace(attrs, strassen=plan.scheme))
