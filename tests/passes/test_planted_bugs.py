"""Real mistakes, planted one at a time in the built-in passes: the gate or the verifier names each.

They stand in the `planted_*` files beside this one. The control: on the same graph the pass as it
is fires, and nobody complains.
"""

from __future__ import annotations

import planted_algorithms
import planted_arithmetic
import planted_products
import planted_regions
import planted_views
import pytest
from graphopt_passes import PLUGIN
from planting import Bug, Mutant

from graphopt.check import NumericsGate, random_constant
from graphopt.errors import GateError, PluginError
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

BUGS = {
    title: bug
    for planted in (
        planted_algorithms,
        planted_arithmetic,
        planted_products,
        planted_regions,
        planted_views,
    )
    for title, bug in planted.BUGS.items()
}


def _graph(bug: Bug) -> Graph:
    return parse(bug.graph, fill=random_constant)


@pytest.mark.parametrize("title", BUGS)
def test_is_caught(title: str) -> None:
    bug = BUGS[title]
    (original,) = Pipeline.parse(bug.pass_).passes
    mutant = Pipeline.of([Mutant(original, bug)])
    with pytest.raises((GateError, PluginError)) as caught:
        mutant.run(_graph(bug), verify_each=True, gate=NumericsGate())
    assert f"pass {original.name}" in str(caught.value)
    assert " raised " not in str(caught.value), "it crashed: nothing had to be caught"


@pytest.mark.parametrize("title", BUGS)
def test_control(title: str) -> None:
    bug, ctx = BUGS[title], PassContext()
    Pipeline.parse(bug.pass_).run(_graph(bug), ctx, verify_each=True, gate=NumericsGate())
    assert ctx.rewrites > 0, "the graph says nothing about the pass"


def test_there_are_enough() -> None:
    """plan-memory changes no value: test_plan_memory checks its plans. absorb-expands,
    choose-winograd and choose-strassen change one attribute or operand each."""
    assert len(BUGS) >= 30
    unplanted = {
        "plan-memory",
        "absorb-expands",
        "choose-winograd",
        "choose-strassen",
    }
    planted = {b.pass_.partition("{")[0] for b in BUGS.values()}
    assert planted | unplanted >= set(PLUGIN.passes) - {
        "decompose-batch-norm"  # shares its arithmetic with fold-batchnorm
    }
