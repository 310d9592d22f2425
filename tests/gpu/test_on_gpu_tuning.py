"""Tuning on a GPU: what kernels do wrong is told, and what wins is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_cases import TESTS

import graphopt
from graphopt.artifact.format import read_manifest
from graphopt.artifact.verify import verify
from graphopt.driver import Options, build
from graphopt.target import resolve
from graphopt.tune.database import Outcome
from graphopt.tune.explore import Effort
from graphopt.tune.measure import Duel, Measurer

sys.path.insert(0, str(TESTS / "backends" / "cuda"))
import planted_kernels as planted  # beside the tests in emulation

pytestmark = [pytest.mark.gpu, pytest.mark.nvcc]

_, TARGET = resolve("cuda")
SOURCE = f"{TESTS / 'backends' / 'cuda' / 'gpu_net.py'}:build"

MISDEEDS = [
    *planted.MISDEEDS,
    ("faults", Outcome.CRASHED, "illegal memory access"),
    ("fails", Outcome.CRASHED, "kernel go_fails: "),
]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(TARGET) as measurer:
        measurer.open(planted.case())
        measurer.prebuild([planted.candidate(m[0], TARGET) for m in MISDEEDS])
        yield measurer


@pytest.mark.parametrize(("name", "outcome", "message"), MISDEEDS, ids=[m[0] for m in MISDEEDS])
def test_a_misdeed_on_gpu_is_told_and_the_next_kernel_is_well(
    measurer: Measurer, name: str, outcome: Outcome, message: str
):
    failed = measurer.prepare(planted.candidate(name, TARGET))
    assert failed is not None
    assert failed.outcome is outcome, failed.message
    assert message in failed.message
    good, slow = (planted.candidate(n, TARGET) for n in ("good", "slow"))
    duel = measurer.duel(slow, good, 5)
    assert isinstance(duel, Duel)
    assert min(duel.times) > 2 * min(duel.rival_times) > 0


@pytest.mark.torch
def test_a_model_is_tuned_on_gpu(tmp_path: Path):
    path, effort = tmp_path / "r.db", Effort(first=3, more=3, final=3)
    found = graphopt.tune(SOURCE, trials=12, target="cuda", database=path, effort=effort)
    assert sum(r.trials for r in found.regions) >= 6
    assert all(set(r.outcomes) == {"ok"} for r in found.regions)
    assert all(0 < r.default_us < 1e4 for r in found.regions)
    made = build(SOURCE, target="cuda", out=tmp_path / "net", options=Options(tuned=path))
    assert made.artifact is not None
    extra = read_manifest(made.artifact).extra
    assert "schedules of kernels" not in extra["unmeasured"]
    assert all(d.agrees for d in verify(made.artifact))
