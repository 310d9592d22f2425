"""Bisection finds the rewrite, in few trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
from sample_passes import CancelTransposes, DropAbs

from graphopt.check import bisect, differs_from
from graphopt.errors import GraphoptError
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.passbase import Pass, PassContext
from graphopt.pipeline import Pipeline

PAIR = "%t{0} = transpose %v{0} {{perm=[1,0]}}\n%u{0} = transpose %t{0} {{perm=[1,0]}}\n"
ABS = '%v{1} = abs %u{0} loc("layer{0}", "model.py:{0}")\n'


def _chain(length: int) -> Graph:
    """Pairs of transposes and absolute values in turn; only the first abs matters."""
    lines = "".join((PAIR + ABS).format(i, i + 1) for i in range(length))
    return parse(f"%v0 = input : f32[4,4]\n{lines}return %v{length}")


def test_finds_the_rewrite() -> None:
    graph = _chain(40)
    pipeline = Pipeline.of([CancelTransposes(), DropAbs()])
    guilty = bisect(pipeline, graph, differs_from(graph, tolerance=1e-6))
    assert guilty.event is not None
    assert guilty.event.pass_name == "drop-abs"
    # Dropping any but the last abs leaves another; the result is wrong once all 40 are gone.
    assert (guilty.rewrite, guilty.rewrites) == (80, 80)
    assert str(guilty) == "rewrite 80 of 80: pass drop-abs at %v40 = abs (layer39 at model.py:39)"
    assert guilty.trials <= 2 + math.ceil(math.log2(80))


def test_finds_one_in_the_middle() -> None:
    graph = parse(
        "%x = input : f32[8]\n%p = relu %x\n%a = abs %p\n%q = neg %p\n%b = abs %q\n%c = abs %p\n"
        "return %a, %b, %c"
    )
    guilty = bisect(Pipeline.of([DropAbs()]), graph, differs_from(graph, tolerance=1e-6))
    assert (guilty.rewrite, guilty.rewrites) == (2, 3)
    assert str(guilty) == "rewrite 2 of 3: pass drop-abs at %b = abs"


@dataclass(frozen=True)
class Unaccounted(Pass):
    """Drops the last node without asking for fuel."""

    name: ClassVar[str] = "unaccounted"

    def run(self, graph: Graph, ctx: PassContext) -> Graph:
        return DropAbs().run(graph, PassContext())


def test_finds_passes_that_spend_no_fuel() -> None:
    graph = _chain(3)
    pipeline = Pipeline.of([CancelTransposes(), Unaccounted(), CancelTransposes()])
    guilty = bisect(pipeline, graph, differs_from(graph, tolerance=1e-6))
    assert guilty.event is None
    assert str(guilty) == "pass unaccounted, in what it does to the whole graph"


def test_nothing_to_find() -> None:
    graph = _chain(2)
    with pytest.raises(GraphoptError, match="the result is good"):
        bisect(Pipeline.of([CancelTransposes()]), graph, lambda g: False)
    with pytest.raises(GraphoptError, match="bad before any pass"):
        bisect(Pipeline.of([CancelTransposes()]), graph, lambda g: True)
