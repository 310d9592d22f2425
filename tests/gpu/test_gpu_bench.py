"""The bench for GPUs, as far as it goes without one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

pytestmark = pytest.mark.torch


def _engine(ms: float) -> dict[str, Any]:
    return {"median_s": ms / 1e3, "rounds_s": [], "cold_start_s": 0.5, "device_bytes": 2_000_000,
            "relative_error": 1e-3}  # fmt: skip


def _results() -> dict[str, Any]:
    kernel = {"call": 0, "computes": "conv", "kernel": "go_a", "seconds": 4e-6, "floor_s": 1e-6,
              "flops": 1000, "bytes": 500}  # fmt: skip
    case = {
        "case": "net_b1_fp16", "model": "net", "batch": 1, "tokens": 0, "precision": "fp16",
        "engines": {"graphopt": _engine(1.0), "eager": _engine(4.0)},
        "failures": {"compile": "not reached in the time given"}, "kernels": [kernel],
        "launches": {"before": 30, "kernels": 4, "libraries": 2},
    }  # fmt: skip
    slower = {**case, "case": "net_b8_fp16", "engines": {"graphopt": _engine(1.0),
              "eager": _engine(1.0)}}  # fmt: skip
    return {
        "machine": {"device": "a GPU"},
        "limits": {"bytes_per_s": 4e12, "flops_per_s": {"fp16": 8e14}},
        "cases": [case, slower],
    }


def test_tables_say_what_was_measured():
    from bench.gpu.report import tables

    text = tables(_results())
    assert "| net_b1_fp16 | 1.000 | 1.0e-03 | 4.000 (4.00x) |  |  |" in text
    assert "2.00x eager over 2 cases, 1.00x at least." in text
    assert "| net_b1_fp16 | 30 → 6 | 0.50 s, 2 MB | 0.50 s, 2 MB |  |  |" in text
    assert "| net_b1_fp16 | go_a | 4.0 | 1.0 | 25% |" in text
    assert "| copy | 4.00 TB/s |" in text
    assert "- net_b1_fp16: compile: not reached in the time given" in text


def test_pictures_are_drawn(tmp_path: Path):
    pytest.importorskip("matplotlib")
    from bench.gpu.report import pictures

    pictures(_results(), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"race.svg", "roofline.svg"}


def test_artifacts_with_cutlass_are_left_out_without_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from bench.gpu import prepare
    from bench.gpu.cases import CASES, CUTLASS, Case

    built: list[tuple[str, str]] = []

    def build(source: str, *, target: str, out: Path, options: Any) -> None:
        built.append((out.name, options.vendor))

    case, said = Case("net", 1, "fp16", cutlass=True), list[str]()
    monkeypatch.setattr(prepare, "build", build)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert prepare.prepare([case], tmp_path, "cuda", said.append) == {}
    assert built == [("net_b1_fp16", "auto")]
    assert said[-1] == "net_b1_fp16_cutlass: left out, the wheel nvidia-cutlass is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    prepare.prepare([case], tmp_path, "cuda", said.append)
    assert built[-1] == ("net_b1_fp16_cutlass", "cutlass,cublaslt,cudnn")
    assert any(CUTLASS in c.folders for c in CASES)


def test_tuning_ends_in_time_and_its_records_count(tmp_path: Path):
    """Stopped before it has measured anything, then let go to its end."""
    pytest.importorskip("optuna")
    from bench.gpu.cases import EMULATED
    from bench.gpu.tuned import tune
    from graphopt.tune.database import Database

    records, start = tmp_path / "r.db", time.monotonic()
    assert not tune(EMULATED[0], records, "cuda:emulated", 0.2)
    assert time.monotonic() - start < 30
    assert tune(EMULATED[0], records, "cuda:emulated", 280, trials=3)
    with Database(records) as database:
        (place,) = database.places()
        assert len({r.point for r in database.records(place)}) == 3


def test_tuned_artifacts_are_made_where_time_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from bench.gpu import tuned
    from bench.gpu.cases import CASES, TUNED, Case
    from bench.gpu.measure import _takes_part

    given: list[float] = []
    monkeypatch.setattr(tuned, "tune", lambda case, records, target, s: given.append(s))
    monkeypatch.setattr(tuned, "build", lambda source, **named: named["out"].mkdir())
    one, other, third = (Case(n, 1, "fp16", tuned=t) for n, t in (("a", 1), ("b", 0), ("c", 1)))
    assert not _takes_part(TUNED, one, tmp_path)
    assert tuned.tune_cases([one, other, third], tmp_path, "cuda", 10, print) == {}
    assert given == [300, 300]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_b1_fp16_tuned", "c_b1_fp16_tuned"]
    assert [_takes_part(TUNED, c, tmp_path) for c in (one, other, third)] == [True, False, True]
    assert any(c.tuned for c in CASES)


def test_the_roof_is_the_slower_of_memory_and_arithmetic():
    from bench.gpu.limits import Limits

    limits = Limits(bytes_per_s=100.0, flops_per_s={"fp16": 1000.0})
    assert limits.floor_s(flops=10, bytes_moved=50, precision="fp16") == 0.5
    assert limits.floor_s(flops=2000, bytes_moved=50, precision="fp16") == 2.0


def test_every_case_names_a_model():
    from bench.gpu import models
    from bench.gpu.cases import CASES, EMULATED

    folders = [c.folder for c in CASES]
    assert len(set(folders)) == len(folders)
    for case in (*CASES, *EMULATED):
        assert callable(getattr(models, case.name))


def test_inputs_are_stretched_to_batch_and_tokens():
    from bench.gpu.models import build

    _, (ids, mask) = build("tiny_bert", 3, 20)
    assert ids.shape == mask.shape == (3, 20)
    _, (image,) = build("tiny_resnet", 2, 0)
    assert image.shape[0] == 2


def test_what_the_time_does_not_reach_is_listed(tmp_path: Path):
    from bench.gpu.cases import EMULATED
    from bench.gpu.limits import Limits
    from bench.gpu.measure import measure

    start = time.monotonic()
    results = measure(EMULATED, tmp_path, Limits(1.0, {}), minutes=0, say=print)
    assert time.monotonic() - start < 5
    assert all("not reached" in why for r in results for why in r["failures"].values())
    assert all(not r["engines"] for r in results)
