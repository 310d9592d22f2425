"""Every kind of kernel through nvcc, for the oldest and the usual target: it compiles, nothing is
spilled to local memory, hot loops read 16 bytes at a time, and halves go to tensor cores."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from graphopt_backends.cuda.emit.device import device_sources
from graphopt_backends.cuda.targets import TARGETS
from kinds import texts

pytestmark = pytest.mark.nvcc


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What ptxas says of all kernels, and their PTX: one run of nvcc, for it starts slowly."""
    folder = tmp_path_factory.mktemp("nvcc")
    emitted = texts(TARGETS["sm_90a"])
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


def test_nothing_is_spilled(report: tuple[str, str]) -> None:
    said, _ = report
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes", said)
    assert len(found) >= 2 * 15
    assert set(found) == {("0", "0", "0")}


INSTRUCTIONS = [
    ("pointwise", "ld.global.nc.v4"),
    ("layer_norm", "ld.global.nc.v4"),
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
