"""Two models of one C program, linked as static libraries."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import graphopt
from graphopt.artifact.golden import sample_inputs

pytestmark = [
    pytest.mark.torch,
    pytest.mark.compiler,
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc"),
]

MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "small/model.h"
#include "WIDE/model.h"

static float *read_floats(const char *path, size_t bytes) {
    float *const data = malloc(bytes);
    FILE *const file = fopen(path, "rb");
    if (data == NULL || file == NULL || fread(data, 1, bytes, file) != bytes) exit(3);
    fclose(file);
    return data;
}

#define RUN(MODEL, NAMES)                                                                    \
    do {                                                                                     \
        MODEL *model;                                                                        \
        if (MODEL##_open(#MODEL "/weights.bin", 2, &model) != NAMES##_OK) return 1;          \
        const void *in[] = {read_floats(#MODEL ".in", NAMES##_INPUT_0_BYTES)};               \
        void *out[] = {malloc(NAMES##_OUTPUT_0_BYTES)};                                      \
        if (MODEL##_run(model, in, out) != NAMES##_OK) return 2;                             \
        FILE *const file = fopen(#MODEL ".out", "wb");                                       \
        fwrite(out[0], 1, NAMES##_OUTPUT_0_BYTES, file);                                     \
        fclose(file);                                                                        \
        MODEL##_close(model);                                                                \
    } while (0)

int main(void) {
    RUN(small, SMALL);
    RUN(WIDE, WIDE);
    return 0;
}
"""


def test_two_models_in_one_program(
    run: Callable[..., Result], source: Callable[[str], str], tmp_path: Path
) -> None:
    expected = {}
    for prefix, name in (("small", "net"), ("WIDE", "wider")):
        folder = tmp_path / prefix
        done = run("compile", source(name), "-o", folder, "--prefix", prefix, "--static", "-q")
        assert done.exit_code == 0, done.output
        with graphopt.load(folder, threads=2) as model:
            (x,) = sample_inputs(folder, model.manifest).values()
            expected[prefix] = model(x)
        x.tofile(tmp_path / f"{prefix}.in")
    (tmp_path / "main.c").write_text(MAIN)
    libraries = ["small/model.a", "WIDE/model.a", "-lm", "-lpthread"]
    for command in (["cc", "-Wall", "-Werror", "main.c", "-o", "main", *libraries], ["./main"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for prefix, result in expected.items():
        np.testing.assert_array_equal(
            np.fromfile(tmp_path / f"{prefix}.out", np.float32).reshape(result.shape), result
        )


def test_a_prefix_that_is_no_name(
    run: Callable[..., Result], source: Callable[[str], str], tmp_path: Path
) -> None:
    done = run("compile", source("net"), "-o", tmp_path / "m", "--prefix", "my-model")
    assert done.stderr == (
        "error: prefix 'my-model' cannot begin a C name\n"
        "hint: use letters, digits and _, a letter first: --prefix detector\n"
    )
    assert not (tmp_path / "m").exists()


def test_static_libraries_are_a_cpus(
    run: Callable[..., Result], source: Callable[[str], str], tmp_path: Path
) -> None:
    given = source("net")
    result = run("compile", given, "-o", tmp_path / "m", "--static", "--target", "cuda:emulated")
    assert result.exit_code != 0
    assert "the cuda backend makes shared libraries alone" in result.output
    assert not (tmp_path / "m").exists()
