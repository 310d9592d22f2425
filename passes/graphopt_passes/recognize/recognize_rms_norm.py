"""recognize-rms-norm: a root-mean-square norm, spelled out, becomes `rms_norm`.

%s = mul %x, %x
%m = mean %s {axes=[2], keepdims=true}
%e = add %m, 1e-6                         →   %y = rms_norm %x, %w {axes=1, eps=1e-6}
%r = rsqrt %e
%n = mul %x, %r
%y = mul %n, %w : f32[64]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import MeanAttrs, RmsNormAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make, splat
from graphopt_passes.recognize.patterns import Any, match, op

_X, _WEIGHT, _EPS = Any("x"), Any("weight"), Any("eps")
_SHIFTED = op("add", op("mean", op("mul", _X, _X), bind="mean"), _EPS)
PATTERNS = (
    op("mul", op("mul", _X, op("rsqrt", _SHIFTED)), _WEIGHT),
    op("mul", op("div", _X, op("sqrt", _SHIFTED)), _WEIGHT),
)


def _rms_norm(node: Node, rw: Rewriter) -> Recipe | Reject:
    for pattern in PATTERNS:
        found = match(pattern, node.result, rw)
        if found is None:
            continue
        x, weight, eps = found["x"], found["weight"], splat(rw, found["eps"])
        mean = found["mean"].producer
        assert mean is not None
        axes = _trailing(mean, x.type.rank)
        if eps is None:
            return Reject("its epsilon is computed at run time")
        if axes is None:
            return Reject("its mean is not over trailing axes that it keeps as 1")
        if weight.type.shape != x.type.shape[x.type.rank - axes :]:
            return Reject("its weight does not have the shape of the axes of its mean")
        return make("rms_norm", x, weight, attrs=RmsNormAttrs(axes, eps))
    return Reject("it is not the last product of an rms norm")


def _trailing(mean: Node, rank: int) -> int | None:
    """How many trailing axes a mean is over, where it keeps them as 1."""
    assert isinstance(mean.attrs, MeanAttrs)
    count = len(mean.attrs.axes)
    trailing = sorted(mean.attrs.axes) == list(range(rank - count, rank))
    return count if count and trailing and mean.attrs.keepdims else None


RULES: Mapping[str, tuple[Rule, ...]] = {"mul": (_rms_norm,)}


@dataclass(frozen=True)
class RecognizeRmsNorm(RulePass):
    """Numerics: reassociates: a quotient by a root for a product with its reciprocal. Refuses:
    means over other than trailing axes, weights of another shape, an epsilon computed at run time.
    """

    name: ClassVar[str] = "recognize-rms-norm"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
