"""What holds for every pass of the built-in distribution, alone and in the default pipelines."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
from graphopt_passes import PLUGIN
from graphopt_passes.pipelines import LEVELS, text
from hypothesis import given, settings

from graphopt.check import NumericsGate, graphs, random_graph
from graphopt.ir.equal import first_difference
from graphopt.ir.graph import Graph
from graphopt.passbase import Numerics, Pass, PassContext
from graphopt.pipeline import Pipeline
from graphopt.plugins import registry

NAMES = sorted(PLUGIN.passes)
ONCE = {"fuse", "assign-layouts", "plan-memory"}
"""These choose regions, layouts and offsets: on graphs that have them already they do not run."""
LEFT_OUT = {
    "merge-parallel-products": "no faster; its file has the numbers",
    "fold-bias": "fold-scale does it and more; O1 has it",
}


def _run(name: str, graph: Graph) -> Graph:
    pipeline = Pipeline.parse(name)
    once = pipeline.run(graph, verify_each=True, gate=NumericsGate())
    assert first_difference(once, pipeline.run(once, verify_each=True)) is None
    return once


@pytest.mark.parametrize("name", NAMES)
def test_random_graphs(name: str) -> None:
    for seed in range(15):
        _run(name, random_graph(seed, size=14))
        _run(name, random_graph(seed, size=14, tame=False))


@pytest.mark.parametrize("name", sorted(set(NAMES) - ONCE))
def test_graphs_with_layouts_and_regions(name: str) -> None:
    for seed in range(15):
        _run(name, random_graph(seed, size=14, planned=True))


@given(graphs(max_size=14))
@settings(max_examples=40)
def test_whole_pipeline(graph: Graph) -> None:
    Pipeline.parse(text("O2")).run(graph, verify_each=True, gate=NumericsGate())


@pytest.mark.parametrize("name", NAMES)
def test_is_a_frozen_dataclass_that_says_what_it_does(name: str) -> None:
    (pass_,) = Pipeline.parse(name).passes
    cls = type(pass_)
    assert issubclass(cls, Pass)
    assert pass_.name == name
    assert isinstance(pass_.numerics, Numerics)
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "Numerics:" in (inspect.getdoc(cls) or "")
    module = inspect.getmodule(cls)
    assert module is not None
    assert module.__name__.rsplit(".", 1)[-1] == name.replace("-", "_")
    assert (module.__doc__ or "").startswith(f"{name}: ")


@pytest.mark.parametrize("name", NAMES)
def test_without_fuel_nothing_is_rewritten(name: str) -> None:
    """What bisect relies on: with no fuel left, a pass accounts for no rewrite, and its result
    means the same."""
    for seed in range(5):
        ctx = PassContext(fuel=0)
        Pipeline.parse(name).run(random_graph(seed, size=14), ctx, gate=NumericsGate())
        assert ctx.rewrites == 0 or name == "assign-layouts"


@pytest.mark.parametrize("level", LEVELS)
def test_levels_give_reasons(level: str) -> None:
    known = {e.name for e in registry().of("passes")}
    for name, reason in LEVELS[level]:
        assert name.split("{")[0] in known
        assert len(reason) > 10
    assert str(Pipeline.parse(text(level))) == text(level)


def test_every_pass_stands_in_the_default_pipeline_or_is_left_out_for_a_reason() -> None:
    placed = {name.split("{")[0] for name, _ in LEVELS["O2"]}
    assert set(NAMES) - placed == set(LEFT_OUT)
