"""sink-slices: a slice of whole heads moves behind the reshape that splits the heads.

%q = slice %x [.., 64:128]              %r = reshape %x {shape=[1,16,12,16]}
%h = reshape %q {shape=[1,16,4,16]} →   %h = slice %r [.., 4:8, ..]

The reshape is a view; so is none of a slice. Regions read through a slice that follows, and the
slices of Q, K and V share one reshape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import ReshapeAttrs, SliceAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, producer


def _reshape(node: Node, rw: Rewriter) -> Recipe | Reject:
    part = producer(node.operands[0], "slice")
    if part is None:
        return Reject("its operand is not a slice")
    assert isinstance(part.attrs, SliceAttrs)
    (x,) = part.operands
    if not x.type.is_static:
        return Reject("a dimension is symbolic")
    axis = _sliced_axis(x.type.dims, part.attrs)
    if axis is None:
        return Reject("the slice is not a run along one axis")
    inner = _split(part.result.type.dims, node.result.type.dims, axis)
    if not inner:  # an empty slice may well be split into parts of no elements
        return Reject("the reshape does more than split the sliced axis in two")
    start, stop = part.attrs.starts[axis], part.attrs.stops[axis]
    if start % inner or x.type.dims[axis] % inner:
        return Reject("the slice cuts through the parts of the split")
    outer = x.type.dims[axis] // inner
    dims = (*x.type.dims[:axis], outer, inner, *x.type.dims[axis + 1 :])
    starts, stops = [0] * len(dims), list(dims)
    starts[axis], stops[axis] = start // inner, stop // inner
    attrs = SliceAttrs(tuple(starts), tuple(stops), (1,) * len(dims))
    return make("slice", make("reshape", x, attrs=ReshapeAttrs(dims)), attrs=attrs)


def _sliced_axis(dims: tuple[int, ...], attrs: SliceAttrs) -> int | None:
    """The one axis along which a slice takes less than everything, in steps of 1."""
    ranges = zip(dims, attrs.starts, attrs.stops, attrs.steps, strict=True)
    cut = [axis for axis, (d, *r) in enumerate(ranges) if r != [0, d, 1]]
    return cut[0] if len(cut) == 1 and attrs.steps[cut[0]] == 1 else None


def _split(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The inner extent of `axis` once split in two; None for any other reshape."""
    if len(after) != len(before) + 1 or after[:axis] != before[:axis]:
        return None
    return after[axis + 1] if after[axis + 2 :] == before[axis + 1 :] else None


RULES: Mapping[str, tuple[Rule, ...]] = {"reshape": (_reshape,)}


@dataclass(frozen=True)
class SinkSlices(RulePass):
    """Numerics: exact. Refuses: slices along several axes or in steps, reshapes that do more than
    split the sliced axis, and slices that cut through its parts.
    """

    name: ClassVar[str] = "sink-slices"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
