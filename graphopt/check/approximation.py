"""Kernels of an artifact that compute by a faster, less exact algorithm: how far off each one is by
itself, on the very operands that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.artifact.format import Call, Manifest
from graphopt.artifact.loader import Model
from graphopt.artifact.verify import difference
from graphopt.check.artifact import check_values
from graphopt.check.reference import execute
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.views import is_view

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Approximation:
    """A kernel call and what its algorithms may be off by, relative to the largest magnitude of
    what it writes; `measured` is what it is off by, None where there was no model to compare."""

    number: int
    call: Call
    measured: float | None = None

    @property
    def bound(self) -> float:
        return self.call.error_bound

    @property
    def holds(self) -> bool:
        return self.measured is None or self.measured <= self.bound


def declared(manifest: Manifest) -> list[Approximation]:
    """Those that an artifact has, not measured."""
    return [Approximation(i, c) for i, c in enumerate(manifest.calls) if c.error_bound]


def measured(model: Model, planned: Graph, inputs: Arrays) -> list[Approximation]:
    """Each beside its region of the planned graph, run in float64 on what the artifact computed up
    to there: errors of earlier kernels are not in it.

    Raises: GraphoptError when the artifact was made by other passes.
    """
    check_values(model.manifest, planned)
    found = declared(model.manifest)
    if not found:
        return []
    wrote: dict[str, np.ndarray] = {}

    def keep(i: int, results: list[np.ndarray]) -> None:
        for spec, array in zip(model.manifest.calls[i].results, results, strict=True):
            wrote.setdefault(spec.name, array.copy())

    model.observe(keep, **{name: array.copy() for name, array in inputs.items()})
    regions = {v.name: n for n in planned.nodes for v in n.results if n.body is not None}
    known = _Known(planned, inputs, wrote)
    return [
        Approximation(a.number, a.call, known.error(regions[a.call.results[0].name])) for a in found
    ]


@dataclass(frozen=True)
class _Known:
    """What every value of a planned graph was in a run of its artifact."""

    graph: Graph
    inputs: Arrays
    wrote: Arrays

    def error(self, region: Node) -> float:
        """Infinite where one side is NaN or infinite and the other is not."""
        assert region.body is not None
        operands = [self.array(o) for o in region.operands]
        expected = execute(region.body, operands, precision=np.float64)
        found = [
            difference(v.name, self.wrote[v.name], e)
            for v, e in zip(region.results, expected, strict=True)
        ]
        return max(d.relative if d.agrees else float("inf") for d in found)

    def array(self, value: Value) -> np.ndarray:
        node = value.producer
        if node is None:
            return self.inputs[value.name]
        if value.name in self.wrote:
            return self.wrote[value.name]
        constant = self.graph.constant(value)
        if constant is not None:
            return constant
        operands = [self.array(o) for o in node.operands] if is_view(node) else []
        return np.asarray(node.op.reference(*operands, node.attrs))
