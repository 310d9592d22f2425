"""Every pass on hundreds of graphs made of the very patterns it looks for, under the gate."""

from __future__ import annotations

import pytest
from graphopt_passes.pipelines import text
from soups import SOUPS

from graphopt.check import NumericsGate
from graphopt.ir.equal import first_difference
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

FIRES_ON = {
    "simplify-arithmetic": "arithmetic",
    "regroup-arithmetic": "smooth",
    "merge-clamps": "clamps",
    "simplify-selects": "logic",
    "cancel-casts": "casts",
    "cancel-transposes": "views",
    "compose-views": "views",
    "compose-slices": "views",
    "compose-pads": "views",
    "absorb-expands": "views",
    "gather-to-slice": "views",
    "fold-constants": "views",
    "eliminate-common-subexpressions": "logic",
    "eliminate-dead-code": "dead",
    "simplify-attention": "attentions",
    "recognize-gelu": "composites",
    "recognize-silu": "composites",
    "recognize-rms-norm": "composites",
    "matmul-to-linear": "products",
    "linear-to-conv": "residuals",
    "compose-products": "products",
    "merge-parallel-products": "products",
    "fold-bias": "products",
    "fold-scale": "products",
    "sink-reshapes": "products",
    "sink-views": "products",
    "sink-slices": "products",
    "fuse": "products",
    "assign-layouts": "views",
}
SEEDS = range(60)


@pytest.mark.parametrize("name", FIRES_ON)
def test_keeps_its_promise_and_has_nothing_left_to_do(name: str) -> None:
    pipeline = Pipeline.parse(name)
    ctx = PassContext()
    for seed in SEEDS:
        graph = SOUPS[FIRES_ON[name]](seed)
        once = pipeline.run(graph, ctx, verify_each=True, gate=NumericsGate())
        again = pipeline.run(once, verify_each=True)
        assert first_difference(once, again) is None, f"seed {seed}"
    assert ctx.rewrites >= 5, f"{name} hardly fires: this test would notice nothing"


@pytest.mark.parametrize("soup", sorted(SOUPS))
@pytest.mark.parametrize("level", ["O1", "O2"])
def test_whole_pipelines(soup: str, level: str) -> None:
    pipeline = Pipeline.parse(text(level))
    for seed in range(12):
        pipeline.run(SOUPS[soup](seed), verify_each=True, gate=NumericsGate())


@pytest.mark.parametrize("soup", sorted(SOUPS))
def test_passes_do_not_chase_each_other(soup: str) -> None:
    """All that comes before legalization, over and over, comes to rest."""
    pipeline = Pipeline.parse(text("O2").split(",decompose-conv-transpose")[0])
    for seed in range(12):
        graph = SOUPS[soup](seed)
        for _ in range(6):
            before, graph = graph, pipeline.run(graph)
            if first_difference(before, graph) is None:
                break
        else:
            raise AssertionError(f"seed {seed}: {first_difference(before, graph)}")
