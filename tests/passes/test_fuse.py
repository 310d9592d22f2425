"""fuse: every computation in one region, once, in an order that still works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphopt_passes.fuse.regions import kind_of
from graphopt_passes.pipelines import text
from real_graphs import tiny
from soups import SOUPS

from graphopt.artifact.loader import load
from graphopt.check import check_pass as run_check
from graphopt.check import execute, random_constant, random_graph, seeded_inputs
from graphopt.driver import Options, build
from graphopt.ir.graph import Graph, Node
from graphopt.ir.text import parse
from graphopt.ir.views import is_view
from graphopt.passbase import PassContext
from graphopt.pipeline import Pipeline

Check = Callable[..., object]
COPIED = {"full", "iota", "slice", "transpose", "expand"}
"""What regions may hold copies of: splats, and movement that is index arithmetic inside them."""
PARAMETERS = {"constant", "full", "iota"}
HEAVY = {"linear", "matmul", "conv", "attention", "max_pool", "avg_pool"}


def before_fusion(graph: Graph, level: str = "O2") -> Graph:
    pipeline = Pipeline.parse(text(level).split(",fuse")[0])
    return pipeline.run(graph)


def check_regions(before: Graph, after: Graph) -> None:
    """Every computing node lies in exactly one region; nothing is computed twice or left out."""
    bodies = [n.body for n in after.nodes if n.body is not None]
    computed = Counter(n.op.name for b in bodies for n in b.nodes if n.op.name not in COPIED)
    wanted = Counter(
        n.op.name for n in before.nodes
        if n.op.name not in (COPIED | PARAMETERS) and not is_view(n)
    )  # fmt: skip
    assert computed == wanted
    for node in after.nodes:
        outside = node.op.name in PARAMETERS or is_view(node) or node.body is not None
        assert outside, f"{node} is in no region"
        if node.body is not None:
            _check_region(node)


def _check_region(region: Node) -> None:
    assert region.body is not None
    heavy = [n for n in region.body.nodes if n.op.name in HEAVY]
    assert len(heavy) <= 1, f"{region} holds {heavy}"
    kind = region.attrs.kind  # type: ignore[attr-defined]
    assert not heavy or kind == kind_of(heavy[0])
    assert len(region.operands) == len(set(region.operands))
    assert len(region.results) == len(set(region.body.outputs))


@pytest.mark.transformers
@pytest.mark.parametrize(
    "name", ["tiny_resnet", "tiny_gpt2", "tiny_llama", "tiny_swin", "tiny_convnext", "tiny_unet"]
)
@pytest.mark.parametrize("level", ["O0", "O2"])
def test_models(name: str, level: str) -> None:
    graph = before_fusion(tiny(name), level)
    fused = run_check("fuse", graph)
    check_regions(graph, fused)
    regions = sum(1 for n in fused.nodes if n.body is not None)
    wanted = sum(1 for n in graph.nodes if n.op.name not in PARAMETERS and not is_view(n))
    assert regions < wanted


@pytest.mark.parametrize("soup", ["products", "views", "smooth", "attentions", "composites"])
def test_soups(soup: str) -> None:
    for seed in range(20):
        graph = before_fusion(SOUPS[soup](seed), "O0")
        check_regions(graph, Pipeline.parse("fuse").run(graph, verify_each=True))


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs(seed: int) -> None:
    graph = before_fusion(random_graph(seed, size=20), "O0")
    check_regions(graph, run_check("fuse", graph))


CONV = "{stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]}"
IMAGE = '%x = input : f32[1,4,6,6]\n%w = constant {key="w"} : f32[4,4,1,1]\n'
ROWS = '%x = input : f32[5,8]\n%w = constant {key="w"} : f32[8,8]\n'


def test_epilogue(check_pass: Check) -> None:
    before = IMAGE + f"%r = input : f32[1,4,6,6]\n%c = conv %x, %w {CONV}\n%a = add %c, %r\n"
    after = IMAGE + '%r = input : f32[1,4,6,6]\n%y = fused %x, %w, %r {kind="contraction"} '
    after += ": f32[1,4,6,6] {\n%p = input : f32[1,4,6,6]\n%q = input : f32[4,4,1,1]\n"
    after += f"%s = input : f32[1,4,6,6]\n%c = conv %p, %q {CONV}\n%a = add %c, %s\n%y = relu %a\n"
    check_pass("fuse", before + "%y = relu %a\nreturn %y", after + "return %y\n}\nreturn %y")


def test_prologue_of_a_norm(check_pass: Check) -> None:
    """What is summed before the softmax is summed in its kernel."""
    head = "%x = input : f32[5,8]\n%z = input : f32[5,8]\n"
    before = head + "%a = add %x, %z\n%y = softmax %a {axis=1}\nreturn %y"
    after = head + '%y = fused %x, %z {kind="reduction"} : f32[5,8] {\n%p = input : f32[5,8]\n'
    after += "%q = input : f32[5,8]\n%a = add %p, %q\n%y = softmax %a {axis=1}\nreturn %y\n}\n"
    check_pass("fuse", before, after + "return %y")


def _regions(body: str, pass_: str = "fuse") -> list[tuple[str, int]]:
    """(kind, nodes) of every region, in order."""
    graph = parse(body, fill=random_constant)
    fused = run_check(pass_, graph)
    check_regions(graph, fused)
    return [(n.attrs.kind, len(n.body.nodes)) for n in fused.nodes if n.body is not None]  # type: ignore[attr-defined]


def test_a_value_with_two_readers_is_computed_once() -> None:
    body = ROWS + "%a = linear %x, %w\n%b = exp %a\n%c = neg %a\n%d = matmul %b, %c\nreturn %d"
    square = body.replace("[5,8]", "[8,8]")
    kinds = _regions(square)
    assert kinds == [("contraction", 1), ("pointwise", 1), ("pointwise", 1), ("contraction", 1)]


def test_regions_do_not_wait_for_each_other() -> None:
    """exp(x) * softmax(exp(x)): the product cannot join exp while the softmax stands between."""
    body = (
        "%x = input : f32[5,8]\n%e = exp %x\n%s = softmax %e {axis=1}\n%y = sub %e, %s\nreturn %y"
    )
    assert sum(nodes for _, nodes in _regions(body)) == 3


def test_max_inputs_bounds_a_region() -> None:
    lines = [f"%x{i} = input : f32[4]" for i in range(6)]
    lines += ["%s1 = add %x0, %x1", *(f"%s{i} = mul %s{i - 1}, %x{i}" for i in range(2, 6))]
    body = "\n".join([*lines, "return %s5"])
    assert _regions(body) == [("pointwise", 5)]
    small = _regions(body, "fuse{max-inputs=3}")
    assert sum(nodes for _, nodes in small) == 5
    fused = run_check("fuse{max-inputs=3}", parse(body))
    assert max(len(n.operands) for n in fused.nodes) == 3


def test_reads_through_slices() -> None:
    """Heads cut from one product are read where they lie."""
    body = '%x = input : f32[1,6,24]\n%w = constant {key="w"} : f32[24,24]\n%m = linear %x, %w\n'
    body += "%r = reshape %m {shape=[1,6,6,4]}\n"
    for i, n in enumerate("qkv"):
        at = f"starts=[0,0,{2 * i},0], stops=[1,6,{2 * i + 2},4], steps=[1,1,1,1]"
        body += f"%s{n} = slice %r {{{at}}}\n%{n} = transpose %s{n} {{perm=[0,2,1,3]}}\n"
    body += "%y = attention %q, %k, %v {scale=0.5, causal=false}\nreturn %y"
    assert _regions(body) == [("contraction", 1), ("attention", 7)]


SLICED = (
    ROWS
    + """
%t = exp %x
%a = add %t, %t
%s = slice %a {starts=[0,0], stops=[4,8], steps=[1,1]}
%p = linear %s, %w
%q = linear %s, %w
%y = matmul %p, %w
return %y, %q"""
)


def test_a_slice_inside_a_region_is_not_read_around() -> None:
    """The slice that two products read shares a region with the sum before it: they read the slice,
    not the sum, which no region returns."""
    assert ("movement", 3) in _regions(SLICED)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (IMAGE + f"%c = conv %x, %w {CONV}\n%t = reshape %c {{shape=[4,36]}}\n%y = relu %t\n"
         "return %y", "its input is read by several nodes"),
        (ROWS + "%a = linear %x, %w\n%y = flip %a {axes=[1]}\nreturn %y", "flip moves elements"),
        (ROWS + '%b = constant {key="b"} : f32[3,5,8]\n%a = linear %x, %w\n'
         "%y = add %a, %b\nreturn %y",
         "changes the shape or the layout"),
        (ROWS + "%s = softmax %x {axis=1}\n"
         '%y = pad %s {before=[0,0], after=[1,0], value=0.0, mode="constant"}\nreturn %y',
         "only a contraction writes a padded result"),
    ],
)  # fmt: skip
def test_says_why_not(body: str, reason: str) -> None:
    ctx = PassContext(record=True)
    Pipeline.parse("fuse").run(parse(body, fill=random_constant), ctx)
    assert any(reason in e.reason for e in ctx.events), [e.reason for e in ctx.events]


@pytest.mark.compiler
def test_fused_code_computes_the_same(tmp_path: Path) -> None:
    """The same graph on the machine: its products also read one matrix in two ways."""
    graph = parse(SLICED, fill=random_constant)
    options = Options(passes="assign-layouts,fuse,plan-memory")
    artifact = build(graph, out=tmp_path / "artifact", options=options).artifact
    assert artifact is not None
    inputs = seeded_inputs(graph)
    exact = execute(graph, inputs, precision=np.float64)
    for x, y in zip(load(artifact)(*inputs), exact, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * np.abs(y).max())
