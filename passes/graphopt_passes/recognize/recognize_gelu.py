"""recognize-gelu: the tanh approximation of gelu, spelled out, becomes `gelu`.

0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))   →   gelu %x {approximate="tanh"}

Eight nodes that read x four times stay out of a product's epilogue; one that reads it once joins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir.graph import Node
from graphopt.ops import GeluAttrs
from graphopt.passbase import REASSOCIATES, Numerics
from graphopt.rewrite import Reject, Rewriter
from graphopt_passes.recipes import Recipe, Rule, RulePass, make
from graphopt_passes.recognize.patterns import Any, Number, Pattern, match, op

_X = Any("x")
_SCALE = Number(math.sqrt(2 / math.pi))
_HALF, _ONE, _CUBIC = Number(0.5), Number(1.0), Number(0.044715)


def _tanh_parts() -> Iterator[Pattern]:
    """1 + tanh(..), for each way to write the cube."""
    square = op("mul", _X, _X)
    cubes = op("mul", square, _X), op("pow", _X, Number(3.0))
    terms = [op("mul", cube, _CUBIC) for cube in cubes]
    terms += [op("mul", op("mul", square, _CUBIC), _X), op("mul", op("mul", _X, _CUBIC), square)]
    for term in terms:
        yield op("add", op("tanh", op("mul", op("add", _X, term), _SCALE)), _ONE)


PATTERNS: tuple[Pattern, ...] = tuple(
    whole
    for part in _tanh_parts()
    for whole in (
        op("mul", op("mul", _X, _HALF), part),
        op("mul", op("mul", _X, part), _HALF),
        op("mul", _X, op("mul", part, _HALF)),
    )
)


def _gelu(node: Node, rw: Rewriter) -> Recipe | Reject | None:
    if not node.result.type.dtype.is_float:
        return None
    for pattern in PATTERNS:
        found = match(pattern, node.result, rw)
        if found is not None:
            return make("gelu", found["x"], attrs=GeluAttrs("tanh"))
    return Reject("it is not the last product of a gelu")


RULES: Mapping[str, tuple[Rule, ...]] = {"mul": (_gelu,)}


@dataclass(frozen=True)
class RecognizeGelu(RulePass):
    """Numerics: reassociates: the factors in another order. Refuses: other formulas and other
    constants, their roundings to float32 included.
    """

    name: ClassVar[str] = "recognize-gelu"
    numerics: ClassVar[Numerics] = REASSOCIATES
    rules: ClassVar[Mapping[str, tuple[Rule, ...]]] = RULES
    root: ClassVar[tuple[str, ...]] = tuple(RULES)
