"""A small model, tuned and compiled with what was found; and records that do not fit."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from records import record

import graphopt
from graphopt.artifact.format import read_manifest
from graphopt.artifact.verify import verify
from graphopt.cli.group import cli
from graphopt.driver import Compilation, Options, build
from graphopt.errors import GraphoptError
from graphopt.ir.digest import region_digest
from graphopt.target import resolve
from graphopt.tune.database import Database, Outcome, Record
from graphopt.tune.explore import Effort
from graphopt.tune.place import place_of
from graphopt.tune.space import NOTHING

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.compiler, pytest.mark.torch]

SOURCE = f"{Path(__file__).parent / 'net.py'}:build"
QUICK = Effort(first=1, more=1, final=1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="graphopt")


@dataclass(frozen=True)
class Won:
    """A region's default, another point of its space, and the kernel that this makes."""

    region: str
    default: str
    point: str
    kernel: str


@pytest.fixture(scope="module")
def made() -> Compilation:
    return build(SOURCE)


@pytest.fixture(scope="module")
def winners(made: Compilation) -> list[Won]:
    backend, target = resolve("cpu")
    out = []
    for node in made.planned.nodes:
        space = backend.space(node, target) if node.body is not None else NOTHING
        other = next((p for p in space.points if p != space.default), None)
        if other is not None:
            kernel = backend.candidate(node, made.planned, target, other, lambda k: k).kernel
            out.append(Won(region_digest(node), str(space.default), str(other), kernel))
    assert len(out) >= 3
    return out


def plant(path: Path, winners: list[Won], **changes: object) -> list[Record]:
    """Records that a run might have left: every winner is twice as fast as the default, they say.
    Those of the winners are returned, `changes` made."""
    kept: list[Record] = []
    place = place_of(*resolve("cpu")).key
    with Database(path) as database:
        for w in winners:
            database.add(record(w.default, (100, 100), region=w.region, place=place))
            won = record(w.point, (50, 50), w.default, (100, 100), region=w.region, place=place,
                         kernel=w.kernel, final=True)  # fmt: skip
            kept.append(database.add(replace(won, **changes)))  # type: ignore[arg-type]
    return kept


def test_tuning_measures_and_a_second_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    found = graphopt.tune(SOURCE, trials=9, database=path, effort=QUICK)
    assert found.database == path
    assert sum(r.trials for r in found.regions) == 9
    assert all(set(r.outcomes) == {"ok"} for r in found.regions)
    assert found.gain >= 1.0
    assert 0.0 <= found.untried < 1.0
    place = place_of(*resolve("cpu"))
    with Database(path) as database:
        before = database.records(place.key)
        assert database.places() == {place.key: str(place)}
    assert {r.outcome for r in before} == {Outcome.OK}
    assert {r.computes.split(", ")[0] for r in before} <= {"conv", "depthwise", "head"}
    again = graphopt.tune(SOURCE, trials=15, database=path, effort=QUICK)
    assert sum(r.trials for r in again.regions) >= 12, "regions share what is new by their time"
    with Database(path) as database:
        assert database.records(place.key)[: len(before)] == before


def test_tuned_code_is_used_and_said_to_be(tmp_path: Path, winners: list[Won]) -> None:
    path, folder = tmp_path / "r.sqlite", tmp_path / "net"
    records = plant(path, winners)
    model = graphopt.compile(SOURCE, out=folder, tuned=path)
    model.close()
    assert model.report.tuned_kernels == len(records)
    assert model.report.notes == []
    manifest = read_manifest(folder)
    said = manifest.extra["tuning"]["kernels"]
    assert said == {
        r.kernel: {"region": r.region, "point": r.point, "record": r.id, "date": r.date,
                   "computes": r.computes}
        for r in records
    }  # fmt: skip
    assert set(said) <= {c.kernel for c in manifest.calls}
    assert all(d.agrees and d.relative < 1e-5 for d in verify(folder))


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({"kernel": "go_of_another_generator"}, True),
        ({"point": "rows=1 width=3"}, True),
        ({"place": "another machine"}, False),
        ({"region": "another region"}, False),
        ({"outcome": Outcome.WRONG}, False),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_records_that_do_not_fit_change_nothing(
    tmp_path: Path,
    made: Compilation,
    winners: list[Won],
    changes: dict[str, object],
    stale: bool,
) -> None:
    records = plant(tmp_path / "r.sqlite", winners, **changes)
    tuned = build(made.source, options=Options(tuned=tmp_path / "r.sqlite"))
    assert tuned.sources == made.sources
    assert tuned.report.tuned_kernels == 0
    assert tuned.report.notes == (
        [
            f"{len(records)} tuning records are of kernels that this graphopt does not "
            "make; `graphopt tune` measures anew"
        ]
        if stale
        else []
    )


@pytest.mark.parametrize("changes", [{}, {"kernel": "go_of_another_generator"}])
def test_a_default_that_stayed_the_best_is_measured(
    tmp_path: Path, made: Compilation, winners: list[Won], changes: dict[str, str]
) -> None:
    """So is what the manifest says; unless it was another kernel."""
    won, path = winners[0], tmp_path / "r.sqlite"
    (kernel,) = {c.kernel for c in made.program.calls if c.region == won.region}
    place = place_of(*resolve("cpu")).key
    with Database(path) as database:
        first = record(won.default, (50, 50), region=won.region, place=place, kernel=kernel)
        database.add(replace(first, **changes))  # type: ignore[arg-type]
        database.add(record(won.point, (80, 80), won.default, (50, 50), region=won.region,
                            place=place, kernel=won.kernel))  # fmt: skip
    tuned = build(made.source, options=Options(tuned=path)).tuning
    assert tuned is not None
    assert tuned.measured.regions == (frozenset() if changes else {won.region})
    assert tuned.as_dict()["kernels"] == {}


def test_the_command_shows_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    done = run("tune", SOURCE, "--trials", 6, "--records", path, "--quiet", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["database"] == str(path)
    assert sum(r["trials"] for r in report["regions"]) == 6
    assert {"computes", "default_us", "best_us", "cost", "best"} <= set(report["regions"][0])
    shown = run("tune", SOURCE, "--trials", 6, "--records", path)
    assert shown.exit_code == 0, shown.output
    assert "conv +" in shown.stdout
    assert "added up over kernels" in shown.stdout


def test_compile_tuned_from_the_terminal(tmp_path: Path, winners: list[Won]) -> None:
    records = plant(tmp_path / "r.sqlite", winners)
    done = run("compile", SOURCE, "-o", tmp_path / "net", "--tuned", tmp_path / "r.sqlite")
    assert done.exit_code == 0, done.output
    assert f", {len(records)} tuned" in done.stdout


def test_the_model_may_stand_behind_tuned(
    tmp_path: Path, winners: list[Won], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--tuned` takes a file or none: the one word behind it is the model."""
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    records = plant(tmp_path / "tuning.sqlite", winners)
    done = run("compile", "-o", tmp_path / "net", "--tuned", SOURCE)
    assert done.exit_code == 0, done.output
    assert f", {len(records)} tuned" in done.stdout


def test_without_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    done = run("compile", SOURCE, "-o", tmp_path / "net", "-q", "--tuned")
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: there are no tuning records at {tmp_path / 'tuning.sqlite'}\n"
        "hint: `graphopt tune SOURCE` makes them\n",
    )
    assert not (tmp_path / "net").exists()


def test_code_for_another_machine_cannot_be_timed(tmp_path: Path) -> None:
    with pytest.raises(GraphoptError) as raised:
        graphopt.tune(SOURCE, target="cpu:cortex-a76", database=tmp_path / "r.sqlite")
    assert raised.value.message.startswith("cpu:cortex-a76 cannot be timed here: this machine ")
    assert raised.value.hint == "tune on a machine of the target's kind"
    assert not list(tmp_path.iterdir())
