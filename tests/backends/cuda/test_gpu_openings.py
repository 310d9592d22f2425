"""Who computes a region, measured: libraries are timed beside generated kernels, with a kernel for
the rest of a region, and a compile does what the records say."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import planted_kernels as planted
import pytest
from graphopt_backends.cuda.targets import TARGETS
from graphopt_backends.cuda.timed import ENTRY
from killed_tuning import tune_until_killed

import graphopt
from graphopt.artifact.format import read_manifest
from graphopt.artifact.verify import verify
from graphopt.check import check_pass
from graphopt.check.inputs import seeded_inputs
from graphopt.check.passkit import random_constant
from graphopt.driver import Compilation, Options, build, default_pipeline
from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Node
from graphopt.ir.text import parse
from graphopt.ops import FusedAttrs
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline
from graphopt.target import resolve
from graphopt.tune.candidate import MESSAGE, SCRATCH, SYMBOL, Candidate
from graphopt.tune.case import capture
from graphopt.tune.database import Database, Outcome, Record
from graphopt.tune.explore import Effort
from graphopt.tune.measure import Measurer
from graphopt.tune.openings import computed_by
from graphopt.tune.place import place_of
from graphopt.tune.space import Point

BACKEND, EMULATED = resolve("cuda:emulated")
BOTH = "cublaslt,cudnn"
SOURCE = f"{Path(__file__).parent / 'gpu_conv_net.py'}:build"
QUICK = Effort(first=1, more=1, final=1, processes=1)

LINEAR = """
  %x = input : f32[70,64]
  %w = constant {key="w"} : f32[32,64]
  %y = fused %x, %w {kind="contraction"} : f32[70,32] {
    %a = input : f32[70,64]
    %b = input : f32[32,64]
    %c = linear %a, %b
    %d = neg %c
    return %d
  }
  return %y"""


def marked(text: str, pipeline: str) -> FusedAttrs:
    after = check_pass(pipeline, text, target=EMULATED)
    (node,) = (n for n in after.nodes if n.body is not None)
    assert isinstance(node.attrs, FusedAttrs)
    return node.attrs


def test_what_is_left_open_names_who_could_compute_it():
    """The first is who the table chooses: here a second launch costs the gain."""
    text = "choose-libraries{use=[cublaslt,cudnn],open=true}"
    assert marked(LINEAR, text).offers == ("kernel", "cublaslt")
    always = "choose-libraries{use=[cublaslt],always=true,tf32=true,open=true}"
    assert marked(LINEAR, always).offers == ("cublaslt.tf32", "kernel")


@pytest.mark.parametrize(
    ("who", "made"), [("kernel", [""]), ("cublaslt", ["cublaslt", ""]), ("another", [""])]
)
def test_a_decision_is_followed(who: str, made: list[str]):
    """Text like any other: a manifest's pipeline makes the same graph again. What is not offered
    any more is left to the table."""
    pipeline = Pipeline.parse("choose-libraries{use=[cublaslt]}")
    opened = pipeline.left_open().run(parse(LINEAR, fill=random_constant), _context())
    (node,) = (n for n in opened.nodes if n.body is not None)
    settled = pipeline.settled({region_digest(node): who})
    assert Pipeline.parse(str(settled)) == settled
    after = settled.run(parse(LINEAR, fill=random_constant), _context(), verify_each=True)
    fused = [n.attrs for n in after.nodes if n.body is not None]
    assert [a.library for a in fused if isinstance(a, FusedAttrs)] == made
    assert not any(a.offers for a in fused if isinstance(a, FusedAttrs))


def test_a_pass_that_asks_nobody_leaves_nothing_open():
    pipeline = Pipeline.parse("choose-libraries")
    assert pipeline.left_open() == pipeline == pipeline.settled({"0": "kernel"})


def _context() -> PassContext:
    return PassContext(target=EMULATED)


# Candidates ------------------------------------------------------------------------------------

CASES = {
    "linear-rest": """
      %x = input : f32[3,5,12]
      %w = constant {key="w"} : f32[7,12]
      %b = constant {key="b"} : f32[7]
      %y0 = linear %x, %w, %b
      %y = gelu %y0 {approximate="none"}
      return %y""",
    "conv-residual-rest-pad": """
      %x = input : f32[2,6,9,8]
      %z = input : f32[2,4,9,8]
      %w = constant {key="w"} : f32[4,6,3,3]
      %b = constant {key="b"} : f32[4]
      %c = conv %x, %w, %b {stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1]}
      %s = silu %c
      %a = add %s, %z
      %y = max_pool %a {kernel=[2,2], stride=[2,2], padding=[[0,0],[0,0]], dilation=[1,1]}
      return %y""",
    "matmul": """
      %x = input : f16[2,5,6]
      %r = input : f16[2,6,4]
      %y = matmul %x, %r
      return %y""",
}


@pytest.mark.compiler
@pytest.mark.parametrize("name", CASES)
def test_a_library_and_a_kernel_for_the_rest_pass_the_check(name: str):
    """In guarded, poisoned buffers: layouts, packed weights, workspace, what lies between both."""
    graph = parse(CASES[name], fill=random_constant)
    planned = _left_open(graph)
    nodes = [n for n in planned.nodes if getattr(n.attrs, "offers", ())]
    assert len(nodes) == 1
    case = capture(planned, seeded_inputs(graph), nodes, 1 << 16)[nodes[0]]
    candidates = [c for p, c in _candidates(nodes[0], planned) if computed_by(p) != "kernel"]
    with Measurer(EMULATED) as measurer:
        measurer.open(case)
        for candidate in candidates:
            failed = measurer.prepare(candidate)
            assert failed is None, failed


def _left_open(graph: Graph) -> Graph:
    pipeline = default_pipeline(Options(vendor=BOTH), BACKEND).left_open()
    return pipeline.run(graph, _context())


def _candidates(node: Node, planned: Graph) -> Iterator[tuple[Point, Candidate]]:
    for point in BACKEND.space(node, EMULATED).points:
        yield point, BACKEND.candidate(node, planned, EMULATED, point, lambda k: k)


@pytest.mark.compiler
def test_a_library_that_is_missing_is_a_failure_that_says_so():
    good = planted.candidate("good", TARGETS["emulated"])
    refuses = (
        f'\nEXPORTED int64_t {SCRATCH}(void) {{ return -go_fail(GO_NO_LIBRARY, "no such one"); }}'
    )
    sources = {**good.sources, ENTRY: good.sources[ENTRY] + refuses}
    with Measurer(EMULATED) as measurer:
        measurer.open(planted.case())
        failed = measurer.prepare(Candidate("go_refuses", sources))
    assert failed is not None
    assert (failed.outcome, failed.message) == (Outcome.CRASHED, "no such one")


@pytest.mark.nvcc
def test_a_librarys_candidate_for_a_gpu(tmp_path: Path):
    """It exports what the worker calls; nothing is run."""
    target = TARGETS["sm_90a"]
    pipeline = Pipeline.parse("choose-libraries{use=[cublaslt],open=true}")
    context = PassContext(target=target)
    planned = pipeline.run(parse(LINEAR, fill=random_constant), context)
    (node,) = (n for n in planned.nodes if n.body is not None)
    point = next(p for p in BACKEND.space(node, target).points if computed_by(p) == "cublaslt")
    candidate = BACKEND.candidate(node, planned, target, point, lambda k: k)
    made = BACKEND.build(candidate.sources, target, tmp_path / "library.so")
    library = ctypes.CDLL(str(made))
    assert all(getattr(library, name) for name in (SYMBOL, MESSAGE, SCRATCH))


# Models ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> Compilation:
    pytest.importorskip("torch")
    return build(SOURCE, target="cuda:emulated", options=Options(vendor=BOTH))


def _plant(path: Path, planned: Graph, who: str, **changes: str) -> list[Record]:
    """Records of all open regions, as a run leaves them, in which `who` is the fastest."""
    place, kept = place_of(BACKEND, EMULATED).key, []
    with Database(path) as database:
        for node in planned.nodes:
            if not getattr(node.attrs, "offers", ()):
                continue
            space = BACKEND.space(node, EMULATED)
            default, region = str(space.default), region_digest(node)
            for point, candidate in _candidates(node, planned):
                kernel = changes.get("kernel", candidate.kernel)
                time = 50 if computed_by(point) == who else 200
                if point == space.default:
                    first = Record(region, place, default, kernel, Outcome.OK, (100,), id=0)
                    database.add(first)
                else:
                    last = Record(region, place, str(point), kernel, Outcome.OK, (time,), default,
                                  (100,), final=True)  # fmt: skip
                    kept.append(database.add(last))
    return kept


@pytest.mark.torch
@pytest.mark.parametrize("who", ["kernel", "library"])
def test_a_compile_does_what_the_records_say(tmp_path: Path, made: Compilation, who: str):
    """The table would have called libraries for all three; where they won, it still does."""
    planned = _left_open(made.source)
    _plant(tmp_path / "r.db", planned, who)
    options = Options(vendor=BOTH, tuned=tmp_path / "r.db")
    tuned = build(made.source, target="cuda:emulated", options=options)
    libraries = [c.library.library for c in tuned.program.calls if c.library]
    assert libraries == ([] if who == "kernel" else ["cudnn", "cudnn", "cublaslt"])
    assert tuned.tuning is not None
    assert (tuned.tuning.measured.open, tuned.tuning.measured.decided) == (3, 3)
    assert tuned.report.notes == []
    told = tuned.tuning.as_dict()
    assert len(told["kernels"]) == (3 if who == "kernel" else 0)
    assert len(told["libraries"]) == (0 if who == "kernel" else 3)
    facts = BACKEND.facts(tuned.source, tuned.program, EMULATED, tuned.tuning.measured)
    assert not any("libraries" in text for text in facts["unmeasured"])
    again = Pipeline.parse(tuned.pipeline).run(made.source, _context())
    digests = [[region_digest(n) for n in g.nodes if n.body] for g in (again, tuned.planned)]
    assert digests[0] == digests[1]


@pytest.mark.torch
def test_records_of_other_code_decide_nothing(tmp_path: Path, made: Compilation):
    planned = _left_open(made.source)
    _plant(tmp_path / "r.db", planned, "kernel", kernel="go_of_another_generator")
    options = Options(vendor=BOTH, tuned=tmp_path / "r.db")
    tuned = build(made.source, target="cuda:emulated", options=options)
    assert tuned.sources == made.sources
    assert tuned.report.notes == [
        "3 tuning records are of kernels that this graphopt does not make; "
        "`graphopt tune` measures anew"
    ]
    assert tuned.tuning is not None
    facts = BACKEND.facts(tuned.source, tuned.program, EMULATED, tuned.tuning.measured)
    assert "libraries or kernels" in facts["unmeasured"]


@pytest.mark.torch
def test_a_run_that_was_stopped_early_has_decided_less(tmp_path: Path, made: Compilation):
    """Where a library has no record, nobody has measured who is the best."""
    planned, place = _left_open(made.source), place_of(BACKEND, EMULATED).key
    (first, *_) = (n for n in planned.nodes if getattr(n.attrs, "offers", ()))
    made_by = dict(_candidates(first, planned))
    default = BACKEND.space(first, EMULATED).default
    other = next(p for p in made_by if p != default)
    region = region_digest(first)
    with Database(tmp_path / "r.db") as database:
        database.add(Record(region, place, str(default), made_by[default].kernel, Outcome.OK, (9,)))
        database.add(Record(region, place, str(other), made_by[other].kernel, Outcome.OK, (20,),
                            str(default), (9,)))  # fmt: skip
    options = Options(vendor=BOTH, tuned=tmp_path / "r.db")
    tuned = build(made.source, target="cuda:emulated", options=options)
    assert tuned.tuning is not None
    measured = tuned.tuning.measured
    assert (measured.open, measured.decided) == (3, 1)
    facts = BACKEND.facts(tuned.source, tuned.program, EMULATED, measured)
    assert "libraries or kernels of 2 regions" in facts["unmeasured"]


@pytest.mark.compiler
@pytest.mark.torch
def test_a_model_is_tuned_killed_and_compiled(tmp_path: Path):
    """By SIGKILL, in the middle: what was recorded stays, and what is left is measured."""
    pytest.importorskip("torch")
    pytest.importorskip("optuna")
    path, folder = tmp_path / "r.db", tmp_path / "net"
    tune_until_killed(SOURCE, path, trials=15, vendor=BOTH, records=2)
    before = _records(path)
    assert 2 <= len(before) < 15
    options = Options(vendor=BOTH)
    found = graphopt.tune(
        SOURCE, trials=15, target="cuda:emulated", database=path, effort=QUICK, options=options
    )
    after = _records(path)
    assert after[: len(before)] == before
    assert {r.outcome for r in after} == {Outcome.OK}
    defaults = [r.region for r in after if not r.rival]
    assert len(defaults) == len(set(defaults)), "a default is measured once"
    opened = [r for r in found.regions if "by=" in r.default]
    assert opened
    for region in opened:
        tried = {computed_by(Point.parse(r.point)) for r in after if r.region == region.region}
        assert len(tried) == 2, "a kernel and a library"

    model = graphopt.compile(
        SOURCE, target="cuda:emulated", out=folder, tuned=path, vendor=BOTH
    )  # fmt: skip
    model.close()
    manifest = read_manifest(folder)
    best = {r.region: computed_by(Point.parse(r.best)) for r in found.regions}
    called = {d["region"] for d in manifest.extra["tuning"]["libraries"].values()}
    assert called == {region for region, who in best.items() if who != "kernel"}
    assert "libraries or kernels" not in manifest.extra["unmeasured"]
    assert all(d.agrees for d in verify(folder))
    assert np.isfinite([r.default_us for r in found.regions]).all()


def _records(path: Path) -> list[Record]:
    with Database(path) as database:
        (place,) = database.places()
        return database.records(place)
