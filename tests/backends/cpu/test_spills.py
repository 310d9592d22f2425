"""What the compiler makes of loops that fill the registers: nothing of them lies on the stack."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from graphopt_backends.cpu.build import find_compiler, flags_for
from graphopt_backends.cpu.emit import emit_kernel
from graphopt_backends.cpu.lower import lower_region, winograd
from graphopt_backends.cpu.targets import TARGETS
from graphopt_passes.fuse.fuse import Fuse
from graphopt_passes.layout.assign_layouts import AssignLayouts

from graphopt.check import random_constant
from graphopt.ir.text import parse
from graphopt.kernel.ir import Kernel
from graphopt.passbase import PassContext

V4 = TARGETS["x86-64-v4"]

CONV = """
%x = input : f32[N,128,30,30]
%w = constant {key="w"} : f32[128,128,3,3]
%b = constant {key="b"} : f32[128]
%y = conv %x, %w, %b {stride=[1,1], padding=[[0,0],[0,0]], dilation=[1,1], winograd=4}
%z = gelu %y {approximate="none"}
return %z"""


def assembly(kernel: Kernel, folder: Path) -> str:
    compiler = find_compiler()
    (folder / "kernel.c").write_text(emit_kernel(kernel, V4))
    command = [*compiler.command, *flags_for(V4, compiler), "-S", "kernel.c", "-o", "kernel.s"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "kernel.s").read_text()


def loops(text: str) -> list[list[str]]:
    """The instructions between labels and jumps."""
    out: list[list[str]] = [[]]
    for line in text.splitlines():
        if re.match(r"\S+:|\s+j[a-z]+\s", line):
            out.append([])
        else:
            out[-1].append(line)
    return out


@pytest.mark.compiler
@pytest.mark.parametrize(("images", "tile_rows"), [(1, 2), (2, 14), (8, 14)])
def test_accumulators_stay_in_registers(
    images: int, tile_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14 rows of two vectors leave four registers. What surrounds the products, transforms and an
    epilogue, has more constants than that, which the compiler hoists out of all loops."""
    monkeypatch.setattr(winograd, "choose_tile_rows", lambda *_: tile_rows)
    graph = parse(CONV.replace("N", str(images)), fill=random_constant)
    for pass_ in (AssignLayouts(), Fuse()):
        graph = pass_.run(graph, PassContext(target=V4))
    (node,) = (n for n in graph.nodes if n.body is not None and n.body.outputs[0].type.rank == 4
               and "conv" in [m.op.name for m in n.body.nodes])  # fmt: skip
    text = assembly(lower_region(node, V4).kernel, tmp_path)
    (products,) = (p for p in loops(text) if sum("vfmadd" in i for i in p) == 28)
    assert len(products) < 60
    assert not [i for i in products if "zmm" in i and "rsp" in i]
