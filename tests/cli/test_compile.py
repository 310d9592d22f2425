"""graphopt compile: what it prints, what it refuses, and what it leaves behind when it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import graphopt
from graphopt.artifact.verify import compare_golden

pytestmark = [pytest.mark.torch, pytest.mark.compiler]
Run = Callable[..., Result]
Source = Callable[[str], str]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_summary(run: Run, source: Source, tmp_path: Path) -> None:
    done = run("compile", source("net"), "-o", tmp_path / "net", "--budget", "size=1MB")
    assert done.exit_code == 0
    shown = re.sub(
        r"[\d.]+ (ns|us|ms|s|B|kB|MB)\b|\b[1-9]\b", "N", done.stdout.replace(str(tmp_path), "")
    )
    stages = ["trace", "import", "passes", "lower", "kernels", "emit", "golden", "build", "total"]
    lines = [re.sub(" +", " ", line).strip() for line in shown.splitlines()]
    assert lines == [
        "stage time",
        *(f"{name} N" for name in stages),
        "",
        "/net for cpu:host",
        "nodes 13",
        "regions N",
        "kernels N, called N times",
        "arena N (lower bound N)",
        "scratch N",
        "weights N",
        "code N",
        "all files N",
        "budget size N: holds",
    ]


def test_json_and_quiet(run: Run, source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    done = run("compile", source("net"), "-o", folder, "--json", "--emit-source", "-O1",
               "--budget", "memory=1MB,latency=1s")  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["target"], report["nodes"]) == ("cpu:host", 13)
    assert report["kernels"] <= report["regions"] <= report["calls"] < report["nodes"]
    assert [s["name"] for s in report["stages"]] == [
        "trace", "import", "passes", "lower", "kernels", "emit", "golden", "build",
    ]  # fmt: skip
    assert report["artifact_bytes"] == sum(map(len, contents(folder).values()))
    assert report["budget"] == {"memory": 1e6, "latency": 1.0}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["pipeline"] == report["pipeline"]
    assert manifest["kernel_pipeline"] == report["kernel_pipeline"]
    assert manifest["budget"] == report["budget"]
    assert (folder / "src" / "model.c").is_file()
    done = run("compile", source("net"), "-o", folder, "--quiet", "--verify-each")
    assert (done.exit_code, done.output) == (0, "")
    assert not (folder / "src").exists()


def test_another_target_and_other_passes(run: Run, source: Source, tmp_path: Path) -> None:
    passes = "fold-batchnorm,decompose-pooling,explicit-padding,fuse,plan-memory"
    done = run("compile", source("net"), "-o", tmp_path / "net", "--target", "cpu:scalar",
               "-p", passes, "--kernel-passes", "simplify-indices", "--json")  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["target"], report["pipeline"]) == ("cpu:scalar", passes)
    assert report["kernel_pipeline"] == "simplify-indices"
    with graphopt.load(tmp_path / "net") as model:
        assert compare_golden(model)[0].relative < 1e-5


def test_an_exported_program_and_ir_text(run: Run, source: Source, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from cli_sources import net

    model, inputs = net()
    torch.export.save(torch.export.export(model, inputs), tmp_path / "net.pt2")
    assert run("opt", tmp_path / "net.pt2", "-o", tmp_path / "net.go.txt").exit_code == 0
    results = []
    for name in ("net.pt2", "net.go.txt"):
        done = run("compile", tmp_path / name, "-o", tmp_path / "made", "-q")
        assert (done.exit_code, done.output) == (0, "")
        with graphopt.load(tmp_path / "made") as compiled:
            results.append(compiled(inputs[0].numpy()))
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], model(*inputs).detach(), atol=1e-5)


# Sources ---------------------------------------------------------------------------------------

RETURNS = "return (model.eval(), (torch.randn(1, 3, 224, 224),)): the model and its example inputs"
SOURCES = [
    ("nett", "{path} has no function 'nett'", "did you mean 'net'?"),
    ("nothing", "nothing in {path} returned None; expected (nn.Module, example inputs)", RETURNS),
    ("no_inputs", "no_inputs in {path} returned a Net; expected (nn.Module, example inputs)",
     RETURNS),
    ("strings", "example input [0] of strings in {path} is a str, not a tensor",
     "make it a tensor: torch.from_numpy(array), torch.tensor(values)"),
    ("raises", "raises in {path} raised KeyError: 'no such checkpoint'",
     "mend cli_sources.py:{line[raise KeyError]}"),
    ("unsupported", "the model uses 3 unsupported operators:\n"
     "  aten._linalg_svd.default  2x  at cli_sources.py:{line[y = torch.linalg]}, "
     "cli_sources.py:{line[torch.erfinv]}\n"
     "  aten.erfinv.default       1x  at cli_sources.py:{line[torch.erfinv]}\n"
     "  aten.lgamma.default       1x  at cli_sources.py:{line[torch.erfinv]}",
     "replace them in the model, or add their mapping to graphopt/frontend/aten"),
    ("branches",
     "control flow or a shape depends on tensor values at cli_sources.py:{line[if x.sum]}",
     "use torch.where or masks of fixed shape, or compile what is around this part: "
     'torch.compile(model, backend="graphopt")'),
    ("training", "module bn (BatchNorm2d) is in training mode", "call model.eval() first"),
]  # fmt: skip


class Lines:
    """`line[text]`: the number of the line of cli_sources.py that has a text."""

    def __init__(self, path: Path) -> None:
        self.lines = path.read_text().splitlines()

    def __getitem__(self, text: str) -> int:
        (number,) = (i for i, line in enumerate(self.lines, 1) if text in line)
        return number


@pytest.mark.parametrize(("name", "message", "hint"), SOURCES)
def test_sources_that_are_none(
    run: Run, source: Source, tmp_path: Path, name: str, message: str, hint: str
) -> None:
    path = source(name).rpartition(":")[0]
    done = run("compile", source(name), "-o", tmp_path / "x", "-q")
    expected = f"error: {message}\nhint: {hint}\n".format(path=path, line=Lines(Path(path)))
    assert (done.stderr, done.stdout, done.exit_code) == (expected, "", 2)
    assert list(tmp_path.iterdir()) == []


# What stands in the way ------------------------------------------------------------------------


def test_passes_can_be_left_out(run: Run, source: Source, tmp_path: Path) -> None:
    given = source("wide_convolutions")
    without = ("--without", "choose-winograd,choose-strassen")
    assert run("compile", given, "-o", tmp_path / "m", *without, "-q").exit_code == 0
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    left = set(manifest["pipeline"].split(","))
    served = {"drop-axes", "space-to-depth", "split-frames", "split-taps"}
    assert not {"choose-winograd", "choose-strassen", *served} & left
    for names in (without[1], without[1].split(",")):
        graphopt.compile(given, out=tmp_path / "n", without=names)
        same = json.loads((tmp_path / "n" / "manifest.json").read_text())
        assert same["pipeline"] == manifest["pipeline"]
    assert not any(c["error_bound"] for c in manifest["calls"])
    done = run("compile", given, "-o", tmp_path / "n", "--without", "choose-winogard", "-q")
    assert done.stderr == (
        "error: there is no pass 'choose-winogard' to leave out\n"
        "hint: did you mean 'choose-winograd'?\n"
    )


def test_over_budget_replaces_nothing(run: Run, source: Source, artifact: Path) -> None:
    before = contents(artifact)
    limits = "size=2kB,memory=1kB,latency=1us"
    done = run("compile", source("bert"), "-o", artifact, "--budget", limits, "-q")
    shown = re.sub(r"[\d.]+( [MkG]?B| ns| us| ms|(?= runs))", r"N\1", done.stderr)
    shown = re.sub(r"N ([MkG]?B|ns|us|ms)", "N", shown)
    assert shown == (
        "error: over budget: size is N, the budget N; "
        "memory is N (weights N, arena N, scratch N), the budget N; "
        "latency is N (median of N runs), the budget N\n"
        "hint: raise --budget, leave out what enlarges weights (--without choose-winograd,"
        "choose-strassen), or compile a smaller model; `graphopt inspect` and "
        "`graphopt bench --per-kernel` show what costs most\n"
    )
    assert done.exit_code == 2
    assert contents(artifact) == before
    assert [p.name for p in artifact.parent.iterdir()] == [artifact.name]


def test_a_latency_that_cannot_be_measured(run: Run, source: Source, tmp_path: Path) -> None:
    target = "cpu:aarch64" if os.uname().machine == "x86_64" else "cpu:x86-64-v3"
    done = run("compile", source("net"), "-o", tmp_path / "x", "--target", target, "-q",
               "--budget", "latency=1s")  # fmt: skip
    assert done.stderr == (
        "error: the latency budget cannot be checked: the code is for "
        f"{target.removeprefix('cpu:')}, which this machine cannot run\n"
        "hint: leave latency out of --budget, and measure with `graphopt bench` over there\n"
    )
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])


def test_no_compiler(run: Run, source: Source, artifact: Path) -> None:
    before = contents(artifact)
    done = run("compile", source("net"), "-o", artifact, "--cc", "no-such-cc", "-q")
    assert done.stderr == (
        "error: there is no C compiler 'no-such-cc'\n"
        "hint: name one on the PATH, or leave out --cc\n"
    )
    assert (done.exit_code, contents(artifact)) == (2, before)


def test_a_setting_that_makes_no_sense(
    run: Run, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_JOBS", "many")
    done = run("compile", source("net"), "-o", tmp_path / "x", "-q")
    assert done.stderr == (
        "error: GRAPHOPT_JOBS is 'many'\nhint: set it to the number of compilers to run at once\n"
    )
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])


def test_a_compiler_that_fails(run: Run, source: Source, artifact: Path, tmp_path: Path) -> None:
    before = contents(artifact)
    compiler = tmp_path / "bad-cc"
    compiler.write_text("#!/bin/sh\necho 'fatal: no licence' >&2\nexit 3\n")
    compiler.chmod(0o755)
    done = run("compile", source("net"), "-o", artifact, "--cc", compiler, "-q")
    assert re.fullmatch(
        r"error: compiling \S+\.c failed:\n  fatal: no licence\n"
        r"hint: report this with the source: `--emit-source` keeps it; another --cc may do\n",
        done.stderr,
    )
    assert (done.exit_code, contents(artifact)) == (2, before)


def test_a_directory_that_is_no_artifact(run: Run, source: Source, tmp_path: Path) -> None:
    """Told before the model is traced: it need not even exist."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = run("compile", "no-such-file.py:f", "-o", tmp_path)
    assert done.stderr == (
        f"error: {tmp_path} exists and is not an artifact\n"
        "hint: choose another directory with --out; graphopt replaces nothing it did not write\n"
    )
    assert (done.exit_code, (tmp_path / "thesis.txt").read_text()) == (2, "years of work")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_permission(run: Run, artifact: Path) -> None:
    before = contents(artifact)
    artifact.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        done = run("compile", "no-such-file.py:f", "-o", artifact)
        assert "cannot be written: Permission denied" in done.stderr
        assert (done.exit_code, contents(artifact)) == (2, before)
    finally:
        artifact.parent.chmod(0o755)


def test_a_path_through_a_file(run: Run, source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("compile", "no-such-file.py:f", "-o", tmp_path / "file" / "net")
    assert done.stderr == (
        f"error: {tmp_path}/file/net cannot be written: Not a directory\n"
        "hint: choose another directory with --out, or make room and permission there\n"
    )
    assert done.exit_code == 2


def test_a_full_disk(
    run: Run, source: Source, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.artifact import writer

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    before = contents(artifact)
    monkeypatch.setattr(writer, "_write_weights", full)
    done = run("compile", source("net"), "-o", artifact, "-q", "-O1")
    assert done.stderr == (
        f"error: {artifact} cannot be written: No space left on device\n"
        "hint: choose another directory with --out, or make room and permission there\n"
    )
    assert (done.exit_code, contents(artifact)) == (2, before)
    assert [p.name for p in artifact.parent.iterdir()] == [artifact.name]


# Killed half-way -------------------------------------------------------------------------------


def _start_and_wait_for_the_build(folder: Path, source: str, cache: Path) -> subprocess.Popen[str]:
    """A process of its own, returned when it writes. An empty cache: there is much to build."""
    process = subprocess.Popen(
        [sys.executable, "-m", "graphopt", "compile", source, "-o", folder],
        env={**os.environ, "GRAPHOPT_CACHE": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a background job ignores SIGINT, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(folder.parent.glob(f".{folder.name}.graphopt-*/weights.bin")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    assert process.poll() is None
    return process


@pytest.mark.slow
def test_killed_half_way(run: Run, source: Source, artifact: Path, tmp_path: Path) -> None:
    before = contents(artifact)
    process = _start_and_wait_for_the_build(artifact, source("deep"), tmp_path / "cache")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert contents(artifact) == before
    assert len(list(artifact.parent.glob(".net.graphopt-*"))) == 1
    assert run("compile", source("net"), "-o", artifact, "-q").exit_code == 0
    assert list(artifact.parent.glob(".net.graphopt-*")) == []


@pytest.mark.slow
def test_interrupted_half_way(source: Source, artifact: Path, tmp_path: Path) -> None:
    before = contents(artifact)
    process = _start_and_wait_for_the_build(artifact, source("deep"), tmp_path / "cache")
    os.killpg(process.pid, signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.endswith("interrupted\n")
    assert "Traceback" not in shown
    assert contents(artifact) == before
    assert list(artifact.parent.glob(".net.graphopt-*")) == []
