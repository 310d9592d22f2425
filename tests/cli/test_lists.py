"""graphopt passes, kernel-passes, ops, targets and plugins."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from graphopt import __version__
from graphopt.ops import OPS
from graphopt.plugins import registry

Run = Callable[..., Result]
Plugin = Callable[..., None]

CODE = '''
from dataclasses import dataclass
from graphopt.passbase import Pass, approximates

@dataclass(frozen=True)
class Round(Pass):
    """Rounds weights to a grid. This second sentence is not shown."""
    name = "round-weights"
    bits: int
    per_channel: bool = True
    numerics = approximates(0.01)
    def run(self, graph, ctx):
        return graph
'''
MANIFEST = """Plugin(api=1, passes={"round-weights": "acme:Round", "gone": "acme_gone:Gone"},
    backends={"abacus": "acme_gone:Abacus"})"""
GONE = "of acme 2.5 cannot be imported: ModuleNotFoundError: No module named 'acme_gone'"


def test_passes(run: Run) -> None:
    rows = {r["name"]: r for r in json.loads(run("passes", "--json").stdout)["passes"]}
    assert set(rows) == {e.name for e in registry().of("passes")}
    fuse = rows["fuse"]
    assert (fuse["numerics"], fuse["distribution"]) == ("exact", f"graphopt {__version__}")
    assert "max-inputs" in fuse["options"]
    assert all(r["summary"] for r in rows.values())
    done = run("passes")
    assert (done.exit_code, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["pass", "numerics", "options", "from", "what", "it", "does"]
    assert [line.split()[0] for line in lines] == sorted(rows)


def test_a_plugins_pass_stands_beside_the_built_in_ones(run: Run, plugin: Plugin) -> None:
    plugin("acme", CODE, MANIFEST)
    done = run("passes")
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("round-weights"))
    assert " ".join(line.split()) == (
        "round-weights approximates(0.01) bits=, per-channel=true acme 2.5 Rounds weights to a grid"
    )
    assert done.stderr == f"warning: plugin 'gone' {GONE}\n"
    assert done.exit_code == 0


def test_kernel_passes(run: Run) -> None:
    data = json.loads(run("kernel-passes", "--json").stdout)
    assert {r["name"] for r in data["kernel_passes"]} == {
        e.name for e in registry().of("kernel_passes")
    }
    assert data["broken"] == []
    assert run("kernel-passes").exit_code == 0


def test_ops(run: Run) -> None:
    rows = {r["name"]: r for r in json.loads(run("ops", "--json").stdout)["ops"]}
    assert set(rows) == set(OPS)
    assert rows["conv"]["kind"] == "contraction"
    assert rows["softmax"]["attributes"] == {"axis": "int"}
    assert rows["transpose"]["attributes"] == {"perm": "[int, ..]"}
    assert "softmax" in run("ops").stdout


def test_targets(run: Run, plugin: Plugin) -> None:
    plugin("acme", CODE, MANIFEST)
    data = json.loads(run("targets", "--json").stdout)
    rows = {r["name"]: r for r in data["targets"]}
    assert rows["cpu:x86-64-v4"]["lanes_f32"] == 16
    assert "asimd" in rows["cpu:aarch64"]["features"]
    assert rows["cpu:host"]["distribution"] == f"graphopt {__version__}"
    assert data["broken"] == [f"plugin 'abacus' {GONE}"]
    done = run("targets")
    assert "cpu:cortex-a76" in done.stdout
    assert done.stderr == f"warning: plugin 'abacus' {GONE}\n"


def test_plugins(run: Run, plugin: Plugin) -> None:
    plugin("acme", CODE, MANIFEST)
    data = json.loads(run("plugins", "--json").stdout)
    rows = {r["distribution"]: r for r in data["plugins"]}
    assert rows["acme 2.5"]["passes"] == ["round-weights", "gone"]
    assert "cpu" in rows[f"graphopt {__version__}"]["backends"]
    assert data["broken"] == [f"plugin 'gone' {GONE}", f"plugin 'abacus' {GONE}"]
    done = run("plugins")
    assert "acme 2.5" in done.stdout
    assert done.stderr.count("warning: ") == 2


BROKEN = [
    ("acme_missing.PLUGIN", "NameError: name 'acme_missing' is not defined"),
    ("Plugin(api=99)", "written for plugin API 99; this graphopt has 1"),
    ("{'passes': {}}", "its entry point is a dict, not a graphopt.plugins.Plugin"),
]


@pytest.mark.parametrize(("manifest", "reason"), BROKEN)
def test_a_broken_manifest_stops_nobody_else(
    run: Run, plugin: Plugin, manifest: str, reason: str
) -> None:
    plugin("acme", "", manifest)
    for command in ("plugins", "passes"):
        done = run(command)
        assert done.exit_code == 0
        assert "fuse" in done.stdout
        assert done.stderr == f"warning: acme could not be used: {reason}\n"


def test_a_name_that_two_offer(run: Run, plugin: Plugin) -> None:
    plugin("acme", CODE, 'Plugin(api=1, passes={"fuse": "acme:Round"})')
    done = run("passes")
    assert done.stderr in (
        "error: graphopt and acme both offer 'fuse'\n"
        "hint: uninstall one of them, or ask its author for another name\n",
        "error: acme and graphopt both offer 'fuse'\n"
        "hint: uninstall one of them, or ask its author for another name\n",
    )
    assert done.exit_code == 2
