"""gather-to-slice: a gather at constant, evenly spaced positions is a slice.

%y = gather %x, [3, 4, 5] {axis=1}   →   %y = slice %x {starts=[0,3], stops=[8,6], steps=[1,1]}
%y = gather %x, 0 {axis=1}           →   a slice of one, reshaped
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir.graph import Node
from graphopt.ops import GatherAttrs, ReshapeAttrs, SliceAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, known, make


def _gather(node: Node, rw: Rewriter) -> Recipe | Reject:
    assert isinstance(node.attrs, GatherAttrs)
    x, indices = node.operands
    if rw.array(x) is not None:
        return Reject("it gathers from a constant: fold-constants evaluates it")
    at = known(rw, indices)
    if at is None:
        return Reject("its positions are computed at run time")
    if not x.type.is_static:
        return Reject("a dimension is symbolic")
    axis, dims = node.attrs.axis, x.type.dims
    steps = progression(np.broadcast_to(at, indices.type.dims).reshape(-1), dims[axis])
    if steps is None:
        return Reject("its positions are not evenly spaced")
    ranges = [(0, d, 1) for d in dims]
    ranges[axis] = steps
    starts, stops, strides = zip(*ranges, strict=True)
    part = make("slice", x, attrs=SliceAttrs(starts, stops, strides))
    if part.type() == node.result.type:
        return part
    return make("reshape", part, attrs=ReshapeAttrs(node.result.type.dims))


def progression(at: np.ndarray, extent: int) -> tuple[int, int, int] | None:
    """(start, stop, step) of positions that go up evenly, else None. Negative ones count from the
    end."""
    if not at.size or at.min() < -extent or at.max() >= extent:
        return None
    at = np.where(at < 0, at + extent, at)
    step = int(at[1] - at[0]) if at.size > 1 else 1
    if step < 1 or (np.diff(at) != step).any():
        return None
    return int(at[0]), int(at[-1]) + 1, step


RULES: Mapping[str, tuple[Rule, ...]] = {"gather": (_gather,)}


@dataclass(frozen=True)
class GatherToSlice(RulePass):
    """Numerics: exact. Refuses: positions computed at run time, unevenly spaced or going down;
    gathers from a constant; symbolic dimensions.
    """

    name: ClassVar[str] = "gather-to-slice"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
