"""graphopt run, bench and inspect, and artifacts that cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import graphopt
from graphopt.artifact import machine

pytestmark = [pytest.mark.torch, pytest.mark.compiler]
Run = Callable[..., Result]


@pytest.fixture
def x(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32))
    return path


# run -------------------------------------------------------------------------------------------


def test_run(run: Run, built: Path, x: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    done = run("run", built, "--input", x, "--output", out)
    with graphopt.load(built) as model:
        expected = model(np.load(x))
    np.testing.assert_array_equal(np.load(out)["output"], expected)
    first = " ".join(f"{v:.4g}" for v in expected[0, :4])
    header, row, written = done.stdout.splitlines()
    assert header.split() == ["output", "type", "min", "max", "mean", "first", "values"]
    assert row.split()[:2] == ["output", "f32[1,10]"]
    assert row.endswith(first)
    assert written == f"written to {out}"


def test_run_by_name_from_one_file_and_as_json(
    run: Run, built: Path, x: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "all.npz", x=np.load(x))
    results = []
    for given in (x, f"x={x}", tmp_path / "all.npz"):
        done = run("run", built, "-i", given, "--json", "--threads", "2")
        results.append(json.loads(done.stdout))
    assert results[0] == results[1] == results[2]
    (output,) = results[0]["outputs"]
    assert (output["name"], output["type"]) == ("output", "f32[1,10]")
    assert output["min"] <= output["mean"] <= output["max"]


def test_non_contiguous_input_works(run: Run, built: Path, x: Path, tmp_path: Path) -> None:
    """numpy.save keeps Fortran order: what is loaded is not contiguous."""
    array = np.load(x)
    np.save(tmp_path / "f.npy", np.asfortranarray(array))
    assert not np.load(tmp_path / "f.npy").flags.c_contiguous
    shown = [run("run", built, "-i", p, "--json").stdout for p in (x, tmp_path / "f.npy")]
    assert shown[0] == shown[1]


INPUTS = [
    ((2, 3, 16, 16), "float32", "input 'x' takes f32[1,3,16,16], given f32[2,3,16,16]",
     "the shape is compiled in: pass that one, or compile for the one you have"),
    ((1, 3, 16, 16), "float64", "input 'x' takes f32[1,3,16,16], given f64[1,3,16,16]",
     "convert it to float32"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "dtype", "message", "hint"), INPUTS)
def test_inputs_that_do_not_fit(
    run: Run, built: Path, tmp_path: Path, shape: tuple[int, ...], dtype: str, message: str,
    hint: str,
) -> None:  # fmt: skip
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
    done = run("run", built, "-i", tmp_path / "a.npy")
    assert done.stderr == f"error: {message}\nhint: {hint}\n"
    assert done.exit_code == 2


def test_inputs_that_are_not_there(run: Run, built: Path, x: Path, tmp_path: Path) -> None:
    takes = "the model takes x: f32[1,3,16,16]"
    give = "hint: give --input x=x.npy\n"
    assert run("run", built).stderr == f"error: input 'x' is missing; {takes}\n{give}"
    assert run("run", built, "-i", f"y={x}").stderr == f"error: no input 'y'; {takes}\n{give}"
    assert run("run", built, "-i", x, "-i", x).stderr == (
        f"error: the model takes 1 inputs, given more: {x}\nhint: it takes x: f32[1,3,16,16]\n"
    )
    assert run("run", built, "-i", tmp_path / "no.npy").stderr == (
        f"error: there is no file {tmp_path}/no.npy\nhint: check the path\n"
    )
    (tmp_path / "text.npy").write_text("1 2 3")
    done = run("run", built, "-i", tmp_path / "text.npy")
    assert done.stderr == (
        f"error: {tmp_path}/text.npy is no .npy or .npz file of plain numbers\n"
        "hint: write it with numpy.save(path, array)\n"
    )
    assert done.exit_code == 2


def test_results_that_cannot_be_written(run: Run, built: Path, x: Path, tmp_path: Path) -> None:
    done = run("run", built, "-i", x, "-o", tmp_path / "no" / "out.npz")
    assert done.stderr == (
        f"error: {tmp_path}/no/out.npz cannot be written: No such file or directory\n"
        "hint: choose another file with --output\n"
    )
    assert done.exit_code == 2


# bench and inspect -----------------------------------------------------------------------------


def test_bench(run: Run, built: Path) -> None:
    done = run("bench", built, "--runs", "7", "--per-kernel")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["median", "min", "max"]
    assert lines[3:6] == ["7 runs on 1 thread", "", "Kernel calls, the longest first"]
    assert lines[6].split() == [
        "call", "time", "floor", "share", "GFLOP/s", "GB/s", "computes", "kernel"
    ]  # fmt: skip
    report = json.loads(run("bench", built, "--runs", "7", "--per-kernel", "--json").stdout)
    assert report["runs"] == 7
    assert report["min_us"] <= report["median_us"] <= report["max_us"]
    assert sum(c["share"] for c in report["calls"]) == pytest.approx(1)
    head = next(c for c in report["calls"] if c["computes"][0]["module"] == "head")
    assert head["computes"][0]["source"].startswith("cli_sources.py:")
    assert head["gflops"] > 0
    assert "calls" not in json.loads(run("bench", built, "-n", "1", "--json").stdout)


def test_inspect_runs_no_code(run: Run, artifact: Path) -> None:
    (artifact / "model.so").write_bytes(b"not a library")
    done = run("inspect", artifact)
    assert done.exit_code == 0
    shown = done.stdout
    assert re.search(r"^target +cpu:host \(", shown, re.MULTILINE)
    assert re.search(r"^input +x +f32\[1,3,16,16\] +3.07 kB$", shown, re.MULTILINE)
    assert re.search(r"^output +output +f32\[1,10\] +40 B$", shown, re.MULTILINE)
    assert re.search(r"^code +\d.* kB$", shown, re.MULTILINE)
    assert re.search(r"%relu +f32\[1,8,16,16\] +conv", shown)
    assert re.search(r"head +cli_sources.py:\d+ +go_contraction_f32_", shown)


def test_inspect_as_json(run: Run, built: Path) -> None:
    data = json.loads(run("inspect", built, "--json").stdout)
    assert data["outputs"] == [
        {"name": "output", "dtype": "f32", "shape": [1, 10], "size_bytes": 40}
    ]
    arena = data["memory"]["arena"]
    for a in data["buffers"]:
        assert 0 <= a["offset"] < a["offset"] + a["size_bytes"] <= arena
        assert a["first_call"] <= a["last_call"]
    for a, b in ((a, b) for a in data["buffers"] for b in data["buffers"] if a is not b):
        apart = a["last_call"] < b["first_call"] or b["last_call"] < a["first_call"]
        beside = a["offset"] + a["size_bytes"] <= b["offset"] or (
            b["offset"] + b["size_bytes"] <= a["offset"]
        )
        in_place = a["offset"] == b["offset"] and (
            a["last_call"] == b["first_call"] or b["last_call"] == a["first_call"]
        )
        assert apart or beside or in_place, (a, b)


# Artifacts that cannot be used -----------------------------------------------------------------


def _edit(artifact: Path, old: str, new: str) -> None:
    path = artifact / "manifest.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def _cut(artifact: Path, name: str) -> None:
    (artifact / name).write_bytes((artifact / name).read_bytes()[:-1])


def _flip(artifact: Path, name: str) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[-1] ^= 1
    (artifact / name).write_bytes(bytes(content))


HERE = machine.architecture()
AGAIN = "compile the model again"
DAMAGE = {
    "no manifest": (lambda a: (a / "manifest.json").unlink(),
                    "{a} is not an artifact: it has no manifest.json",
                    "name the directory that `graphopt compile` wrote"),
    "half a manifest": (lambda a: _cut(a, "manifest.json") or (a / "manifest.json").write_text(
                        (a / "manifest.json").read_text()[:500]),
                        "{a}/manifest.json is damaged", AGAIN),
    "a manifest of lies": (lambda a: _edit(a, '"flops":', '"flips":'),
                           "{a}/manifest.json is damaged: TypeError: Call.__init__() got an "
                           "unexpected keyword argument 'flips'", AGAIN),
    "weights": (lambda a: _flip(a, "weights.bin"),
                "{a}/weights.bin is damaged: its checksum is not the manifest's", AGAIN),
    "short weights": (lambda a: _cut(a, "weights.bin"),
                      "{a}/weights.bin is {short} bytes, and was written as {long}", AGAIN),
    "code": (lambda a: _flip(a, "model.so"),
             "{a}/model.so is damaged: its checksum is not the manifest's", AGAIN),
    "no code": (lambda a: (a / "model.so").unlink(), "{a}/model.so is missing", AGAIN),
    "a newer format": (lambda a: _edit(a, '"format": 1', '"format": 7'),
                       "{a} is an artifact of format 7; this graphopt reads format 1",
                       "update graphopt"),
    "another architecture": (lambda a: _edit(a, f'"arch": "{HERE}"', '"arch": "m68k"'),
                             f"{{a}} is compiled for m68k (host); this machine is {HERE}",
                             "compile for this machine: --target cpu"),
    "another ISA": (lambda a: _edit(a, '"features": [', '"features": ["vliw128", '),
                    "{a} is compiled for host; this processor lacks vliw128",
                    "compile for this machine: --target cpu"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["run", "bench", "verify"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_artifacts_that_cannot_be_used(
    run: Run, artifact: Path, x: Path, damage: str, command: str
) -> None:
    break_it, message, hint = DAMAGE[damage]
    long = (artifact / "weights.bin").stat().st_size
    break_it(artifact)
    done = run(command, artifact, *(("-i", x) if command == "run" else ()))
    message = message.format(a=artifact, short=long - 1, long=long)
    assert done.stderr == f"error: {message}\nhint: {hint}\n"
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize("command", ["run", "bench", "verify", "inspect"])
def test_no_artifact(run: Run, command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path / "no")
    assert done.stderr == (
        f"error: there is no artifact at {tmp_path}/no\n"
        "hint: `graphopt compile MODEL -o DIR` makes one\n"
    )
    assert done.exit_code == 2
