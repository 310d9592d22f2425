"""merge-clamps: bounds one after the other become one clamp.

clamp(relu(x), high=6)                 →  clamp(x, low=0, high=6)
minimum(maximum(x, -1), 1)             →  clamp(x, low=-1, high=1)
relu(relu(x)), relu(sigmoid(x))        →  relu(x), sigmoid(x)
maximum(x, 0), clamp(x, low=0)         →  relu(x)
clamp(x)                               →  x
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node, Value
from graphopt.ops import ClampAttrs
from graphopt.passbase import EXACT, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Make, Recipe, Rule, RulePass, make, splat

_NEVER_NEGATIVE = frozenset({"abs", "exp", "sqrt", "sigmoid", "softmax"})
"""However their last bits are rounded. (A tanh may well exceed 1 by one.)"""


@dataclass(frozen=True)
class Bounds:
    """min(max(x, low), high) with low <= high."""

    low: float
    high: float

    def __call__(self, x: float) -> float:
        return min(max(x, self.low), self.high)

    def after(self, inner: Bounds) -> Bounds:
        """One clamp that does `inner`, then this. Between its ends, `inner` leaves x alone; so
        what remains is where its ends go."""
        return Bounds(self(inner.low), self(inner.high))


def bounds_of(node: Node, rw: Rewriter) -> tuple[Value, Bounds] | None:
    """(x, bounds) of a node that clamps x by numbers, else None."""
    if node.op.name == "relu":
        return node.operands[0], Bounds(0, math.inf)
    if isinstance(node.attrs, ClampAttrs):
        low, high = node.attrs.low, node.attrs.high
        return node.operands[0], Bounds(min(low, high), high)  # `high` wins where low > high
    if node.op.name not in ("maximum", "minimum"):
        return None
    for x, y in (node.operands, node.operands[::-1]):
        limit = splat(rw, y)
        if limit is not None and not math.isnan(limit) and x.type == node.result.type:
            least = node.op.name == "maximum"
            return x, Bounds(limit, math.inf) if least else Bounds(-math.inf, limit)
    return None


def _clamp(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    found = bounds_of(node, rw)
    if found is None:
        return None
    x, bounds = found
    if not x.type.dtype.is_float:
        return Reject("bounds of integers are rounded")
    inner = bounds_of(x.producer, rw) if x.producer is not None else None
    if inner is not None:
        return clamped(inner[0], bounds.after(inner[1]))
    if bounds.high == math.inf and bounds.low <= _least(x):
        return x
    plain = clamped(x, bounds)
    return None if plain.op == node.op.name and plain.attrs == node.attrs else plain


def clamped(x: Value, bounds: Bounds) -> Make:
    """The plainest node that clamps x."""
    if bounds == Bounds(0, math.inf):
        return make("relu", x)
    return make("clamp", x, attrs=ClampAttrs(float(bounds.low), float(bounds.high)))


def _least(x: Value) -> float:
    """A number that no element of x is below."""
    node = x.producer
    return 0 if node is not None and node.op.name in _NEVER_NEGATIVE else -math.inf


RULES: Mapping[str, tuple[Rule, ...]] = dict.fromkeys(
    ("relu", "clamp", "maximum", "minimum"), (_clamp,)
)


@dataclass(frozen=True)
class MergeClamps(RulePass):
    """Numerics: exact; nan passes through every one of these ops. Refuses: integers, whose bounds
    are rounded; bounds that are no numbers.
    """

    name: ClassVar[str] = "merge-clamps"
    numerics: ClassVar[Numerics] = EXACT
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
