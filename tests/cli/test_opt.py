"""graphopt opt: IR text in and out, and passes that misbehave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from graphopt.ir.store import load
from graphopt.ir.text import parse

Run = Callable[..., Result]
Plugin = Callable[..., None]

TEXT = """%x = input : f32[2,3]
%z = full {value=0.0, shape=[], dtype=f32}
%a = add %x, %z loc("stem", "model.py:7")
%r = relu %a loc("stem", "model.py:8")
return %r
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.go.txt"
    path.write_text(TEXT)
    return path


def test_text_comes_back_complete(run: Run, file: Path) -> None:
    done = run("opt", file)
    assert (done.exit_code, done.stderr) == (0, "")
    assert parse(done.stdout) == parse(TEXT)
    assert run("opt", "-", input=TEXT).stdout == done.stdout


def test_passes_and_the_graph_after_each(run: Run, file: Path) -> None:
    done = run("opt", file, "-p", "assign-layouts,fuse{max-inputs=4}", "--print-after-all",
               "--verify-each")  # fmt: skip
    assert done.exit_code == 0
    graph = parse(done.stdout)
    assert [n.op.name for n in graph.nodes if n.body is not None] == ["fused"]
    assert "# after assign-layouts\n" in done.stderr
    after = done.stderr.partition("# after fuse\n")[2]
    assert after.startswith(done.stdout), "the last graph printed is the result"
    assert "kernel " in after, "all that computes is in regions: kernels follow"
    assert "# parallelize" in after or "# vectorize" in after or "# kernel" in after


def test_as_json(run: Run, file: Path, tmp_path: Path) -> None:
    pipeline = "simplify-arithmetic,assign-layouts,fuse"
    done = run("opt", file, "-p", pipeline, "--json", "--kernels", "--kernel-passes",
               "vectorize-innermost", "--target", "cpu:x86-64-v3")  # fmt: skip
    report = json.loads(done.stdout)
    assert report["graph"] == run("opt", file, "-p", pipeline).stdout
    assert [p["pass_name"] for p in report["passes"]] == pipeline.split(",")
    assert [p["rewrites"] for p in report["passes"]] == [0, 0, 1]
    (region,) = report["kernels"]
    shown = run("opt", file, "-p", pipeline, "--kernels", "--kernel-passes", "vectorize-innermost",
                "--target", "cpu:x86-64-v3").stdout  # fmt: skip
    steps = (f"# {s['step']}\n{s['kernel']}\n" for s in region["steps"])
    assert "".join([f"# {region['region']}\n", *steps]) == shown
    assert region["steps"][-1]["step"] == "after vectorize-innermost"
    plain = json.loads(run("opt", file, "--json", "-o", tmp_path / "out.go.txt").stdout)
    assert (plain["passes"], plain["kernels"]) == ([], [])
    assert load(tmp_path / "out.go.txt") == parse(plain["graph"])


def test_kernels_after_every_schedule_step(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.go.txt"
    path.write_text(
        "%x = input : f32[4,64]\n%w = input : f32[32,64]\n"
        '%y = linear %x, %w loc("head", "m.py:3")\nreturn %y'
    )
    done = run("opt", path, "-p", "assign-layouts,fuse", "--kernels", "--target", "cpu:x86-64-v3")
    steps = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    assert steps[0] == "# %y = fused (head at m.py:3)"
    assert len(steps) > 3
    assert done.stdout.count("\nkernel ") == len(steps) - 1

    done = run("opt", path, "-p", "assign-layouts,fuse", "--kernels", "--kernel-passes",
               "simplify-indices")  # fmt: skip
    assert "# after simplify-indices\nkernel " in done.stdout


@pytest.mark.torch
def test_a_model_and_its_weights(run: Run, tmp_path: Path) -> None:
    source = f"{Path(__file__).parent / 'cli_sources.py'}:net"
    out = tmp_path / "net.go.txt"
    done = run("opt", source, "-p", "fold-batchnorm", "-o", out)
    assert (done.exit_code, done.output) == (0, "")
    graph = load(out)
    assert "batch_norm" not in [n.op.name for n in graph.nodes]
    assert (tmp_path / "net.safetensors").is_file()
    assert run("opt", out).stdout == out.read_text()


# Mistakes --------------------------------------------------------------------------------------

BROKEN = [
    ("%x = input : f32[2\n", "line 2, column 1: expected ',', found the end of the text in {file}",
     "separate dimensions by commas, close the shape with ]"),
    ("%x = input : f32[2]\n%y = rleu %x\nreturn %y",
     "line 2, column 6: there is no op 'rleu' in {file}", "did you mean relu?"),
    ("%x = input : f32[2]\n%y = add %x, %z\nreturn %y",
     "line 2, column 14: there is no value %z here in {file}", "define a value before it is used"),
    ('%w = constant {key="w"} : f32[99]\nreturn %w',
     "line 1, column 6: constant 'w' has no data in {file}; m.safetensors is not beside it",
     "give its array to parse, or write it: value=[..] : type"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN)
def test_text_that_does_not_parse(run: Run, file: Path, text: str, message: str, hint: str) -> None:
    file.write_text(text)
    done = run("opt", file)
    assert done.stderr == f"error: {message.format(file=file)}\nhint: {hint}\n"
    assert (done.exit_code, done.stdout) == (2, "")


MISTAKES = [
    ("relu-fusion", "there is no pass 'relu-fusion'", "`graphopt passes` lists what is installed"),
    ("fues", "there is no pass 'fues'", "did you mean 'fuse' of graphopt?"),
    ("fuse{max-input=8}", "pass fuse of graphopt has no option 'max-input'",
     "did you mean 'max-inputs'?"),
    ("fuse{max-inputs=few}",
     "line 1, column 6: option max-inputs of pass fuse must be a whole number", None),
    ("fuse fuse", "line 1, column 6: expected ',', found 'fuse'", "separate passes by commas"),
]  # fmt: skip


@pytest.mark.parametrize(("passes", "message", "hint"), MISTAKES)
def test_pipelines_that_are_none(
    run: Run, file: Path, passes: str, message: str, hint: str | None
) -> None:
    done = run("opt", file, "-p", passes)
    assert done.stderr == f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    assert (done.exit_code, done.stdout) == (2, "")


def test_files_that_are_not_there(run: Run, file: Path, tmp_path: Path) -> None:
    done = run("opt", tmp_path / "no.go.txt")
    assert done.stderr.startswith(f"error: cannot read {tmp_path}/no.go.txt: ")
    assert done.stderr.endswith("\nhint: check the path\n")
    done = run("opt", file, "-o", tmp_path / "no" / "out.go.txt")
    assert done.stderr == (
        f"error: {tmp_path}/no/out.go.txt cannot be written: No such file or directory\n"
        "hint: choose another file with --out\n"
    )
    assert done.exit_code == 2


# Plugins that misbehave ------------------------------------------------------------------------

PASSES = '''
import time
from dataclasses import dataclass
import numpy as np
from graphopt.ir.graph import Graph, Node
from graphopt.ir.types import DType, TensorType
from graphopt.ops import OPS
from graphopt.ops.base import NoAttrs
from graphopt.passbase import Pass, RewritePass
from graphopt.rewrite import Plan, Reject, Rewriter

class Raises(Pass):
    name = "raises"
    def run(self, graph, ctx):
        raise IndexError("list index out of range")

class Sleeps(Pass):
    name = "sleeps"
    def run(self, graph, ctx):
        while True:
            time.sleep(0.01)

class Breaks(Pass):
    """Gives back a relu of the wrong type."""
    name = "breaks"
    def run(self, graph, ctx):
        (x,) = graph.inputs
        node = Node(OPS["relu"], [x], NoAttrs(), [TensorType(DType.F32, (7,))], names=["y"])
        return Graph(graph.inputs, (node,), node.results)

class Forever(RewritePass):
    """a + b becomes b + a, without end."""
    name = "forever"
    root = "add"
    def plan(self, node):
        return Plan(node)
    def apply(self, plan, rw):
        rw.set_operands(plan.node, plan.node.operands[::-1])

class DropRelu(RewritePass):
    """Says that it is exact, and is not."""
    name = "drop-relu"
    root = "relu"
    def plan(self, node):
        if node.loc.module == "stem":
            return Plan(node)
        return Reject(f"module {node.loc.module} is not the stem")
    def apply(self, plan, rw):
        rw.replace(plan.node.result, plan.node.operands[0])
'''
MANIFEST = """Plugin(api=1, passes={
    "raises": "acme:Raises", "sleeps": "acme:Sleeps", "breaks": "acme:Breaks",
    "forever": "acme:Forever", "drop-relu": "acme:DropRelu", "gone": "acme_gone:Gone"})"""
AUTHOR = "leave the pass out and report this to its author"

MISBEHAVIOUR = [
    ("raises", (), "pass raises of acme 2.5 raised IndexError: list index out of range", AUTHOR),
    ("sleeps", ("--pass-timeout", "0.2"), "pass sleeps of acme 2.5 did not end within 0.2 s",
     "raise --pass-timeout, or leave the pass out"),
    ("breaks", ("--verify-each",),
     "pass breaks of acme 2.5 returned broken IR: "
     "%y = relu: inference gives f32[2,3], the node says f32[7]", AUTHOR),
    ("breaks", (), "the pipeline returned broken IR: "
     "%y = relu: inference gives f32[2,3], the node says f32[7]",
     "run again with --verify-each to learn which pass is to blame"),
    ("forever", (), "pass forever of acme 2.5: still rewrites after 50 rounds",
     "two of its rewrites undo each other, or one applies to its own result"),
    ("gone", (), "plugin 'gone' of acme 2.5 cannot be imported: "
     "ModuleNotFoundError: No module named 'acme_gone'", "mend or uninstall acme"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message", "hint"), MISBEHAVIOUR)
def test_a_plugin_that_misbehaves_is_named(
    run: Run, file: Path, plugin: Plugin, name: str, options: tuple[str, ...], message: str,
    hint: str,
) -> None:  # fmt: skip
    plugin("acme", PASSES, MANIFEST)
    done = run("opt", file, "-p", name, *options)
    assert done.stderr == f"error: {message}\nhint: {hint}\n"
    assert (done.exit_code, done.stdout) == (2, "")


def test_broken_numerics_are_told_with_pass_and_node(run: Run, file: Path, plugin: Plugin) -> None:
    plugin("acme", PASSES, MANIFEST)
    done = run("opt", file, "-p", "drop-relu", "--verify-each")
    message, node, owner, hint = done.stderr.splitlines()
    assert message.startswith("error: pass drop-relu declares exact, but output 0 (%a) is off by ")
    assert node.startswith("first drifting node: ")
    assert owner == "it comes from acme 2.5"
    assert hint == "hint: `graphopt bisect` finds the rewrite"
    assert done.exit_code == 2
    assert run("opt", file, "-p", "drop-relu").exit_code == 0, "without the gate nobody looks"
