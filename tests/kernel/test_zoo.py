"""All kernels of all tiny models: text, verifier, meaning, kernel passes."""

from __future__ import annotations

import numpy as np
import pytest
from graphopt_backends.cpu.targets import TARGETS
from models import TINY
from regions_in_memory import from_memory, inputs_of, reference_values
from zoo import SCALAR, VECTORS, lowered, model, steps

from graphopt.check import KernelNumericsGate
from graphopt.driver import Options, default_kernel_pipeline
from graphopt.ir.graph import Node, Value
from graphopt.kernel.interpret import interpret
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.passbase import KernelContext
from graphopt.kernel.text import print_kernel
from graphopt.kernel.verify import verify_kernel
from graphopt.lower.region import Lowered

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.transformers]
ROUNDING = 1e-11
"""Of the largest magnitude. Both sides run in float64: sums of a few thousand terms."""

# The weights that these transform are packed in f32: a rounding of 2^-24 in every term.
WEIGHT_ROUNDING = {"winograd": 1e-6, "strassen": 1e-6}


@pytest.mark.parametrize(
    ("name", "target"), [*((name, VECTORS) for name in TINY), ("tiny_resnet", SCALAR)]
)
def test_text_comes_back(name: str, target: str) -> None:
    """Of whole kernels: their steps, which have less in them, take minutes."""
    for _, found in lowered(name, target):
        assert parse_kernel(print_kernel(found.kernel)) == found.kernel, found.kernel.name


@pytest.mark.parametrize("name", TINY)
def test_every_step_verifies_and_is_proved(name: str) -> None:
    for label, kernel, last in steps(name):
        unproven = verify_kernel(kernel, complete=last)
        # A border filled by rows that no vector divides: `r // 4 % 15` beside `r // 60`.
        rest = [str(u) for u in unproven if "parallel loop 'x' may write" not in u.what]
        assert not rest, label


@pytest.mark.parametrize("name", TINY)
def test_kernels_mean_what_the_graph_means(name: str) -> None:
    graph, inputs = model(name)
    values = reference_values(graph, inputs)
    for node, found in lowered(name, VECTORS):
        _compare(node, found, values)


def _compare(node: Node, found: Lowered, values: dict[Value, np.ndarray]) -> None:
    arrays = inputs_of(node, found, values)
    results = interpret(found.kernel, arrays, precision=np.float64)
    for name, result in zip(found.kernel.outputs, node.results, strict=True):
        got, wanted = from_memory(results[name], result.type), values[result]
        largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
        allowed = WEIGHT_ROUNDING.get(found.kernel.name, ROUNDING) * largest
        np.testing.assert_allclose(got, wanted, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.parametrize("name", TINY)
def test_default_kernel_passes_keep_their_promises(name: str) -> None:
    pipeline, gate = default_kernel_pipeline(Options()), KernelNumericsGate(seeds=(0,))
    for _, found in lowered(name, VECTORS):
        ctx = KernelContext(target=TARGETS[VECTORS])
        pipeline.run(found.kernel, ctx, gate=gate)
    assert not gate.notes
