"""Every kind of kernel through nvcc, for the oldest and the usual target: it compiles, nothing is
spilled to local memory, hot loops read 16 bytes at a time, and halves go to tensor cores. So do
kernels of models, of which a few spill a register or two on their way in or out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from graphopt_backends.cuda.emit.device import device_sources
from graphopt_backends.cuda.targets import TARGETS
from kinds import texts
from traced_models import tiny

from graphopt.driver import Options, lower
from graphopt.target import resolve

pytestmark = pytest.mark.nvcc


def compiled(folder: Path, emitted: Mapping[str, str]) -> tuple[str, str]:
    """What ptxas says of kernels, and their PTX: one run of nvcc, for it starts slowly."""
    for name, text in {**device_sources(), **{f"{n}.cu": t for n, t in emitted.items()}}.items():
        (folder / name).write_text(text)
    (folder / "all.cu").write_text("".join(f'#include "{n}.cu"\n' for n in emitted))
    command = [
        "nvcc", "-std=c++17", "-O3", "-Werror", "all-warnings", "-Xptxas", "-v", "--keep",
        "-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90a,code=sm_90a",
        "--threads=2", "-c", "all.cu", "-o", "all.o",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    (ptx,) = Path(folder).glob("*90a*.ptx")
    return done.stderr, ptx.read_text()


def local_bytes(said: str) -> list[tuple[int, ...]]:
    """Of each kernel: its stack frame, stores of spilled registers, loads of them."""
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes", said)
    return [tuple(map(int, numbers)) for numbers in found]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return compiled(tmp_path_factory.mktemp("nvcc"), texts(TARGETS["sm_90a"]))


def test_nothing_is_spilled(report: tuple[str, str]) -> None:
    found = local_bytes(report[0])
    assert len(found) >= 2 * 15
    assert set(found) == {(0, 0, 0)}


INSTRUCTIONS = [
    ("pointwise", "ld.global.nc.v4"),
    ("pointwise", "st.global.v4"),
    ("layer_norm", "ld.global.nc.v4"),
    ("layer_norm", "st.global.v4"),
    ("softmax", "ld.global.nc.v4"),
    ("softmax", "st.global.v4"),
    ("gather", "st.global.v4"),
    ("max_pool", "ld.global.nc.v4"),
    ("max_pool", "st.global.v4"),
    ("depthwise", "st.global.v4"),
    ("linear", "ld.global.nc.v4"),
    ("linear", "ld.shared.v4"),
    ("linear_f16", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"),
    ("linear_f16", "ldmatrix.sync.aligned.m8n8.x4"),
    ("linear_f16", "cp.async.cg.shared.global"),
    ("linear_of_a_row", "ld.global.nc.v4"),
    ("conv", "ld.global.nc.v4"),
    ("depthwise", "ld.global.nc.v4"),
    ("attention", "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"),
    ("attention", "ldmatrix.sync.aligned.m8n8.x4.trans"),
    ("attention_of_256", "ld.shared.v4"),
    ("attention_of_a_query", "ld.global.nc.v4"),
    ("attention_in_parts_0", "ld.global.nc.v4"),
    ("attention_of_eight_heads_0", "ld.global.nc.v4"),
]


@pytest.mark.parametrize(("name", "instruction"), INSTRUCTIONS)
def test_instructions(name: str, instruction: str, report: tuple[str, str]) -> None:
    _, ptx = report
    (body,) = re.findall(rf"\.entry _Z\d*\w*?{len(name)}{name}P.*?\n}}", ptx, re.DOTALL)
    assert instruction in body


MODELS = ("tiny_convnext", "tiny_llama", "tiny_resnet")
_SPILLED = 32
"""Bytes that ptxas may spill once in a thread, to let another block in; a loop that spills has
hundreds."""


@pytest.mark.transformers
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_kernels_of_models(precision: str, tmp_path: Path) -> None:
    backend, target = resolve("cuda:sm_90a")
    options = Options(precision=precision, vendor="none")
    emitted: dict[str, str] = {}
    for name in MODELS:
        made = lower(tiny(name).graph, backend, target, options)
        emitted.update((k.name, made.sources[f"{k.name}.cu"]) for k in made.program.kernels)
    said, ptx = compiled(tmp_path, emitted)
    found = local_bytes(said)
    assert len(found) >= 2 * len(emitted) > 80
    assert max(map(max, found)) <= _SPILLED
    assert "ld.local" not in ptx
