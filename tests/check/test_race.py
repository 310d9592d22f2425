"""The race of engines, without the engines: turns, failures, and what the table says."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphopt.check.peers import Lap, as_json, costs, from_json, race, rows, table
from graphopt.check.peers.engines import Eager, OnnxRuntime
from graphopt.check.peers.table import best_peer, geometric_mean, lead
from graphopt.errors import GraphoptError

SOURCE = """
import torch


class Model(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return torch.relu(self.factor * (x @ x))


def model():
    return Model(1).eval(), (torch.ones(8, 8),)


def doubled():
    return Model(2).eval(), (torch.ones(8, 8),)


def by_name():
    return Named().eval(), {"scale": torch.full((2,), 3.0), "x": torch.arange(2.0), "negate": True}


class Named(torch.nn.Module):
    def forward(self, x, scale, negate=False):
        return {"y": -x * scale if negate else x, "none": None}


def broken():
    raise ValueError("no model today")


def with_float32_inside():
    return Single().eval(), (torch.ones(4),)


class Single(torch.nn.Module):
    def forward(self, x):
        return torch.mv(torch.eye(4, dtype=torch.float32), x)


def refuses():
    return Words().eval(), (torch.ones(4),)


class Words(torch.nn.Module):
    def forward(self, x):
        if x.dtype != torch.float64:
            raise RuntimeError("not today")
        return x
"""


def lap(engine: str, *rounds: list[float]) -> Lap:
    return Lap(engine, rounds=list(rounds))


def test_the_lead_pairs_rounds() -> None:
    """A machine that slows down between rounds changes no ratio."""
    laps = [lap("graphopt", [1.0, 1.0], [10.0]), lap("eager", [2.0], [20.0, 20.0])]
    assert lead(laps) == pytest.approx(2.0)


def test_the_best_peer_is_never_us() -> None:
    laps = [lap("graphopt", [1.0]), lap("eager", [3.0]), lap("onnxruntime", [2.0]), Lap("openvino")]
    peer = best_peer(laps)
    assert peer is not None
    assert peer.engine == "onnxruntime"


def test_the_mean_leaves_out_what_failed() -> None:
    assert geometric_mean([4.0, 1.0, math.nan]) == pytest.approx(2.0)


def test_table_and_json_show_failures() -> None:
    results = {"m": [lap("graphopt", [0.001]), Lap("openvino", failure="no")]}
    assert "| m | 1.00 | fails | nan |" in table(results)
    assert as_json(results)["models"]["m"]["engines"]["openvino"]["failure"] == "no"


def test_results_come_back_from_json() -> None:
    """Times and leads, of even and uneven numbers of runs, too."""
    ours = lap("graphopt", [0.001, 0.004], [0.003, 0.003, 0.009], [0.002, 0.002, 0.002, 0.002])
    peer = lap("eager", [0.002, 0.003], [0.004], [0.005, 0.001])
    results = {"m": [ours, peer, Lap("openvino", failure="no")]}
    again = from_json(as_json(results))
    assert table(again) == table(results)
    assert json.dumps(as_json(again)) == json.dumps(as_json(results))


def test_unknown_engine() -> None:
    with pytest.raises(GraphoptError, match="there is no engine 'warp'"):
        race("x.py:f", ["graphopt", "warp"])


def test_rows_say_what_each_engine_costs() -> None:
    ours = Lap("graphopt", 1.0, 0.5, 0.25, 10_000_000, 2_000_000, 1e-6, rounds=[[0.001]])
    peer = Lap("eager", rounds=[[0.002]], peak_bytes=10**9)
    failed = Lap("openvino", failure="no")
    assert list(rows([ours, peer, failed])) == [
        ("graphopt", "1.00 ms", "0.50", "1.0e-06", "10.0 MB", "500 ms", "250 ms", "2.00 MB"),
        ("eager", "2.00 ms", "1.00", "0.0e+00", "1.00 GB", "0 ns", "0 ns", ""),
        ("openvino", "fails", "", "", "", "", "", ""),
    ]


def test_costs_have_a_table_for_each_measure() -> None:
    ours = lap("graphopt", [0.001])
    ours.artifact_bytes, ours.peak_bytes = 1_500_000, 80_000_000
    text = costs({"m": [ours, lap("eager", [0.002]), Lap("openvino", failure="no")]})
    memory, _, _, files = text.split("\n\n| model |")[1:]
    assert "| m | 80 | 0 | fails |" in memory
    assert files.splitlines()[0] == " graphopt |"
    assert files.splitlines()[2] == "| m | 1.5 |"


linux = pytest.mark.skipif(sys.platform != "linux", reason="binds processes to cores")


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], str]:
    path = tmp_path / "source.py"
    path.write_text(SOURCE)
    return lambda name: f"{path}:{name}"


def run_race(source: str, *engines: str, **options: Any) -> list[Lap]:
    return race(source, engines, rounds=2, seconds=0.01, **options)


@linux
@pytest.mark.torch
@pytest.mark.compiler
def test_a_race_of_two(source: Callable[[str], str]) -> None:
    """Of a model with inputs by name and outputs in a dict."""
    ours, eager = run_race(source("by_name"), "graphopt", "eager")
    assert (ours.failure, eager.failure) == ("", "")
    assert (ours.error, eager.error) == (0.0, 0.0)
    assert len(ours.rounds) == len(eager.rounds) == 2
    assert ours.artifact_bytes > 0
    # numpy alone takes 20 MB, torch 150: this is of the process itself, not of the one above it
    assert 20e6 < ours.peak_bytes < eager.peak_bytes


@linux
@pytest.mark.torch
@pytest.mark.compiler
def test_an_artifact_that_is_there_is_raced(source: Callable[[str], str], tmp_path: Path) -> None:
    """That of another model: a compile would agree with eager."""
    from graphopt.driver import build

    other = build(source("doubled"), out=tmp_path / "made").artifact
    (ours,) = run_race(source("model"), "graphopt", artifact=other)
    assert ours.error == pytest.approx(1.0)


@linux
@pytest.mark.torch
def test_a_model_that_runs_in_no_float64_has_no_error(source: Callable[[str], str]) -> None:
    (eager,) = run_race(source("with_float32_inside"), "eager")
    assert eager.rounds
    assert math.isnan(eager.error)
    assert as_json({"m": [eager]})["models"]["m"]["engines"]["eager"]["error"] is None


@linux
@pytest.mark.torch
def test_a_source_that_cannot_be_loaded_is_an_error(source: Callable[[str], str]) -> None:
    with pytest.raises(GraphoptError, match="raised ValueError: no model today") as caught:
        run_race(source("broken"), "eager")
    assert caught.value.hint == "mend source.py:32"


@linux
@pytest.mark.torch
def test_an_engine_that_cannot_run_the_model_only_loses(source: Callable[[str], str]) -> None:
    (eager,) = run_race(source("refuses"), "eager")
    assert eager.failure == "RuntimeError: not today"
    assert not eager.rounds


@linux
@pytest.mark.torch
def test_an_engine_that_is_not_installed_says_how(
    source: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRuntime, "packages", ("torch", "no_such_package"))
    (missing,) = run_race(source("model"), "onnxruntime")
    assert missing.failure == "not installed: pip install no_such_package"


@linux
def test_without_torch_there_is_no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Eager, "packages", ("no_such_package",))
    with pytest.raises(GraphoptError, match="torch is not installed") as caught:
        race("x.py:f", ["eager"])
    assert caught.value.hint == "run `pip install 'graphopt[torch]'`"


@linux
def test_more_threads_than_cores() -> None:
    with pytest.raises(GraphoptError, match="a race of 5000 threads needs as many cores"):
        race("x.py:f", ["eager"], threads=5000)
