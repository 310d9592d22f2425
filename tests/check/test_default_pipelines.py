"""The built-in pipelines keep their promises on random graphs."""

from __future__ import annotations

import pytest

from graphopt.check import NumericsGate, random_graph
from graphopt.pipeline import Pipeline
from graphopt.plugins import registry

LEVELS = registry().find("pipelines", "default").load()


@pytest.mark.parametrize("seed", range(60))
def test_every_pass_passes_the_gate(seed: int) -> None:
    level = sorted(LEVELS)[seed % len(LEVELS)]
    pipeline = Pipeline.parse(",".join(name for name, _ in LEVELS[level]))
    pipeline.run(random_graph(seed, size=14), verify_each=True, gate=NumericsGate())
