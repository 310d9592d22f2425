"""A compile whose artifact is there already does nothing, and anything that matters undoes that."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt import kept
from graphopt.compilation import Made, Options
from graphopt.driver import make
from graphopt.errors import BudgetError
from graphopt.ir.store import save
from graphopt.ir.text import parse
from graphopt.target import resolve

pytestmark = pytest.mark.compiler

Compile = Callable[..., Made]

GRAPH = """%x = input : f32[4]
%y = mul %x, %x : f32[4]
return %y
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that is kept must have been made in this test."""
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compiles GRAPH, or another, to the same directory each time."""

    def compile(text: str = GRAPH, target: str = "cpu", **options: object) -> Made:
        source = tmp_path / "scale.go.txt"
        save(parse(text), source)
        return make(str(source), target=target, out=tmp_path / "made", options=Options(**options))  # type: ignore[arg-type]

    return compile


def test_the_same_again_is_kept(compiled: Compile) -> None:
    first, again = compiled(), compiled()
    assert (first.kept, again.kept) == (False, True)
    told = dataclasses.replace(first.report, stages=[], passes=[], kernel_passes=[])
    assert dataclasses.replace(again.report, stages=[]) == told
    assert again.pipeline == first.pipeline
    assert [s.name for s in again.report.stages] == ["trace"]


@pytest.mark.parametrize(
    "other",
    [
        {"text": GRAPH.replace("mul", "add")},
        {"target": "cpu:scalar"},
        {"level": "O1"},
        {"prefix": "scale"},
        {"passes": "fuse,plan-memory"},
        {"verify_each": True},
    ],
)
def test_what_differs_is_made(compiled: Compile, other: dict[str, object]) -> None:
    compiled()
    assert not compiled(**other).kept


def test_going_back_is_made_too(compiled: Compile) -> None:
    """The directory holds the other one now."""
    compiled()
    compiled(level="O1")
    assert not compiled().kept
    assert compiled().kept


def test_in_the_cache_each_model_has_its_own() -> None:
    """Two that differ in a number alone, which ends up in a weight: their constants and the C that
    is made of them are the same."""

    def made(number: float) -> tuple[Path, float]:
        text = f"""%x = input : f32[1,4]
          %w = constant {{key="w"}} : f32[4,4]
          %n = full {{value={number}, shape=[], dtype=f32}} : f32[]
          %m = mul %w, %n : f32[4,4]
          %y = linear %x, %m : f32[1,4]
          return %y"""
        graph = parse(text, fill=lambda key, type: np.arange(16, dtype=np.float32).reshape(4, 4))
        model = graphopt.compile(graph)
        return model.folder, float(np.asarray(model(np.ones((1, 4), np.float32)))[0, 0])

    two, three = made(2.0), made(3.0)
    assert (two[1], three[1]) == (12.0, 18.0)
    assert made(2.0) == two


@pytest.mark.parametrize("name", ["model.so", "weights.bin", "manifest.json"])
def test_a_damaged_artifact_is_made_again(compiled: Compile, name: str) -> None:
    made = compiled()
    file = made.artifact / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not compiled().kept
    assert graphopt.load(made.artifact)
    assert file.read_bytes() == whole or name == "model.so"


def test_a_damaged_record_is_made_again(compiled: Compile, tmp_path: Path) -> None:
    compiled()
    (record,) = (tmp_path / "cache" / "made").rglob("*.json")
    record.write_text("{")
    assert not compiled().kept


def test_a_budget_is_held_to_all_the_same(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of latency it depends on the day."""
    from graphopt.budget import Budget

    def exceeded(*_: object) -> None:
        raise BudgetError("too slow today")

    compiled()
    with pytest.raises(BudgetError):
        compiled(budget=Budget.parse("size=1kB"))
    assert compiled().kept
    ample = Budget.parse("size=1MB")
    assert not compiled(budget=ample).kept, "the manifest says what it had to hold"
    monkeypatch.setattr(Budget, "check", exceeded)
    with pytest.raises(BudgetError):
        compiled(budget=ample)


def test_another_graphopt_makes_it_again(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled()
    monkeypatch.setattr(kept, "_code", lambda: iter(["fuse.py 0123"]))
    assert not compiled().kept


def test_every_file_of_a_plugin_counts() -> None:
    files = [line.partition(" ")[0] for line in kept._code()]
    for part in ("graphopt/driver.py", "algorithm/choose_winograd.py", "runtime/go_runtime.c"):
        assert any(f.endswith(part) for f in files), part


@pytest.mark.torch
def test_an_exported_file_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    file, out = tmp_path / "net.pt2", tmp_path / "net"
    program = torch.export.export(torch.nn.ReLU(), (torch.ones(3),))
    torch.export.save(program, file)
    assert not make(str(file), out=out).kept
    monkeypatch.setitem(sys.modules, "graphopt.frontend.source", None)  # importing it fails
    again = make(str(file), out=out)
    assert again.kept
    assert again.report.stages == []


def test_the_fingerprint_of_a_target_has_all_of_it() -> None:
    _, row = resolve("cpu:x86-64-v4")
    assert dataclasses.replace(row, vector_units=1).fingerprint != row.fingerprint
    assert dataclasses.replace(row, features=row.features | {"amx"}).fingerprint != row.fingerprint
    reordered = dataclasses.replace(row, features=frozenset(sorted(row.features, reverse=True)))
    assert reordered.fingerprint == row.fingerprint


@pytest.mark.torch
@pytest.mark.parametrize("out", ["net", None])
def test_a_module_that_is_the_same_again_is_not_imported(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `out` or in the cache. What is in it, or how it is called, makes it another."""
    import torch

    from graphopt.frontend import traced

    def made(scale: float = 1.0, width: int = 3, layer: str = "first") -> Made:
        net = torch.nn.Sequential()
        net.add_module(layer, torch.nn.Linear(3, 3, dtype=torch.float32))
        torch.nn.init.constant_(net[0].weight, scale)
        torch.nn.init.zeros_(net[0].bias)
        inputs = (torch.ones(width, 3),)
        return make(net.eval(), inputs, out=None if out is None else tmp_path / out)

    first = made()
    assert not first.kept
    with monkeypatch.context() as patch:
        patch.setattr(traced, "import_exported", lambda program: pytest.fail("imported"))
        again = made()
    assert (again.kept, again.artifact) == (True, first.artifact)
    assert not made(scale=2.0).kept
    assert not made(width=2).kept
    assert not made(layer="last").kept


@pytest.mark.torch
def test_the_lines_and_branches_of_a_model_count(tmp_path: Path) -> None:
    """Names come of the lines; the bodies of branches are programs within the program."""
    from graphopt.frontend import export_model

    def digest(text: str) -> str:
        file = tmp_path / "net.py"
        file.write_text(f"""import torch
class Net(torch.nn.Module):
    def forward(self, x):
{text}
def build():
    return Net().eval(), (torch.ones(4),)
""")
        return export_model(f"{file}:build").digest()

    plain = digest("        return x * 2")
    assert plain == digest("        return x * 2")
    others = ["        return x * 3", "\n        return x * 2"]
    branch = "        return torch.cond(x.sum() > 0, lambda x: x * {}, lambda x: x + 1, (x,))"
    digests = {plain, *map(digest, [*others, branch.format(2), branch.format(3)])}
    assert len(digests) == 5
