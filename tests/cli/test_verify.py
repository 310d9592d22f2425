"""graphopt verify: agreement is told, and an error is told where it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from graphopt_backends.cpu import lower as lowering

from graphopt.ir.graph import Node
from graphopt.kernel.ir import Kernel, Stmt, Store, binary, const
from graphopt.kernel.visit import map_stmts

pytestmark = [pytest.mark.torch, pytest.mark.compiler]
Run = Callable[..., Result]
Source = Callable[[str], str]
Reseal = Callable[[Path], None]


def test_files_and_golden_outputs(run: Run, built: Path) -> None:
    done = run("verify", built)
    files, header, row = done.stdout.splitlines()
    assert files == "4 files are as they were written"
    assert header.split() == ["compared", "with", "output", "error", "allowed"]
    assert row.startswith("golden outputs  output")
    assert row.endswith("0.0001  ok")
    assert done.exit_code == 0


def test_every_file_is_read(run: Run, artifact: Path) -> None:
    (artifact / "model.h").write_text("not this")
    size = json.loads((artifact / "manifest.json").read_text())["files"]["model.h"]["size_bytes"]
    done = run("verify", artifact)
    assert done.stderr == (
        f"error: {artifact}/model.h is 8 bytes, and was written as {size}\n"
        "hint: compile the model again\n"
    )
    assert done.exit_code == 2


@pytest.mark.parametrize("name", ["resnet", "bert"])
def test_every_kernel_of_a_real_model(
    run: Run, source: Source, compiled: Callable[[str], Path], name: str
) -> None:
    folder = compiled(name)
    done = run("verify", folder, source(name), "--per-op", "--json", "--threads", "2")
    report = json.loads(done.stdout)
    assert (report["agrees"], report["first_drift"], done.exit_code) == (True, None, 0)
    assert report["reference"] == "eager in float64"
    manifest = json.loads((folder / "manifest.json").read_text())
    results = [r["name"] for c in manifest["calls"] for r in c["results"]]
    assert sorted(k["output"] for k in report["kernels"]) == sorted(results)
    # Measured: up to 1e-6 in all tiny models. Were values mixed up, they would be off by 1.
    assert 0 < max(k["relative"] for k in report["kernels"]) < 1e-5


def test_an_exported_program_and_ir_text(
    run: Run, built: Path, source: Source, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from cli_sources import net

    model, inputs = net()
    torch.export.save(torch.export.export(model, inputs), tmp_path / "net.pt2")
    done = run("verify", built, tmp_path / "net.pt2", "--per-op")
    assert done.exit_code == 0, done.output
    assert run("opt", source("net"), "-o", tmp_path / "net.go.txt").exit_code == 0
    done = run("verify", built, tmp_path / "net.go.txt", "--json")
    report = json.loads(done.stdout)
    assert report["agrees"]
    assert report["reference"] == "the reference interpreter in float64"


# Planted errors --------------------------------------------------------------------------------


def _weight_of(folder: Path, module: str) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text())
    found = [w for w in manifest["weights"] if w["name"].startswith(f"{module}.weight")]
    (entry,) = (w for w in found if "bias" not in w["name"])
    return dict(entry)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("resnet", "model.resnet.encoder.stages.1.layers.1.layer.0.convolution"),
        ("bert", "model.encoder.layer.1.attention.self.query"),
    ],
)
def test_a_wrong_weight_is_found_at_its_node(
    run: Run, source: Source, compiled: Callable[[str], Path], tmp_path: Path, resealed: Reseal,
    name: str, module: str,
) -> None:  # fmt: skip
    """One packed weight is off by a percent, every checksum right: only the numbers can tell."""
    folder = Path(shutil.copytree(compiled(name), tmp_path / "m"))
    entry = _weight_of(folder, module)
    content = bytearray((folder / "weights.bin").read_bytes())
    end = entry["offset"] + entry["size_bytes"]
    packed = np.frombuffer(content, np.float32)[entry["offset"] // 4 : end // 4]
    packed *= np.float32(1.01)
    (folder / "weights.bin").write_bytes(bytes(content))
    resealed(folder)

    done = run("verify", folder, source(name), "--per-op", "--json")
    first = json.loads(done.stdout)["first_drift"]
    assert done.exit_code == 1
    assert module in [place["module"] for place in first["computes"]]
    assert first["relative"] > 1e-3

    done = run("verify", folder, source(name), "--per-op")
    value, where, _ = done.stdout.splitlines()[-2].partition(f"{module} at modeling_")
    assert value.startswith(f"first to drift: %{first['output']}: ")
    assert where
    assert done.stdout.splitlines()[-1] == f"in kernel {first['kernel']}, call {first['call']}"


def _louder(kernel: Kernel) -> Kernel:
    """Everything that a kernel writes into its results becomes one percent more."""

    def change(s: Stmt) -> Stmt:
        if isinstance(s, Store) and s.buffer.name in kernel.outputs:
            return dataclasses.replace(s, value=binary("*", s.value, const(1.01, s.buffer.dtype)))
        return s

    return dataclasses.replace(kernel, body=map_stmts(kernel.body, change))


def test_a_wrong_kernel_is_found_at_its_node(
    run: Run, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code generator errs in one region; weights and passes are right."""
    module = "model.resnet.encoder.stages.2.layers.0.layer.1.convolution"
    right = lowering.lower_region

    def lower(node: Node, *rest: Any) -> Any:
        lowered = right(node, *rest)
        wrong = node.loc.module == module and node.attrs.kind == "contraction"  # type: ignore[attr-defined]
        return dataclasses.replace(lowered, kernel=_louder(lowered.kernel)) if wrong else lowered

    monkeypatch.setattr(lowering, "lower_region", lower)
    assert run("compile", source("resnet"), "-o", tmp_path / "m", "-q").exit_code == 0
    done = run("verify", tmp_path / "m", source("resnet"), "--per-op", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert module in [place["module"] for place in report["first_drift"]["computes"]]
    assert report["first_drift"]["relative"] == pytest.approx(0.01, rel=0.1)


# Algorithms that approximate -------------------------------------------------------------------


def test_approximating_kernels_are_named_with_their_bound(
    run: Run, compiled: Callable[[str], Path]
) -> None:
    folder = compiled("wide_convolutions")
    report = json.loads(run("verify", folder, "--json").stdout)
    assert [a["computes"][0]["module"] for a in report["approximate"]] == ["0", "4"]
    assert {(a["declared"], a["measured"]) for a in report["approximate"]} == {(5e-05, None)}
    done = run("verify", folder)
    assert "Kernels by a faster, less exact algorithm, each by itself" in done.stdout
    assert done.stdout.splitlines()[-1] == "SOURCE tells how far off they are"


def test_approximating_kernels_are_measured_one_by_one(
    run: Run, compiled: Callable[[str], Path], source: Source
) -> None:
    folder = compiled("wide_convolutions")
    done = run("verify", folder, source("wide_convolutions"), "--json")
    found = json.loads(done.stdout)["approximate"]
    assert len(found) == 2
    # Measured: 4e-7 to 4e-6. A direct sum of 288 products would be off by less than 4e-7.
    assert all(1e-8 < a["measured"] < a["declared"] for a in found)
    assert all(a["holds"] for a in found)
    assert done.exit_code == 0


def test_no_kernel_approximates(run: Run, built: Path, source: Source) -> None:
    assert json.loads(run("verify", built, source("net"), "--json").stdout)["approximate"] == []


def test_a_broken_bound_is_a_bad_finding(
    run: Run, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though all results agree by the tolerance that is asked for."""
    right = lowering.lower_region

    def lower(node: Node, *rest: Any) -> Any:
        lowered = right(node, *rest)
        if node.loc.module != "0" or node.attrs.kind != "contraction":  # type: ignore[attr-defined]
            return lowered
        return dataclasses.replace(lowered, kernel=_louder(lowered.kernel))

    monkeypatch.setattr(lowering, "lower_region", lower)
    given = source("wide_convolutions")
    assert run("compile", given, "-o", tmp_path / "m", "-q").exit_code == 0
    done = run("verify", tmp_path / "m", given, "--tolerance", "0.1", "--json")
    wrong, fine = json.loads(done.stdout)["approximate"]
    assert wrong["measured"] == pytest.approx(0.01, rel=0.1)
    assert (wrong["holds"], fine["holds"], done.exit_code) == (False, True, 1)
    shown = run("verify", tmp_path / "m", given, "--tolerance", "0.1").stdout
    assert shown.count("EXCEEDED") == 1
    assert "DIFFERS" not in shown


# Sources that are not the artifact's -----------------------------------------------------------


def test_another_model(run: Run, built: Path, source: Source) -> None:
    done = run("verify", built, source("wider"))
    assert done.stderr == (
        "error: the artifact is of another model: it takes (x: f32[1,3,16,16]) and gives "
        "(f32[1,10]), the source takes (x: f32[2,3,16,16]) and gives (f32[2,10])\n"
        "hint: name the SOURCE that it was compiled from\n"
    )
    assert done.exit_code == 2


def test_a_source_with_other_weights_each_time(run: Run, built: Path, source: Source) -> None:
    done = run("verify", built, source("unseeded"))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == (
        "the golden outputs agree and SOURCE does not: does it give the same weights and inputs "
        "each time? Seed it, or compile it again"
    )


def test_other_passes(run: Run, artifact: Path, source: Source) -> None:
    """The values that the artifact speaks of must be those of the passes it names."""
    path = artifact / "manifest.json"
    path.write_text(path.read_text().replace('"name": "relu"', '"name": "gelu"'))
    done = run("verify", artifact, source("net"), "--per-op")
    assert done.stderr.startswith("error: the artifact has a value %gelu: f32[1,8,16,16] (conv")
    assert done.stderr.endswith(
        "where the source, run through the same passes, has none\n"
        "hint: compile it again: the source or the passes have changed since\n"
    )
    assert done.exit_code == 2


def test_a_tolerance_that_nothing_meets(run: Run, built: Path, source: Source) -> None:
    done = run("verify", built, source("net"), "--tolerance", "1e-12")
    assert done.exit_code == 1
    assert [line.split()[-1] for line in done.stdout.splitlines()[2:4]] == ["DIFFERS", "DIFFERS"]
    assert done.stdout.splitlines()[-1] == (
        "`graphopt verify DIR SOURCE --per-op` names the first node that drifts"
    )


def test_quiet_speaks_by_its_exit_code(run: Run, built: Path) -> None:
    assert (run("verify", built, "-q").exit_code, run("verify", built, "-q").output) == (0, "")
    assert run("verify", built, "-q", "--tolerance", "0").exit_code == 1
