"""An artifact held against its model: outputs against eager in float64, and what every kernel
writes against the planned graph in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.artifact.format import Call, Manifest, Result
from graphopt.artifact.loader import Model
from graphopt.artifact.verify import Difference, difference
from graphopt.check.inputs import seeded_inputs
from graphopt.check.reference import execute
from graphopt.errors import GraphoptError
from graphopt.ir.graph import Graph, Node

if TYPE_CHECKING:
    from graphopt.frontend.traced import Traced

Arrays = Mapping[str, np.ndarray]

TOLERANCES = {"f16": 1e-2, "bf16": 8e-2, "tf32": 1e-2}
"""Of the largest magnitude, by the type computed in: 20 roundings of the type. A model is a chain
of some dozen rounded layers, and their roundings mostly cancel."""
TOLERANCE = 1e-4
"""Of any other type: what a compiled model is held to, some 1000 roundings of float32."""

EAGER, INTERPRETER = "eager in float64", "the reference interpreter in float64"


@dataclass(frozen=True)
class Compared:
    """A difference and what is allowed."""

    difference: Difference
    tolerance: float

    @property
    def holds(self) -> bool:
        return self.difference.agrees and self.difference.relative <= self.tolerance


@dataclass(frozen=True)
class Boundary:
    """A value that a kernel writes. `call` is the number of the kernel's call."""

    call: int
    value: str
    node: Call
    compared: Compared

    def __str__(self) -> str:
        """`%relu: layer1.0.conv2 at model.py:12`: the model's own words."""
        places = (" at ".join(p for p in place if p) for place in self.node.computes)
        return f"%{self.value}: " + (", ".join(dict.fromkeys(places)) or self.node.kernel)


def tolerance_of(dtype: str, given: float | None = None, precision: str = "") -> float:
    """What is allowed for results of a type that were computed in a `precision`, the manifest's,
    unless something else is asked for."""
    if given is not None:
        return given
    return max(TOLERANCES.get(name, TOLERANCE) for name in (dtype, precision))


def source_inputs(graph: Graph, traced: Traced | None) -> dict[str, np.ndarray]:
    """Inputs by name: the model's example inputs, or seeded ones."""
    if traced is not None:
        return traced.inputs()
    return dict(zip((v.name for v in graph.inputs), seeded_inputs(graph), strict=True))


def check_ports(manifest: Manifest, graph: Graph) -> None:
    """Raises: GraphoptError when an artifact is not of this model."""
    ours = [(t.name, str(t)) for t in manifest.inputs], [str(t) for t in manifest.outputs]
    theirs = (
        [(v.name, str(v.type.logical)) for v in graph.inputs],
        [str(v.type.logical) for v in graph.outputs],
    )
    if ours != theirs:
        shown = [", ".join(f"{name}: {type}" for name, type in side[0]) for side in (ours, theirs)]
        outs = [", ".join(side[1]) for side in (ours, theirs)]
        raise GraphoptError(
            f"the artifact is of another model: it takes ({shown[0]}) and gives ({outs[0]}), "
            f"the source takes ({shown[1]}) and gives ({outs[1]})",
            hint="name the SOURCE that it was compiled from",
        )


def exact_outputs(
    graph: Graph, traced: Traced | None, inputs: Arrays
) -> tuple[dict[str, np.ndarray], str]:
    """(outputs by name, where they come from), all arithmetic in float64."""
    if traced is not None:
        try:
            return traced.exact(), EAGER
        except Exception:  # an exported program, or code that names a dtype, may not run in float64
            pass
    names = graph.output_names or tuple(f"output{i}" for i in range(len(graph.outputs)))
    outputs = execute(graph, inputs, precision=np.float64)
    return dict(zip(names, outputs, strict=True)), INTERPRETER


def compare_outputs(
    model: Model, inputs: Arrays, expected: Arrays, tolerance: float | None = None
) -> list[Compared]:
    """Each output of the artifact beside what is expected."""
    copies = {name: array.copy() for name, array in inputs.items()}
    results = model.fetched(model.run(model.placed(copies)))
    return [
        Compared(difference(t.name, results[t.name], expected[t.name]),
                 tolerance_of(t.dtype, tolerance, model.manifest.precision))
        for t in model.outputs
    ]  # fmt: skip


def compare_kernels(
    model: Model, planned: Graph, inputs: Arrays, tolerance: float | None = None
) -> list[Boundary]:
    """Every value that a kernel of the artifact writes, in the order of the calls, beside the value
    of that name in the planned graph, computed in float64 from the inputs.

    Raises: GraphoptError when the artifact was made by other passes.
    """
    check_values(model.manifest, planned)
    wrote: dict[str, list[tuple[int, Result, np.ndarray]]] = {}

    def keep(i: int, results: list[np.ndarray]) -> None:
        for spec, array in zip(model.manifest.calls[i].results, results, strict=True):
            wrote.setdefault(spec.name, []).append((i, spec, array.copy()))

    copies = {name: array.copy() for name, array in inputs.items()}
    model.observe(keep, **model.placed(copies))
    out: list[Boundary] = []
    precision = model.manifest.precision

    def compare(name: str, expected: np.ndarray) -> None:
        for i, spec, array in wrote.pop(name, []):
            found = difference(name, array, expected)
            allowed = Compared(found, tolerance_of(spec.dtype, tolerance, precision))
            out.append(Boundary(i, name, model.manifest.calls[i], allowed))

    outer = set(planned.nodes)  # a body's values may have the names of the graph's

    def observe(node: Node, results: tuple[np.ndarray, ...]) -> None:
        if node in outer:
            for value, array in zip(node.results, results, strict=True):
                compare(value.name, array)

    execute(planned, inputs, precision=np.float64, observer=observe)
    for value in planned.inputs:  # an input that is returned is copied by a kernel
        compare(value.name, inputs[value.name])
    return sorted(out, key=lambda b: b.call)


def planned_again(manifest: Manifest, graph: Graph) -> Graph:
    """The planned graph that the artifact was made from, made again. Raises: PluginError."""
    from graphopt.passbase import PassContext
    from graphopt.pipeline import Pipeline
    from graphopt.target import resolve

    _, target = resolve(f"{manifest.target.backend}:{manifest.target.name}")
    return Pipeline.parse(manifest.pipeline).run(graph, PassContext(target=target))


def first_drifting(boundaries: list[Boundary]) -> Boundary | None:
    """The first value that is further off than allowed."""
    return next((b for b in boundaries if not b.compared.holds), None)


def check_values(manifest: Manifest, planned: Graph) -> None:
    """Raises: GraphoptError when a planned graph is not the one that an artifact was made from."""
    types = {v.name: str(v.type.logical) for v in planned.values()}
    for call in manifest.calls:
        for result in call.results:
            if types.get(result.name) != str(result):
                has = types.get(result.name, "none")
                raise GraphoptError(
                    f"the artifact has a value %{result.name}: {result} ({call.name}), where the "
                    f"source, run through the same passes, has {has}",
                    hint="compile it again: the source or the passes have changed since",
                )
