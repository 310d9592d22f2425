"""The test kit for passes: a test says what goes in and what must come out, as IR text.

check_pass("cancel-transposes", before="..", after="..")
check_refuses("cancel-transposes", "..", reason="not the identity")
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from graphopt.check.gate import NumericsGate
from graphopt.errors import PluginError
from graphopt.ir.equal import first_difference
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse, print_graph
from graphopt.ir.types import TensorType
from graphopt.ir.verify import verify
from graphopt.passbase import Event, Pass, PassContext
from graphopt.pipeline import Pipeline
from graphopt.target import Target

Source = str | Graph
Constants = Mapping[str, np.ndarray]


def check_pass(
    pass_: str | Pass,
    before: Source,
    after: Source | None = None,
    *,
    constants: Constants | None = None,
    target: Target | None = None,
    idempotent: bool = True,
) -> Graph:
    """Run a pass on `before` as strictly as possible and return what it made.

    Parses and verifies; runs the pass with its input guarded; verifies the result; compares it with
    `after`, if given; holds the pass to its numerics in the reference interpreter; and, with
    `idempotent`, runs it on its own result, which must stay as it is. Without `after` the pass
    must change something. `pass_` is a pass or its text, such as `fuse{max-inputs=8}`; constants
    that the text names without data are random, the same in `before` and `after`.

    Raises: AssertionError where the result is not what the test expects; PluginError and GateError
    where the pass breaks its promises.
    """
    pipeline = _pipeline(pass_)
    graph = _graph(before, constants)
    result = _run(pipeline, graph, PassContext(target=target))
    if after is not None:
        expected = _graph(after, {**(constants or {}), **graph.constants})
        _expect(pipeline, "result versus expected", result, expected)
    else:
        assert first_difference(graph, result) is not None, f"{pipeline} changed nothing"
    if idempotent:
        again = _run(pipeline, result, PassContext(target=target))
        _expect(pipeline, "run on its own result: again versus once", again, result)
    return result


def check_refuses(
    pass_: str | Pass,
    graph: Source,
    reason: str,
    *,
    constants: Constants | None = None,
    target: Target | None = None,
) -> Event:
    """The pass leaves the graph as it is, for a reason that contains `reason`. Returns the refusal.

    Raises: AssertionError otherwise.
    """
    pipeline = _pipeline(pass_)
    before = _graph(graph, constants)
    ctx = PassContext(target=target, record=True)
    _expect(pipeline, "result versus input", _run(pipeline, before, ctx), before)
    refusals = [e for e in ctx.events if e.reason]
    for event in refusals:
        if reason in event.reason:
            return event
    given = "; ".join(dict.fromkeys(e.reason for e in refusals)) or "it looked at no node"
    raise AssertionError(f"{pipeline} refused, but not because {reason!r}: {given}")


def random_constant(key: str, type_: TensorType) -> np.ndarray:
    """Data for a constant that a test names without giving it: the same for the same key and type.

    Floats lie in [0.25, 1.25), so that any may stand for a variance; integers in [0, 4).
    """
    numbers = np.random.default_rng(zlib.crc32(f"{key}:{type_.logical}".encode()))
    if type_.dtype.is_float:
        return np.asarray(numbers.random(type_.dims) + 0.25).astype(type_.dtype.numpy)
    high = 4 if type_.dtype.is_integer else 2
    return np.asarray(numbers.integers(0, high, type_.dims)).astype(type_.dtype.numpy)


def _pipeline(pass_: str | Pass) -> Pipeline:
    pipeline = Pipeline.parse(pass_) if isinstance(pass_, str) else Pipeline.of([pass_])
    if len(pipeline.stages) != 1:
        raise PluginError(f"{pass_!r} is not one pass", hint="check passes one at a time")
    return pipeline


def _graph(source: Source, constants: Constants | None) -> Graph:
    graph = parse(source, constants, fill=random_constant) if isinstance(source, str) else source
    verify(graph)
    return graph


def _run(pipeline: Pipeline, graph: Graph, ctx: PassContext) -> Graph:
    return pipeline.run(graph, ctx, verify_each=True, gate=NumericsGate())


def _expect(pipeline: Pipeline, what: str, result: Graph, expected: Graph) -> None:
    difference = first_difference(result, expected)
    if difference:
        text = print_graph(result, locs=False)
        raise AssertionError(f"{pipeline}, {what}: {difference}\nthe pass made:\n{text}")
