"""The race of engines, without the engines: turns, failures, and what the table says."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from graphopt.check.peers import Lap, as_json, from_json, race, table
from graphopt.check.peers.table import best_peer, geometric_mean, lead
from graphopt.errors import GraphoptError

SOURCE = """
import torch


class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x @ x)


def model():
    return Model().eval(), (torch.ones(8, 8),)


def broken():
    raise ValueError("no model today")
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
    results = {"m": [lap("graphopt", [0.001], [0.003]), Lap("openvino", failure="no")]}
    again = from_json(as_json(results))
    assert table(again) == table(results)
    assert json.dumps(as_json(again)) == json.dumps(as_json(results))  # NaN equals nothing


def test_unknown_engine() -> None:
    with pytest.raises(GraphoptError, match="there is no engine 'warp'"):
        race("x.py:f", ["graphopt", "warp"])


@pytest.mark.torch
@pytest.mark.compiler
@pytest.mark.skipif(sys.platform != "linux", reason="pins processes to cores")
def test_a_race_of_two(tmp_path: Path) -> None:
    path = tmp_path / "source.py"
    path.write_text(SOURCE)
    ours, eager = race(f"{path}:model", ["graphopt", "eager"], rounds=2, seconds=0.01)
    assert not ours.failure
    assert not eager.failure
    assert len(ours.rounds) == len(eager.rounds) == 2
    assert ours.error < 1e-6
    assert ours.artifact_bytes > 0


@pytest.mark.torch
def test_an_engine_that_cannot_load_the_model_only_loses(tmp_path: Path) -> None:
    path = tmp_path / "source.py"
    path.write_text(SOURCE)
    (eager,) = race(f"{path}:broken", ["eager"], rounds=1, seconds=0.01)
    assert "no model today" in eager.failure
    assert not eager.rounds
