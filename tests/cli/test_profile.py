"""graphopt profile: a trace that tools read, and a picture of the kernels' speed."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def folder(run: Run, source: Callable[[str], str], tmp_path: Path) -> Path:
    assert run("compile", source("net"), "-o", tmp_path / "m", "-q").exit_code == 0
    return tmp_path / "m"


def test_a_trace_has_every_call_of_every_run(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("profile", folder, "-o", tmp_path / "p", "--runs", 3)
    assert result.exit_code == 0, result.output
    assert "trace.json" in result.output
    assert "roofline.svg" in result.output
    events = json.loads((tmp_path / "p" / "trace.json").read_text())["traceEvents"]
    calls = [e for e in events if e.get("cat") == "kernel"]
    runs = [e for e in events if e.get("cat") == "run"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(calls) == 3 * len(manifest["calls"])
    assert [e["name"] for e in runs] == ["run 0", "run 1", "run 2"]
    assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-3 for a, b in itertools.pairwise(calls))
    assert {c["args"]["kernel"] for c in calls} == {c["kernel"] for c in manifest["calls"]}
    assert all(c["args"]["source"] for c in calls)
    assert sum(c["dur"] for c in calls) == pytest.approx(sum(r["dur"] for r in runs), rel=1e-3)


def test_the_picture_is_one(run: Run, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("profile", folder, "--runs", 1).exit_code == 0
    root = ElementTree.parse(folder.with_name("m-profile") / "roofline.svg").getroot()
    assert root.tag.endswith("svg")


def test_without_matplotlib_the_trace_is_written(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("profile", folder, "-o", tmp_path / "p")
    assert result.exit_code != 0
    assert "take --no-picture" in result.output
    assert run("profile", folder, "-o", tmp_path / "q", "--no-picture").exit_code == 0
    assert [p.name for p in (tmp_path / "q").iterdir()] == ["trace.json"]


def test_json_names_the_files(run: Run, folder: Path, tmp_path: Path) -> None:
    result = run("profile", folder, "-o", tmp_path / "p", "--no-picture", "--json")
    report = json.loads(result.output)
    assert report["files"] == [str(tmp_path / "p" / "trace.json")]
    assert report["median_us"] > 0
