"""examples/embed_in_c: built by its Makefile, run without Python, compared with Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import graphopt

pytestmark = [pytest.mark.torch, pytest.mark.compiler]

if shutil.which("make") is None:
    pytest.skip("make is not installed", allow_module_level=True)

CC = shutil.which("cc") or f"{sys.executable} -m ziglang cc"
SANITIZERS = "-std=gnu11 -g -march=native -fwrapv -fno-strict-aliasing -fsanitize=address,undefined"


@pytest.fixture(scope="module")
def folder(examples: Path) -> Path:
    return examples / "embed_in_c"


@pytest.fixture(scope="module")
def make(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a program and returns where everything is built."""
    out = tmp_path_factory.mktemp("embed")

    def make(program: str, **variables: str) -> Path:
        settings = {"OUT": out, "GRAPHOPT": f"{sys.executable} -m graphopt", "CC": CC, **variables}
        command = ["make", "-C", folder, f"{out}/{program}"]
        command += [f"{name}={value}" for name, value in settings.items()]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
        return out

    return make


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def _best(shown: str) -> list[tuple[int, float]]:
    return [(int(d), float(p)) for d, p in re.findall(r"^(\d) +([\d.]+) %$", shown, re.MULTILINE)]


def _in_python(out: Path, picture: Path) -> list[tuple[int, float]]:
    words = picture.read_text().split()
    pixels = np.array(words[4:], np.float32).reshape(1, 1, 16, 16) / float(words[3])
    scores = graphopt.load(out / "digits")(pixels)[0].astype(np.float64)
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    order: Sequence[int] = np.argsort(-probabilities)[:3]
    return [(int(i), 100 * float(probabilities[i])) for i in order]


@pytest.mark.parametrize("program", ["classify", "classify-whole"])
def test_says_what_python_says(program: str, make: Callable[..., Path], folder: Path) -> None:
    out = make(program)
    picture = folder / "seven.pgm"
    done = _run(out / program, out / "digits" / "weights.bin", picture)
    assert (done.returncode, done.stderr) == (0, "")
    shown, expected = _best(done.stdout), _in_python(out, picture)
    assert shown[0][0] == 7
    assert [d for d, _ in shown] == [d for d, _ in expected]
    for (_, a), (_, b) in zip(shown, expected, strict=True):
        assert abs(a - b) <= 0.051  # printed to a tenth of a percent


def test_needs_libc_alone(make: Callable[..., Path]) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    done = _run(shutil.which("readelf") or "", "-d", make("classify") / "digits" / "model.so")
    needed = set(re.findall(r"NEEDED.*\[(.+?)\]", done.stdout))
    assert needed <= {"libc.so.6", "libm.so.6"}
    assert "libc.so.6" in needed


def test_mistakes_are_told_in_words(make: Callable[..., Path], folder: Path) -> None:
    out = make("classify")
    program, picture = out / "classify", folder / "seven.pgm"
    weights = out / "digits" / "weights.bin"
    cases = {
        (weights,): f"usage: {program} WEIGHTS PICTURE\n",
        (out / "none", picture): f"{out / 'none'}: the weights file cannot be opened\n",
        (picture, picture): f"{picture}: the weights are not this model's, or cut short\n",
        (weights, out / "none"): f"{out / 'none'}: No such file or directory\n",
        (weights, weights): f"{weights} is not a plain PGM of 16x16 pixels\n",
    }
    for arguments, message in cases.items():
        done = _run(program, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_frees_everything_it_allocates(make: Callable[..., Path], folder: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("AddressSanitizer needs gcc or clang")
    out = make("classify-whole")
    done = _run("/bin/sh", "-c", " ".join([
        gcc, SANITIZERS, f"-I{out}/digits/src", str(folder / "main.c"), f"{out}/digits/src/*.c",
        "-lm -lpthread -o", f"{out}/checked", "2>&1",
    ]))  # fmt: skip
    if done.returncode != 0 and "asan" in done.stdout:
        pytest.skip("AddressSanitizer is not installed")
    assert done.returncode == 0, done.stdout
    result = _run(out / "checked", out / "digits" / "weights.bin", folder / "seven.pgm")
    assert (result.returncode, result.stderr) == (0, "")
