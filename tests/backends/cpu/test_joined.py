"""Kernels that write a part of a concatenation, and kernels that read one: every kind of region,
the other parts left as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.targets import TARGETS, host
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.fuse.fuse_strips import FuseStrips
from graphopt_passes.layout.assign_layouts import AssignLayouts
from graphopt_passes.legalize.explicit_padding import ExplicitPadding
from graphopt_passes.memory.join_concats import JoinConcats
from regions import check_regions

from graphopt.artifact.loader import load
from graphopt.check import execute, random_constant
from graphopt.driver import build
from graphopt.ir.graph import Graph
from graphopt.ir.text import parse
from graphopt.ir.views import is_view
from graphopt.target import Target

pytestmark = pytest.mark.compiler

PASSES = (
    ExplicitPadding(),
    AssignLayouts(),
    Fuse(),
    FuseStrips(cache_bytes=1 << 12, least=-9.0),
    JoinConcats(),
)

CONV = "stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1]"
POOL = "kernel=[3,3], stride=[1,1], padding=[[1,1],[1,1]], dilation=[1,1]"
PAD = 'before=[0,0,1,1], after=[0,0,1,1], value=0.0, mode="constant"'
WEIGHTS = """%w1 = constant {key="w1"} : f32[20,20,1,1]
%w3 = constant {key="w3"} : f32[20,20,3,3]
%wd = constant {key="wd"} : f32[20,1,3,3]
%wj = constant {key="wj"} : f32[12,N,1,1]
%g = constant {key="g"} : f32[9]
"""

PRODUCERS = {
    "contraction": f"%a0 = conv %x, %w1 {{{CONV}}}\n%a = relu %a0\n",
    "winograd": f"%a0 = pad %x {{{PAD}}}\n%a = conv %a0, %w3 {{{CONV}, winograd=2}}\n",
    "depthwise": f"%a0 = pad %x {{{PAD}}}\n%a = conv %a0, %wd {{{CONV}, groups=20}}\n",
    "strips": f"%a0 = conv %x, %w1 {{{CONV}}}\n%a1 = relu %a0\n%a2 = pad %a1 {{{PAD}}}\n"
    f"%a3 = conv %a2, %wd {{{CONV}, groups=20}}\n%a4 = relu %a3\n%a = conv %a4, %w1 {{{CONV}}}\n",
    "window": f"%a = max_pool %x {{{POOL}}}\n",
    "rows": "%a = softmax %x {axis=1}\n",
    "norm": "%a = layer_norm %x, %g, %g {axes=1, eps=1e-05}\n",
    "scan": "%a = cumsum %x {axis=3}\n",
    "attention": "%a = attention %x, %x, %x {scale=0.5, causal=false}\n",
}

READERS = {
    "pointwise": "%r = sigmoid %A\n",
    "movement": f"%r = pad %A {{{PAD}}}\n",
    "contraction": f"%r = conv %A, %wj {{{CONV}}}\n",
    "window": f"%r = max_pool %A {{{POOL}}}\n",
    "rows": "%r = softmax %A {axis=1}\n",
    "reduction": "%r = mean %A {axes=[2,3], keepdims=true}\n",
    "scan": "%r = cumsum %A {axis=2}\n",
}


def joined(producer: str, reader: str, whole: bool) -> str:
    """What `producer` makes of %x lies in a concatenation, between two pools of it; `reader` reads
    the whole, or that part alone."""
    read = reader.replace("%A", "%c" if whole else "%a")
    return (
        "%x = input : f32[2,20,6,9]\n"
        + WEIGHTS.replace("N", "60" if whole else "20")
        + f"%p = max_pool %x {{{POOL}}}\n{producer}%n = neg %x\n%q = max_pool %n {{{POOL}}}\n"
        + f"%c = concat %p, %a, %q {{axis=1}}\n{read}return %r, %c"
    )


def check(text: str, target: Target, folder: Path) -> Graph:
    graph = parse(text, fill=random_constant)
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].type.dims, dtype=np.float32)
    # What the algorithms approximate, winograd's F(2, 3), stays within ten times rounding.
    fused = check_regions(graph, [x], target, folder, passes=PASSES, tolerance=1e-5)
    (concat,) = (n for n in fused.nodes if n.op.name == "concat")
    assert is_view(concat)
    assert all(o.type.layout is not None and o.type.layout.has_halo for o in concat.operands)
    return fused


@pytest.mark.parametrize("kind", PRODUCERS)
@pytest.mark.parametrize("target", ["host", "scalar"])
def test_a_region_writes_its_part(kind: str, target: str, tmp_path: Path) -> None:
    row = host() if target == "host" else TARGETS[target]
    check(joined(PRODUCERS[kind], READERS["contraction"], whole=True), row, tmp_path)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_region_reads_a_part_or_the_whole(kind: str, whole: bool, tmp_path: Path) -> None:
    check(joined(PRODUCERS["contraction"], READERS[kind], whole), host(), tmp_path)


@pytest.mark.parametrize(("width", "kernels"), [(16, 1), (7, 6)])
def test_steps_that_write_rows_of_one_buffer_share_a_kernel(
    width: int, kernels: int, tmp_path: Path
) -> None:
    """Where every row begins with a cache line."""
    text = f'%h0 = input : f32[1,{width}]\n%w = constant {{key="w"}} : f32[{width},{width}]\n'
    for t in range(6):
        text += f"%l{t} = linear %h{t}, %w\n%h{t + 1} = tanh %l{t}\n"
    rows = ", ".join(f"%h{t + 1}" for t in range(6))
    graph = parse(text + f"%y = concat {rows} {{axis=0}}\nreturn %y", fill=random_constant)
    made = build(graph, out=tmp_path / "artifact")
    assert made.artifact is not None
    x = np.random.default_rng(0).standard_normal((1, width), dtype=np.float32)

    result = load(made.artifact)(x)

    (wanted,) = execute(graph, [x], precision=np.float64)
    np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5)
    assert made.report.calls == 6
    assert made.report.kernels == kernels
