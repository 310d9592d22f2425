"""graphopt bench on a SOURCE, and beside other engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from graphopt.check import peers

pytestmark = [
    pytest.mark.torch,
    pytest.mark.compiler,
    pytest.mark.skipif(sys.platform != "linux", reason="binds processes to cores"),
]
Run = Callable[..., Result]
Source = Callable[[str], str]
SHORT = ("--rounds", "1", "--seconds", "0.01")


def test_a_source_is_compiled_into_the_cache_and_timed(
    run: Run, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    done = run("bench", source("net"), "--runs", "7", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["runs"] == 7
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what a race tells; races themselves are tests/check/test_race.py's."""

    def tells(*laps: peers.Lap) -> None:
        monkeypatch.setattr(peers, "race", lambda *_, **__: list(laps))

    return tells


def test_the_table(run: Run, raced: Callable[..., None]) -> None:
    ours, eager = (peers.Lap(e, rounds=[[0.001], [0.003]]) for e in ("graphopt", "eager"))
    raced(ours, eager, peers.Lap("openvino", failure="not installed: pip install openvino"))
    done = run("bench", "model.py:net", "--against", "eager,openvino")
    titles, first, second, third, note = done.stdout.splitlines()
    assert titles.split("  ")[0] == "engine"
    assert [line.split()[0] for line in (first, second)] == ["graphopt", "eager"]
    assert second.split()[3] == "1.00"
    assert third.split() == ["openvino", "fails"]
    assert note == "on 1 thread; errors are beside eager float64"
    assert done.stderr == "warning: openvino: not installed: pip install openvino\n"
    assert done.exit_code == 0


def test_an_artifact_and_its_source_as_json(run: Run, built: Path, source: Source) -> None:
    done = run("bench", built, "--against", "eager", "--source", source("net"), "--json", *SHORT)
    report = json.loads(done.stdout)
    assert list(report["engines"]) == ["graphopt", "eager"]
    ours, eager = report["engines"].values()
    assert report["lead"] == pytest.approx(eager["median_s"] / ours["median_s"])
    assert 0 < ours["error"] < 1e-5
    assert ours["artifact_bytes"] == sum(p.stat().st_size for p in built.iterdir())
    assert report["threads"] == 1


def test_graphopt_without_a_time_is_a_bad_finding(run: Run, raced: Callable[..., None]) -> None:
    raced(peers.Lap("graphopt", failure="no"), peers.Lap("eager", rounds=[[0.001]]))
    done = run("bench", "model.py:net", "--against", "eager")
    assert done.exit_code == 1
    assert done.stderr.startswith("warning: graphopt: no\n")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--against", "warp"), "there is no engine 'warp'",
         "choose among graphopt, eager, inductor, inductor-autotune, onnxruntime, openvino"),
        (("--against", "eager", "--runs", "3"),
         "--against races whole models: leave out --per-kernel and --runs",
         "`graphopt bench --help` says what it takes"),
        (("--source", "x.py:f"), "--source is the model of --against; give that, too",
         "`graphopt bench --help` says what it takes"),
        (("--against", "eager"), "an artifact tells other engines nothing: add --source SOURCE",
         "`graphopt bench --help` says what it takes"),
    ],
)  # fmt: skip
def test_mistakes(
    run: Run, built: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    extra = ("--source", "x.py:f") if "warp" in arguments else ()
    done = run("bench", built, *arguments, *extra)
    assert done.stderr == f"error: {message}\nhint: {hint}\n"
    assert done.exit_code == 2


def test_a_source_that_is_not_there(run: Run) -> None:
    done = run("bench", "no_such.py:f", "--against", "eager")
    assert done.stderr.startswith("error: there is no file no_such.py\n")
    assert run("bench", "nowhere").stderr.startswith("error: there is no artifact at nowhere\n")
