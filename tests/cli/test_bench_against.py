"""graphopt bench on a SOURCE, and beside other engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from graphopt.check.peers.engines import OpenVino

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


def test_the_table(run: Run, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVino, "packages", ("torch", "no_such_package"))
    done = run("bench", source("net"), "--against", "eager,openvino", *SHORT)
    titles, ours, eager, openvino, note = done.stdout.splitlines()
    assert titles.split("  ")[0] == "engine"
    assert [line.split()[0] for line in (ours, eager)] == ["graphopt", "eager"]
    assert eager.split()[3] == "1.00"
    assert openvino.split() == ["openvino", "fails"]
    assert note == "on 1 thread; errors are beside eager float64"
    assert done.stderr == "warning: openvino: not installed: pip install no_such_package\n"
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


def test_graphopt_without_a_time_is_a_bad_finding(run: Run, source: Source) -> None:
    done = run("bench", source("unsupported"), "--against", "eager", *SHORT)
    assert done.exit_code == 1
    assert done.stderr.startswith(
        "warning: graphopt: the model uses 3 unsupported operators: aten."
    )


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
