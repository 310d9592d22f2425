"""compute-sanitizer finds nothing in generated kernels: no access out of bounds, no race."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("compute-sanitizer") is None, reason="there is no compute-sanitizer"
    ),
]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck", "initcheck"])
@pytest.mark.parametrize("name", ["tiny_resnet-no-vendor", "tiny_bert-no-vendor"])
def test_sanitizer_on_gpu(name: str, tool: str, made: Callable[[str], Path]):
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m",
               "graphopt", "verify", str(made(name))]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
