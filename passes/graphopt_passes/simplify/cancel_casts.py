"""cancel-casts: casts that change nothing, and casts through a type that loses nothing.

cast(x : f32, f32)                      →  x
cast(cast(x : f16, f32), f16)           →  x
cast(cast(x : i8, i32), f32)            →  cast(x, f32)
cast(cast(p : bool, i64), bool)         →  p
ne(cast(p : bool, i64), 0)              →  p
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from graphopt.ir.graph import Node
from graphopt.ir.types import DType
from graphopt.ops import CastAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, producer, splat


def _cast(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    (x,) = node.operands
    assert isinstance(node.attrs, CastAttrs)
    if x.type.dtype is node.attrs.dtype:
        return x
    inner = producer(x, "cast")
    if inner is None:
        return Reject("its operand is not a cast")
    source = inner.operands[0]
    if not holds_all(source.type.dtype, x.type.dtype):
        return Reject(f"{x.type.dtype} does not hold every {source.type.dtype}")
    return (
        source if source.type.dtype is node.attrs.dtype else make("cast", source, attrs=node.attrs)
    )


def _nonzero(node: Node, rw: Rewriter) -> Recipe | None:
    """A bool told apart from 0 after a cast to numbers."""
    for x, y in (node.operands, node.operands[::-1]):
        cast = producer(x, "cast")
        if cast is not None and cast.operands[0].type.dtype is DType.BOOL and splat(rw, y) == 0:
            return cast.operands[0]
    return None


def holds_all(source: DType, wide: DType) -> bool:
    """Whether every value of `source` is a value of `wide`."""
    if source is wide or source is DType.BOOL:
        return True
    if wide is DType.BOOL:
        return False
    if not source.is_float and not wide.is_float:
        a, b = np.iinfo(source.numpy), np.iinfo(wide.numpy)
        return bool(b.min <= a.min and a.max <= b.max)
    if source.is_float and not wide.is_float:
        return False
    info = ml_dtypes.finfo(wide.numpy)
    if not source.is_float:
        # Up to 2^(mantissa + 1) a float holds every integer.
        return bool(np.iinfo(source.numpy).max < 2 ** (info.nmant + 1))
    narrow = ml_dtypes.finfo(source.numpy)
    return bool(
        narrow.nmant <= info.nmant and narrow.maxexp <= info.maxexp and narrow.minexp >= info.minexp
    )


RULES: Mapping[str, tuple[Rule, ...]] = {"cast": (_cast,), "ne": (_nonzero,)}


@dataclass(frozen=True)
class CancelCasts(RulePass):
    """Numerics: exact. Refuses: a type between that rounds, truncates or wraps."""

    name: ClassVar[str] = "cancel-casts"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
