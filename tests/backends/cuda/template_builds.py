"""What nvcc makes of kernels by CUTLASS, and what they say of themselves on a pretended device."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from graphopt_backends.cuda import build as cuda_build
from graphopt_backends.cuda.cutlass_headers import include_flags, template_headers
from graphopt_backends.cuda.emit.device import template_sources

from graphopt.errors import BuildError
from graphopt.target import resolve


@dataclass(frozen=True)
class Compiled:
    """p.o, its PTX, and what ptxas said."""

    folder: Path
    said: str

    @property
    def ptx(self) -> str:
        (path,) = self.folder.glob("*.ptx")
        return path.read_text()

    def check_registers(self) -> None:
        """None is spilled, and ptxas does not make wgmma instructions wait for each other."""
        assert re.findall(r"(\d+) bytes spill stores", self.said) == ["0"]
        assert "serialized" not in self.said

    def printed(self, program: str) -> list[int]:
        """The numbers that a program prints which is linked with it."""
        (self.folder / "plan.cpp").write_text(program)
        link = ["nvcc", "-o", "plan", "plan.cpp", "p.o", "-cudart", "static", "-Xlinker"]
        subprocess.run([*link, "-zmuldefs"], cwd=self.folder, capture_output=True, check=True)
        plan = [str(self.folder / "plan")]
        said = subprocess.run(plan, capture_output=True, text=True, check=True)
        return list(map(int, said.stdout.split()))


def compiled(text: str, folder: Path) -> Compiled:
    """`text` as p.cu for sm_90a: a minute. Skips where the headers are missing."""
    try:
        headers = template_headers()
    except BuildError as error:
        pytest.skip(error.message)
    for name, content in {**template_sources(), "p.cu": text}.items():
        (folder / name).write_text(content)
    _, target = resolve("cuda:sm_90a")
    compiler = cuda_build.find_compiler(target)
    command = [
        *compiler.templates, *include_flags(headers), "-Xptxas", "-v", "--keep", "-c", "p.cu",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return Compiled(folder, done.stderr)
