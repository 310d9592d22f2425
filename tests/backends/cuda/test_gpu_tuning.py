"""Tuning for GPUs, on the emulated one: kernels that do what they should not, and a whole model."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import planted_kernels as planted
import pytest
from click.testing import CliRunner
from cuda_regions import graph_of, random, tensor
from graphopt_backends.cuda.backend import CudaBackend
from graphopt_backends.cuda.targets import TARGETS
from graphopt_passes.fuse.fuse import Fuse
from killed_tuning import tune_until_killed

import graphopt
from graphopt.artifact.format import read_manifest
from graphopt.artifact.verify import verify
from graphopt.cli.group import cli
from graphopt.ops import AttentionAttrs
from graphopt.passbase import PassContext
from graphopt.tune.candidate import MESSAGE, SYMBOL
from graphopt.tune.case import capture
from graphopt.tune.database import Database, Outcome, Record
from graphopt.tune.explore import Effort
from graphopt.tune.measure import Duel, Measurer
from graphopt.tune.space import Point

pytestmark = pytest.mark.compiler

EMULATED = TARGETS["emulated"]
SOURCE = f"{Path(__file__).parent / 'gpu_net.py'}:build"
QUICK = Effort(first=1, more=1, final=1, processes=1)

MISDEEDS = [
    *planted.MISDEEDS,
    ("faults", Outcome.CRASHED, "killed by SIGSEGV"),
    ("fails", Outcome.CRASHED, "kernel go_fails: error 1"),
    ("no_cuda", Outcome.BUILD_FAILED, "failed:"),
]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(EMULATED) as measurer:
        measurer.open(planted.case())
        measurer.prebuild([planted.candidate(name, EMULATED) for name in planted.BODIES])
        yield measurer


def test_the_slower_kernel_is_told(measurer: Measurer):
    good, slow = (planted.candidate(name, EMULATED) for name in ("good", "slow"))
    duel = measurer.duel(slow, good, 5)
    assert isinstance(duel, Duel)
    assert min(duel.times) > 2 * min(duel.rival_times) > 0


@pytest.mark.parametrize(("name", "outcome", "message"), MISDEEDS, ids=[m[0] for m in MISDEEDS])
def test_a_misdeed_is_told(measurer: Measurer, name: str, outcome: Outcome, message: str):
    failed = measurer.prepare(planted.candidate(name, EMULATED))
    assert failed is not None
    assert failed.outcome is outcome, failed.message
    assert message in failed.message


def test_a_kernel_of_several_grids_has_its_workspace():
    """Attention of a query, its keys in parts: what they leave lies behind the parameters."""
    types = [tensor(2, 2, 1, 64), *[tensor(2, 2, 300, 64)] * 2]
    attrs = AttentionAttrs(0.125, False)
    graph = graph_of(types, [], lambda rw, q, k, v: rw.emit("attention", q, k, v, attrs=attrs))
    graph = Fuse().run(graph, PassContext(target=EMULATED))
    (node,) = (n for n in graph.nodes if n.body is not None)
    inputs = [random(*t.dims) for t in types]
    backend = CudaBackend()
    points = [Point({"threads": 128, "parts": parts}) for parts in (1, 2, 4)]
    assert all(p in backend.space(node, EMULATED) for p in points)
    made = [backend.candidate(node, graph, EMULATED, p, lambda k: k) for p in points]
    assert [bool(c.scratch_bytes) for c in made] == [False, True, True]
    with Measurer(EMULATED) as measurer:
        measurer.open(capture(graph, inputs, [node], 1 << 16)[node])
        assert [measurer.prepare(c) for c in made] == [None] * 3


def _records(path: Path) -> list[Record]:
    with Database(path) as database:
        (place,) = database.places()
        return database.records(place)


@pytest.mark.torch
def test_a_model_is_tuned_killed_and_compiled(tmp_path: Path):
    """A block per row is slow in emulation, where threads are: a thread per row wins."""
    pytest.importorskip("torch")
    pytest.importorskip("optuna")
    path, folder = tmp_path / "r.db", tmp_path / "net"
    tune_until_killed(SOURCE, path, trials=6, vendor="auto", records=2)
    before = _records(path)
    assert 2 <= len(before) < 6
    found = graphopt.tune(SOURCE, trials=6, target="cuda:emulated", database=path, effort=QUICK)
    after = _records(path)
    assert after[: len(before)] == before
    assert [r for r in after if not r.rival] == before[:1], "the default is measured once"
    assert {r.outcome for r in after} == {Outcome.OK}
    norm = next(r for r in found.regions if "norm" in r.computes)
    assert (norm.best, norm.trials) == ("row_threads=1", 6)

    done = CliRunner().invoke(
        cli,
        ["compile", SOURCE, "-o", str(folder), "--target", "cuda:emulated", "--tuned", str(path)],
    )
    assert done.exit_code == 0, done.output
    assert ", 1 tuned" in done.stdout
    manifest = read_manifest(folder)
    (kernel,) = manifest.extra["tuning"]["kernels"]
    assert kernel == next(r.kernel for r in after if r.point == "row_threads=1")
    assert kernel in {c.kernel for c in manifest.calls}
    assert "schedules of 2 of 3 kernels" in manifest.extra["unmeasured"]
    assert all(d.agrees for d in verify(folder))


@pytest.mark.nvcc
def test_a_library_for_a_gpu(tmp_path: Path):
    """It exports what the worker calls; nothing is run."""
    target = TARGETS["sm_90a"]
    sources = planted.candidate("good", target).sources
    made = CudaBackend().build(sources, target, tmp_path / "good.so")
    library = ctypes.CDLL(str(made))
    assert getattr(library, SYMBOL)
    assert getattr(library, MESSAGE)
