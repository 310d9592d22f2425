"""The bench for GPUs, as far as it goes without one."""

from __future__ import annotations

import copy
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

pytestmark = pytest.mark.torch


def _engine(ms: float, rival_ms: float = 1.0) -> dict[str, Any]:
    return {"median_s": ms / 1e3, "rounds_s": [], "cold_start_s": 0.5, "device_bytes": 2_000_000,
            "relative_error": 1e-3, "rival_s": rival_ms / 1e3}  # fmt: skip


def _results() -> dict[str, Any]:
    kernel = {"call": 0, "computes": "conv", "kernel": "go_a", "seconds": 4e-6, "floor_s": 1e-6,
              "flops": 1000, "bytes": 500}  # fmt: skip
    case = {
        "case": "net_b1_fp16", "model": "net", "batch": 1, "tokens": 0, "precision": "fp16",
        "engines": {"graphopt": _engine(1.0), "eager": _engine(6.0, 1.5)},
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
    """An engine is compared with graphopt as it was in the same race."""
    from bench.gpu.report import tables

    text = tables(_results())
    assert "| net_b1_fp16 | 1.000 | 1.0e-03 | 6.000 (4.00x) |  |  |" in text
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
    """Stopped when it has hardly begun, then let go to its end. Python may lose an interrupt that
    comes while it imports: then a few trials are measured until it is killed, which count among
    those of the next run. Three trials are those of one region."""
    pytest.importorskip("optuna")
    from bench.gpu.cases import EMULATED
    from bench.gpu.tuned import tune
    from graphopt.tune.database import Database

    def measured() -> dict[str, set[str]]:
        """The points of each region."""
        points: dict[str, set[str]] = {}
        with Database(records) as database:
            for record in (r for place in database.places() for r in database.records(place)):
                points.setdefault(record.region, set()).add(record.point)
        return points

    records, start = tmp_path / "r.db", time.monotonic()
    assert not tune(EMULATED[0], records, "cuda:emulated", 0.2)
    assert time.monotonic() - start < 30
    before = measured()
    assert tune(EMULATED[0], records, "cuda:emulated", 280, trials=3)
    after = measured()
    assert all(points <= after[region] for region, points in before.items())
    added = [points for region, points in after.items() if points != before.get(region)]
    assert [len(points) for points in added] == [3] or (
        not added and any(len(points) >= 3 for points in before.values())
    )


def test_tuned_artifacts_are_made_where_time_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One that cannot be tuned keeps no other from it."""
    from bench.gpu import tuned
    from bench.gpu.cases import CASES, Case

    given: list[float] = []

    def tune(case: Case, records: Path, target: str, seconds: float) -> None:
        given.append(seconds)
        if case.model == "c":
            raise RuntimeError("no memory")

    monkeypatch.setattr(tuned, "tune", tune)
    monkeypatch.setattr(tuned, "build", lambda source, **named: named["out"].mkdir())
    cases = [Case(n, 1, "fp16", tuned=t) for n, t in (("a", 1), ("b", 0), ("c", 1), ("d", 1))]
    made = list(tuned.tune_cases(cases, tmp_path, "cuda", 15, print))
    assert [c.model for c in made] == ["a", "d"]
    assert given == [300, 300, 300]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_b1_fp16_tuned", "d_b1_fp16_tuned"]
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


def _bench(folder: Path, process: Any, kept: list[Any], end: float = 1e9, **named: Any) -> Any:
    from bench.gpu.limits import Limits
    from bench.gpu.measure import Bench

    def keep(entries: list[Any]) -> None:
        kept.append(copy.deepcopy(entries))

    prepare = named.get("prepare", lambda case, engine: "")
    return Bench(folder, Limits(1.0, {}), process, prepare, keep, print, end)


def test_what_the_time_does_not_reach_is_listed(tmp_path: Path):
    from bench.gpu.cases import EMULATED

    kept: list[Any] = []
    results = _bench(tmp_path, None, kept, end=0).run(EMULATED)
    assert all("not reached" in why for r in results for why in r["failures"].values())
    assert all(not r["engines"] for r in results)
    assert set(results[0]["failures"]) == {"graphopt", "eager", "compile", "max-autotune"}


def test_cases_are_beside_eager_before_the_first_is_compiled_for_minutes():
    from bench.gpu.cases import CASES
    from bench.gpu.steps import steps

    order = [(CASES.index(s.case), s.engines[0]) for s in steps(CASES)]
    assert order[:5] == [(0, "eager"), (1, "eager"), (2, "eager"), (3, "eager"), (4, "eager")]
    assert order.index((8, "eager")) < order.index((0, "max-autotune"))
    assert order.index((0, "compile")) < order.index((5, "eager"))
    assert len(set(order)) == len(order)


class _Races:
    """A process in which a case of model `a` dies."""

    def call(self, seconds: float, function: Any, case: Any, engines: Any, *more: Any) -> Any:
        from bench.gpu.process import LostError

        if case.model == "a" and "compile" in engines:
            raise LostError("the process died: status -11")
        made = {e: _engine(1.0) for e in engines}
        return {"engines": made, "failures": {}, "kernels": [], "launches": {}}


def test_what_was_measured_is_kept_step_by_step(tmp_path: Path):
    """And what dies, or cannot be compiled, keeps nothing else from being measured."""
    from bench.gpu.cases import Case

    kept: list[Any] = []
    cases = [Case("a", 1, "fp16"), Case("b", 1, "fp16", cutlass=True)]

    def prepare(case: Case, engine: str) -> str:
        return "no headers" if engine == "cutlass" else ""

    first, second = _bench(tmp_path, _Races(), kept, prepare=prepare).run(cases)
    assert [[sorted(c["engines"]) for c in entries] for entries in kept[:2]] == [
        [["eager", "graphopt"], []],
        [["eager", "graphopt"], ["eager", "graphopt"]],
    ]
    assert len(kept) == 5
    assert first["failures"] == {"compile": "the process died: status -11"}
    assert sorted(second["engines"]) == ["compile", "eager", "graphopt"]
    assert second["failures"] == {"cutlass": "no headers"}


def _die(status: int) -> None:
    os._exit(status)


def _process_id() -> int:
    return os.getpid()


def _unwell() -> bool:
    return False


def test_a_process_that_is_lost_is_followed_by_another():
    from bench.gpu.clock import is_well
    from bench.gpu.process import LostError, Process

    process = Process(is_well)
    try:
        first = process.call(60, _process_id)
        with pytest.raises(LostError, match="ValueError: invalid literal for int"):
            process.call(60, int, "x")
        assert process.call(60, _process_id) == first
        with pytest.raises(LostError, match="the process died: status 3"):
            process.call(60, _die, 3)
        second = process.call(60, _process_id)
        with pytest.raises(LostError, match="no answer in 0 s"):
            process.call(0.2, time.sleep, 60)
        assert len({first, second, process.call(60, _process_id)}) == 3
    finally:
        process.close()


def test_a_process_whose_device_has_faulted_is_left():
    from bench.gpu.process import Process

    process = Process(_unwell)
    try:
        assert process.call(60, _process_id) != process.call(60, _process_id)
    finally:
        process.close()


def test_every_test_on_a_gpu_has_its_place():
    from gpu_cases import ORDER

    files = Path(__file__).parent.glob("test_on_gpu_*.py")
    names = [n for f in files for n in re.findall(r"^def (test_\w+)", f.read_text(), re.M)]
    marked = [n for n in names if not n.endswith("in_emulation")]
    assert sorted(ORDER) == sorted(marked)
