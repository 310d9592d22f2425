"""graphopt explain and bisect: what a pass did, and which rewrite was wrong."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from graphopt.check.explain import Decision, near_misses

Run = Callable[..., Result]
Source = Callable[[str], str]
Plugin = Callable[..., None]

LAYERS = 8
CODE = '''
from dataclasses import dataclass
from graphopt.passbase import RewritePass
from graphopt.rewrite import Plan, Reject

@dataclass(frozen=True)
class DropRelu(RewritePass):
    """Drops a relu. Claims to be exact."""
    name = "drop-relu"
    root = "relu"
    layer: int = 6
    def plan(self, node):
        if node.loc.module == "":
            return Reject("it has no module")
        if node.loc.module != f"layer{self.layer}":
            return Reject(f"module {node.loc.module!r} is not layer {self.layer}")
        return Plan(node)
    def apply(self, plan, rw):
        rw.replace(plan.node.result, plan.node.operands[0])
'''
KERNEL_CODE = '''
from graphopt.kernel.ir import Store, binary, const
from graphopt.kernel.passbase import KernelPass
from graphopt.kernel.visit import map_stmts
import dataclasses

class Louder(KernelPass):
    """Counts a rewrite of every kernel, and spoils the reductions."""
    name = "louder"
    def run(self, kernel, ctx):
        if not ctx.spend():
            return kernel
        ctx.fired(self.name, kernel, "all of it")
        def change(s):
            if isinstance(s, Store) and s.buffer.name in kernel.outputs:
                more = binary("*", s.value, const(1.01, s.buffer.dtype))
                return dataclasses.replace(s, value=more)
            return s
        if "reduction" not in kernel.name:
            return kernel
        return dataclasses.replace(kernel, body=map_stmts(kernel.body, change))
'''
MANIFEST = """Plugin(api=1, passes={"drop-relu": "acme:DropRelu"},
    kernel_passes={"louder": "acme:Louder"})"""
SAFE = "assign-layouts,fuse,plan-memory"


@pytest.fixture
def file(tmp_path: Path, plugin: Plugin) -> Path:
    """Layers that subtract x and add y in turn, so that the relu of layer 6 matters."""
    plugin("acme", CODE + KERNEL_CODE, MANIFEST)
    lines = ["%x = input : f32[64]", "%y = input : f32[64]"]
    for i in range(LAYERS):
        loc = f'loc("layer{i}", "model.py:{i + 10}")'
        before, change = f"%r{i - 1}" if i else "%y", ("sub", "%x") if i % 2 else ("add", "%y")
        lines += [f"%a{i} = {change[0]} {before}, {change[1]} {loc}", f"%r{i} = relu %a{i} {loc}"]
    lines += [f"%last = relu %r{LAYERS - 1}", "return %last"]
    path = tmp_path / "m.go.txt"
    path.write_text("\n".join(lines))
    return path


# explain ---------------------------------------------------------------------------------------


def test_where_it_fired_and_the_near_misses(run: Run, file: Path) -> None:
    done = run("explain", "drop-relu", file, "-p", f"drop-relu{{layer=6}},{SAFE}", "--most", "2")
    assert done.stdout == (
        "pass drop-relu of acme 2.5 (numerics: exact)\n"
        "after nothing else\n"
        "17 nodes → 16\n"
        "\nFired once\n"
        "  %r6 = relu (layer6 at model.py:16)\n"
        "\nRefused once: it has no module\n"
        "  %last = relu\n"
        "\nRefused 7 times: module 'layer0' is not layer 6\n"
        "where                               reason\n"
        "%r0 = relu (layer0 at model.py:10)  module 'layer0' is not layer 6\n"
        "%r1 = relu (layer1 at model.py:11)  module 'layer1' is not layer 6\n"
        "  and 5 more (--most 7 shows them)\n"
    )
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_pass_outside_the_pipeline_runs_alone(run: Run, file: Path) -> None:
    done = run("explain", "drop-relu", file)
    assert "it does not stand in the pipeline, and ran alone\n" in done.stdout
    assert "Fired once\n  %r6 = relu (layer6 at model.py:16)" in done.stdout


@pytest.mark.torch
def test_a_built_in_pass_on_a_model(run: Run, source: Source) -> None:
    done = run("explain", "fold-batchnorm", source("resnet"), "--json")
    found = json.loads(done.stdout)
    assert found["owner"].startswith("pass fold-batchnorm of graphopt")
    assert found["stands"] == 1
    assert "fold-constants" in found["before"]
    assert len(found["fired"]) == 19
    assert (
        "(model.resnet.embedder.embedder.normalization at modeling_resnet.py:"
        in (found["fired"][0])
    )
    again = run("explain", "fuse", source("resnet"), "--json")
    refusals = [r for miss in json.loads(again.stdout)["near_misses"] for r in miss["reasons"]]
    assert refusals


@pytest.mark.torch
def test_a_kernel_pass(run: Run, source: Source, plugin: Plugin) -> None:
    plugin("acme", CODE + KERNEL_CODE, MANIFEST)
    arguments = ("explain", "louder", source("net"), "--kernel-passes", "louder")
    lines = run(*arguments).stdout.splitlines()
    assert lines[:3] == [
        "kernel pass louder of acme 2.5 (numerics: exact)",
        "after nothing else",
        "1 of 4 kernels changed",
    ]
    assert lines[4] == "Fired 4 times"
    assert any(
        line.startswith("  all of it in go_contraction_") and "(head at cli_sources.py:" in line
        for line in lines[5:]
    )
    found = json.loads(run("explain", "vectorize-innermost", source("net"), "--json").stdout)
    assert found["near_misses"]


def test_the_rarest_reason_comes_first() -> None:
    decisions = [
        Decision(1, "a", "shape [4] of %x"), Decision(2, "b", "shape [8] of %y", cost=9),
        Decision(3, "c", "read twice"), Decision(4, "d", "never mind"), Decision(4, "d"),
    ]  # fmt: skip
    misses = near_misses(decisions)
    assert [m.reasons for m in misses] == [("read twice",), ("shape [8] of %y", "shape [4] of %x")]
    assert misses[1].places == ("b", "a"), "the costliest first"


# bisect ----------------------------------------------------------------------------------------

FOUND = "pass drop-relu of acme 2.5 at %r6 = relu (layer6 at model.py:16)\n"


def test_numerics(run: Run, file: Path) -> None:
    done = run("bisect", file, "--check", "numerics", "-p", f"drop-relu,{SAFE}")
    assert (done.exit_code, done.stderr) == (0, "")
    first, second = done.stdout.splitlines(keepends=True)
    assert first.startswith("rewrite 1 of ")
    assert first.endswith(FOUND)
    assert second.startswith("found in ")
    done = run("bisect", file, "--check", "numerics", "-p", f"drop-relu,{SAFE}", "--json")
    guilty = json.loads(done.stdout)
    assert guilty["pass"] == "drop-relu"
    assert guilty["at"] == {
        "op": "relu", "values": ["r6"], "module": "layer6", "source": "model.py:16"
    }  # fmt: skip


@pytest.mark.compiler
def test_a_command(run: Run, file: Path, tmp_path: Path) -> None:
    """Bad: an artifact of fewer operations than the model has. By its end, and in place of {}."""
    script = tmp_path / "check.py"
    script.write_text(
        "import json, sys\n"
        "manifest = json.load(open(sys.argv[1] + '/manifest.json'))\n"
        "assert open(sys.argv[1] + '/model.so', 'rb').read(4) == b'\\x7fELF'\n"
        f"sys.exit(sum(c['flops'] for c in manifest['calls']) < 64 * {2 * LAYERS + 1})\n"
    )
    for command in (f"{sys.executable} {script}", f"{sys.executable} {script} {{}} && true"):
        done = run("bisect", file, "--check", command, "-p", f"drop-relu,{SAFE}")
        assert done.stdout.splitlines(keepends=True)[0].endswith(FOUND), done.output
        assert done.exit_code == 0


@pytest.mark.torch
@pytest.mark.compiler
def test_a_kernel_pass_that_is_wrong(run: Run, source: Source, plugin: Plugin) -> None:
    """The interpreter finds the graph right, so artifacts are built, kernel passes first."""
    plugin("acme", CODE + KERNEL_CODE, MANIFEST)
    done = run("bisect", source("net"), "--check", "numerics", "--kernel-passes", "louder")
    assert re.fullmatch(
        r"rewrite [1-4] of 4: kernel pass louder of acme 2\.5 at all of it in go_reduction_\S+\n"
        r"found in [45] trials\n",
        done.stdout,
    ), done.output
    assert done.exit_code == 0


def test_nothing_to_find(run: Run, file: Path) -> None:
    done = run("bisect", file, "--check", "true", "-p", SAFE)
    assert done.stderr == "error: the result is good: there is nothing to bisect\n"
    assert done.exit_code == 2


@pytest.mark.torch
@pytest.mark.compiler
def test_passes_that_code_generation_needs_are_left_in(
    run: Run, source: Source, tmp_path: Path
) -> None:
    done = run("bisect", source("net"), "--check", "false")
    assert done.stderr.startswith(
        "error: the compile is bad with no rewrite but those of passes that code generation needs ("
    )
    assert "explicit-padding" in done.stderr
    assert done.exit_code == 2
