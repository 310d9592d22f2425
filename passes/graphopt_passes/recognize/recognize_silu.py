"""recognize-silu: x times a sigmoid of a multiple of x ("quick gelu") becomes `silu`.

%a = mul %x, 1.702          %a = mul %x, 1.702
%s = sigmoid %a        →    %b = silu %a
%y = mul %x, %s             %y = mul %b, 0.58754

One reader of %x instead of two: the chain fits into a product's epilogue, and fold-scale takes the
factor into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, full, make, splat
from graphopt_passes.recognize.patterns import Any, match, op

PATTERN = op("mul", Any("x"), op("sigmoid", op("mul", Any("x"), Any("factor"), bind="multiple")))


def _silu(node: Node, rw: Rewriter) -> Recipe | Reject:
    found = match(PATTERN, node.result, rw)
    if found is None:
        return Reject("it is not a product with its own sigmoid")
    factor = splat(rw, found["factor"])
    if factor is None or found["factor"].type.numel != 1:
        return Reject("the factor inside the sigmoid is not one number")
    if not 0.01 < abs(factor) < 100:
        return Reject("dividing by the factor again could overflow or lose digits")
    back = full(1 / factor, (), node.result.type.dtype)
    return make("mul", make("silu", found["multiple"]), back)


RULES: Mapping[str, tuple[Rule, ...]] = {"mul": (_silu,)}


@dataclass(frozen=True)
class RecognizeSilu(RulePass):
    """Numerics: reassociates: x is multiplied by the factor and by its inverse. Refuses: factors
    that are not one number, or far from 1.
    """

    name: ClassVar[str] = "recognize-silu"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
