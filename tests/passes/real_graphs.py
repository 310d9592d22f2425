"""Graphs of real models for the tests of passes: traced once per process."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import traced_models
from graphopt_passes.pipelines import text

from graphopt.check import NumericsGate
from graphopt.ir.graph import Graph
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

if TYPE_CHECKING:
    from torch import Tensor, nn


def tiny(name: str) -> Graph:
    """A model of `models.TINY`, as the frontend imports it."""
    return traced_models.tiny(name).graph


@cache
def prepared(name: str, pipeline: str) -> Graph:
    """A tiny model after the passes that come before the one under test."""
    return Pipeline.parse(pipeline).run(tiny(name))


def traced(module: nn.Module, *inputs: Tensor) -> Graph:
    """A hand-written module."""
    from graphopt.frontend import trace_model

    return trace_model(module.eval(), inputs).graph


def fires(pass_: str, graph: Graph) -> tuple[Graph, int]:
    """Run a pass under the verifier and the gate: its result, and how often it rewrote."""
    ctx = PassContext()
    result = Pipeline.parse(pass_).run(graph, ctx, verify_each=True, gate=NumericsGate())
    return result, ctx.rewrites


def tiles_behind(pass_: str, module: nn.Module, x: Tensor) -> list[int]:
    """The tiles of Winograd's algorithm that O2 gives a module, whose one convolution `pass_` makes
    ready for it once padding is explicit."""
    graph = traced(module, x)
    _, rewrites = fires(pass_, Pipeline.parse("explicit-padding").run(graph))
    assert rewrites == 1
    whole = Pipeline.parse(text("O2")).run(graph)
    return [w for r in whole.nodes if r.body for w in attribute(r.body, "conv", "winograd")]


def count(graph: Graph) -> Counter[str]:
    """How many nodes of each op."""
    return Counter(n.op.name for n in graph.nodes)


def attribute(graph: Graph, op: str, name: str) -> list[Any]:
    """An attribute of every node of an op, in order."""
    return [getattr(n.attrs, name) for n in graph.nodes if n.op.name == op]
